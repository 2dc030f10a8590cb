package chattemplate

// children calls visit for each expression and statement directly under node, in the
// order in which Jinja's own visitors meet them.
func children(node any, visit func(any)) {
	exprs := func(xs ...expr) {
		for _, x := range xs {
			if x != nil {
				visit(x)
			}
		}
	}
	stmts := func(body []stmt) {
		for _, s := range body {
			visit(s)
		}
	}
	args := func(a *callArgs) {
		exprs(a.args...)
		exprs(a.kwArgs...)
		exprs(a.dynArgs, a.dynKw)
	}
	macro := func(d *macroDef) {
		for _, p := range d.params {
			visit(p)
		}
		exprs(d.defaults...)
		stmts(d.body)
	}
	switch n := node.(type) {
	case *tupleExpr:
		exprs(n.items...)
	case *listExpr:
		exprs(n.items...)
	case *dictExpr:
		for i := range n.keys {
			exprs(n.keys[i], n.vals[i])
		}
	case *condExpr:
		exprs(n.test, n.then, n.other)
	case *andExpr:
		exprs(n.l, n.r)
	case *orExpr:
		exprs(n.l, n.r)
	case *notExpr:
		exprs(n.x)
	case *unaryExpr:
		exprs(n.x)
	case *binaryExpr:
		exprs(n.l, n.r)
	case *addExpr:
		exprs(n.parts...)
	case *concatExpr:
		exprs(n.parts...)
	case *compareExpr:
		exprs(n.x)
		exprs(n.args...)
	case *attrExpr:
		exprs(n.x)
	case *itemExpr:
		exprs(n.x, n.arg)
	case *sliceExpr:
		exprs(n.start, n.stop, n.step)
	case *callExpr:
		exprs(n.fn)
		args(&n.callArgs)
	case *filterExpr:
		exprs(n.x)
		args(&n.callArgs)
	case *testExpr:
		exprs(n.x)
		args(&n.callArgs)
	case *outputStmt:
		exprs(n.x)
	case *setStmt:
		exprs(n.target, n.x)
	case *setBlockStmt:
		exprs(n.target, n.filter)
		stmts(n.body)
	case *ifStmt:
		for i := range n.tests {
			exprs(n.tests[i])
			stmts(n.bodies[i])
		}
		stmts(n.other)
	case *forStmt:
		exprs(n.target, n.iter)
		stmts(n.body)
		stmts(n.other)
		exprs(n.test)
	case *macroStmt:
		macro(&n.macroDef)
	case *callStmt:
		if n.call != nil {
			visit(n.call)
		}
		macro(&n.macroDef)
	case *filterStmt:
		stmts(n.body)
		exprs(n.filter)
	case *withStmt:
		exprs(n.targets...)
		exprs(n.values...)
		stmts(n.body)
	case *blockStmt:
		stmts(n.body)
	case *loaderStmt:
		exprs(n.x)
	}
}

// walk visits every node of the bodies, parents first.
func walk(body []stmt, visit func(any)) {
	var down func(any)
	down = func(n any) {
		visit(n)
		children(n, down)
	}
	for _, s := range body {
		down(s)
	}
}

// readsUnbound reports which of names body reads before binding them itself. As in
// Jinja, where the reading and the binding stand does not matter, only their order.
func readsUnbound(body []stmt, names ...string) map[string]bool {
	open := make(map[string]bool)
	for _, n := range names {
		open[n] = true
	}
	found := make(map[string]bool)
	var down func(any)
	down = func(n any) {
		switch n := n.(type) {
		case *blockStmt:
			return
		case *nameExpr:
			if !n.store && open[n.name] {
				found[n.name] = true
			} else {
				delete(open, n.name)
			}
		}
		children(n, down)
	}
	for _, s := range body {
		down(s)
	}
	return found
}
