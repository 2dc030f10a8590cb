package chattemplate

// resolver fills in, scope by scope, where each name of the tree lives, and checks
// what Jinja checks when it compiles.
type resolver struct {
	blocks map[string]*blockStmt
	loops  int // enclosing for statements, whatever is between
}

// region is the scope that a statement stands in.
type region struct {
	sym      *symbols
	toplevel bool // in the root, where assignments also change the context
	soft     bool // in an if: unknown filters and tests fail only when reached
	inLoop   bool // break and continue have a loop to act on
}

func (g region) inner() region {
	return region{sym: newSymbols(g.sym, g.sym.fn, g.sym.work), inLoop: g.inLoop}
}

// function is inner in a function of its own.
func (g region) function() region {
	fn := &funcScope{depth: g.sym.fn.depth + 1}
	return region{sym: newSymbols(g.sym, fn, g.sym.work)}
}

func (g region) ref(name string) varRef {
	v := g.sym.find(name)
	if v == nil { // in the arguments of a set block's filter, which Jinja overlooks
		raise(kindAssert, "Tried to resolve a name to a reference that was unknown to the frame (%s)", repr(str(name)))
	}
	return v.from(g.sym.fn)
}

// resolveRoot resolves a template's body.
func (c *resolver) resolveRoot(body []stmt) (*funcScope, []loadOp) {
	walk(body, func(n any) {
		if b, ok := n.(*blockStmt); ok {
			if c.blocks[b.name] != nil {
				raiseAt(b.line, kindAssertion, "block '%s' defined twice", b.name)
			}
			c.blocks[b.name] = b
		}
	})
	fn := &funcScope{}
	g := region{sym: newSymbols(nil, fn, &analysis{}), toplevel: true}
	g.sym.noteAll(body)
	c.stmts(body, g)
	return fn, g.sym.entry()
}

func (c *resolver) stmts(body []stmt, g region) {
	for _, s := range body {
		c.stmt(s, g)
	}
}

func (c *resolver) exprs(xs []expr, g region) {
	for _, x := range xs {
		c.expr(x, g)
	}
}

func (c *resolver) stmt(s stmt, g region) {
	soft := g
	soft.soft = true
	switch s := s.(type) {
	case *outputStmt:
		c.expr(s.x, g)
	case *setStmt:
		c.expr(s.x, g)
		c.target(s.target, g)
		s.export = c.exports(s.target, g)
	case *setBlockStmt:
		in := g.inner()
		in.sym.noteAll(s.body)
		c.stmts(s.body, in)
		if s.filter != nil {
			c.expr(s.filter, in)
		}
		c.target(s.target, g)
		s.enter = in.sym.entry()
		s.export = c.exports(s.target, g)
	case *ifStmt:
		c.exprs(s.tests, soft)
		for _, b := range s.bodies {
			c.stmts(b, soft)
		}
		c.stmts(s.other, soft)
	case *forStmt:
		c.forStmt(s, g)
	case *breakStmt:
		if !g.inLoop {
			raiseAt(s.line, kindPython, "break or continue outside of a loop")
		}
	case *macroStmt:
		c.macro(&s.macroDef, g)
		s.target = g.ref(s.name)
		if g.toplevel {
			s.export = []exportRef{{s.name, s.target}}
		}
	case *callStmt:
		c.macro(&s.macroDef, g)
		if s.call != nil {
			c.expr(s.call, g)
		}
	case *filterStmt:
		in := g.inner()
		in.sym.noteAll(s.body)
		in.sym.note(s.filter)
		c.stmts(s.body, in)
		c.expr(s.filter, in)
		s.enter = in.sym.entry()
	case *withStmt:
		in := g.inner()
		for _, t := range s.targets {
			in.sym.noteParams(t)
		}
		in.sym.noteAll(s.body)
		for i := range s.targets {
			c.expr(s.values[i], g)
			c.target(s.targets[i], in)
		}
		c.stmts(s.body, in)
		s.enter = in.sym.entry()
	case *blockStmt:
		c.block(s, g)
	case *loaderStmt:
		c.expr(s.x, g)
	}
}

func (c *resolver) forStmt(s *forStmt, g region) {
	c.loops++
	defer func() { c.loops-- }()
	bodyScope := g.inner()
	if s.recursive {
		bodyScope = g.function()
		s.fn = bodyScope.sym.fn
	}
	otherScope := region{sym: newSymbols(g.sym, bodyScope.sym.fn, g.sym.work), inLoop: g.inLoop && !s.recursive}
	s.usesLoop = s.recursive || readsUnbound(s.body, "loop")["loop"]
	if s.usesLoop {
		s.loopRef = bodyScope.sym.declareParam("loop").from(bodyScope.sym.fn)
	}
	bodyScope.sym.noteParams(s.target)
	bodyScope.sym.noteAll(s.body)
	otherScope.sym.noteAll(s.other)

	c.expr(s.iter, g)
	c.target(s.target, bodyScope)
	if s.test != nil {
		test := bodyScope.function()
		test.sym.parent = g.sym // it sees what is around the loop, not the loop
		test.sym.noteParams(s.testTarget)
		test.sym.note(s.test)
		c.target(s.testTarget, test)
		c.expr(s.test, test)
		s.testFn, s.enterTest = test.sym.fn, test.sym.entry()
	}
	bodyScope.inLoop = true
	c.stmts(s.body, bodyScope)
	c.stmts(s.other, otherScope)
	s.enter, s.enterOther = bodyScope.sym.entry(), otherScope.sym.entry()
}

// macro resolves the body of a macro or call block.
func (c *resolver) macro(d *macroDef, g region) {
	in := g.function()
	d.fn = in.sym.fn
	for _, p := range d.params {
		in.sym.declareParam(p.name)
	}
	for _, x := range d.defaults {
		in.sym.note(x)
	}
	in.sym.noteAll(d.body)
	special := readsUnbound(d.body, "caller", "kwargs", "varargs")
	implicit := func(name string) int {
		for i, p := range d.params {
			if p.name != name {
				continue
			}
			if name == "caller" {
				d.hasCaller = true
				if i < len(d.params)-len(d.defaults) && special[name] {
					raiseAt(d.line, kindAssertion, `When defining macros or call blocks the special `+
						`"caller" argument must be omitted or be given a default.`)
				}
			}
			return -1
		}
		if !special[name] {
			return -1
		}
		return in.sym.declareParam(name).slot
	}
	d.caller, d.kwargs, d.varargs = implicit("caller"), implicit("kwargs"), implicit("varargs")
	for _, p := range d.params {
		p.ref = in.ref(p.name)
	}
	c.exprs(d.defaults, in)
	c.stmts(d.body, in)
	d.enter = in.sym.entry()
}

func (c *resolver) block(s *blockStmt, g region) {
	if s.scoped {
		for scope := g.sym; scope != nil; scope = scope.parent {
			for name := range scope.stores {
				s.locals = append(s.locals, exportRef{name, g.ref(name)})
			}
		}
	}
	s.fn = &funcScope{}
	in := region{sym: newSymbols(nil, s.fn, g.sym.work)}
	in.sym.noteAll(s.body)
	c.stmts(s.body, in)
	s.enter = in.sym.entry()
}

func (c *resolver) exports(target expr, g region) []exportRef {
	if !g.toplevel {
		return nil
	}
	var out []exportRef
	switch t := target.(type) {
	case *nameExpr:
		out = append(out, exportRef{t.name, t.ref})
	case *tupleExpr:
		for _, item := range t.items {
			out = append(out, c.exports(item, g)...)
		}
	}
	return out
}

func (c *resolver) target(x expr, g region) {
	switch x := x.(type) {
	case *nameExpr:
		if x.name == "loop" && c.loops > 0 {
			raiseAt(x.line, kindAssertion, "Can't assign to special loop variable in for-loop target")
		}
		x.ref = g.ref(x.name)
	case *nsRefExpr:
		x.ref = g.ref(x.name)
	case *tupleExpr:
		for _, item := range x.items {
			c.target(item, g)
		}
	}
}

func (c *resolver) expr(x expr, g region) {
	switch x := x.(type) {
	case *nameExpr:
		x.ref = g.ref(x.name)
		return
	case *condExpr:
		g.soft = true
	case *filterExpr:
		x.def = filters[x.name]
		if x.def == nil && !g.soft {
			raiseAt(x.line, kindAssertion, "No filter named '%s'.", x.name)
		}
	case *testExpr:
		x.def = tests[x.name]
		if x.def == nil && !g.soft {
			raiseAt(x.line, kindAssertion, "No test named '%s'.", x.name)
		}
	}
	children(x, func(n any) { c.expr(n.(expr), g) })
}
