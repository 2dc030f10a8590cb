package chattemplate

import "strings"

// expression reads an expression; without condExpr an "if" after it is left alone.
func (p *parser) expression(condExpr bool) expr {
	if p.exprDepth++; p.exprDepth > maxExprDepth {
		p.fail(p.cur().line, "expressions nested deeper than %d levels", maxExprDepth)
	}
	defer func() { p.exprDepth-- }()
	if !condExpr {
		return p.or()
	}
	return p.cond()
}

// chain guards the loops that nest what they read: each turn makes the tree deeper.
func (p *parser) chain(n *int) {
	if *n++; *n > maxChain {
		p.fail(p.cur().line, "more than %d operators in a row", maxChain)
	}
}

func (p *parser) cond() expr {
	line := p.cur().line
	x, n := p.or(), 0
	for p.skip(tokName, "if") {
		p.chain(&n)
		c := &condExpr{test: p.or(), then: x, line: line}
		if p.skip(tokName, "else") {
			c.other = p.expression(true)
		}
		x, line = c, p.cur().line
	}
	return x
}

func (p *parser) or() expr {
	x, n := p.and(), 0
	for p.skip(tokName, "or") {
		p.chain(&n)
		x = &orExpr{x, p.and()}
	}
	return x
}

func (p *parser) and() expr {
	x, n := p.not(), 0
	for p.skip(tokName, "and") {
		p.chain(&n)
		x = &andExpr{x, p.not()}
	}
	return x
}

func (p *parser) not() expr {
	n := 0
	for p.skip(tokName, "not") {
		p.chain(&n)
	}
	x := p.compare()
	for ; n > 0; n-- {
		x = &notExpr{x}
	}
	return x
}

func (p *parser) compare() expr {
	c := &compareExpr{line: p.cur().line}
	x := p.sum()
	for {
		t, op := p.cur(), ""
		switch {
		case t.kind == tokOp && strings.Contains(" == != < <= > >= ", " "+t.s+" "):
			op = t.s
			p.next()
		case p.skip(tokName, "in"):
			op = "in"
		case p.isName("not") && p.look().is(tokName, "in"):
			p.next()
			p.next()
			op = "not in"
		}
		if op == "" {
			break
		}
		c.ops = append(c.ops, op)
		c.args = append(c.args, p.sum())
	}
	if c.ops == nil {
		return x
	}
	c.x = x
	return c
}

// binary reads a left-associative run of operators.
func (p *parser) binary(ops string, operand func() expr) expr {
	line := p.cur().line
	x, n := operand(), 0
	for t := p.cur(); t.kind == tokOp && strings.Contains(ops, " "+t.s+" "); t = p.cur() {
		p.chain(&n)
		p.next()
		if t.s != "+" {
			x = &binaryExpr{op: t.s, l: x, r: operand(), line: line}
		} else if sum, ok := x.(*addExpr); ok && n > 1 {
			sum.parts = append(sum.parts, operand())
		} else {
			x = &addExpr{[]expr{x, operand()}}
		}
		line = p.cur().line
	}
	return x
}

func (p *parser) sum() expr { return p.binary(" + - ", p.concat) }

func (p *parser) concat() expr {
	parts := []expr{p.product()}
	for p.skip(tokOp, "~") {
		parts = append(parts, p.product())
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return &concatExpr{parts}
}

func (p *parser) product() expr { return p.binary(" * / // % ", p.pow) }

func (p *parser) pow() expr { return p.binary(" ** ", func() expr { return p.unary(true) }) }

func (p *parser) unary(withFilter bool) expr {
	t := p.cur()
	var x expr
	if t.is(tokOp, "-") || t.is(tokOp, "+") {
		if p.exprDepth++; p.exprDepth > maxExprDepth {
			p.fail(t.line, "expressions nested deeper than %d levels", maxExprDepth)
		}
		p.next()
		x = &unaryExpr{op: t.s[0], x: p.unary(false), line: t.line}
		p.exprDepth--
	} else {
		x = p.primary(false)
	}
	x = p.postfix(x)
	if withFilter {
		x = p.filterExpr(x)
	}
	return x
}

func (p *parser) primary(withNamespace bool) expr {
	t := p.next()
	switch t.kind {
	case tokName:
		switch t.s {
		case "true", "True":
			return &constExpr{boolean(true)}
		case "false", "False":
			return &constExpr{boolean(false)}
		case "none", "None":
			return &constExpr{none}
		}
		if withNamespace && p.skip(tokOp, ".") {
			return &nsRefExpr{name: t.s, attr: p.expect(tokName, "").s, line: t.line}
		}
		return &nameExpr{name: t.s, line: t.line}
	case tokString:
		s := t.s
		for p.cur().kind == tokString {
			s += p.next().s
		}
		return &constExpr{str(s)}
	case tokNumber:
		return &constExpr{t.val}
	case tokOp:
		switch t.s {
		case "(":
			x := p.tuple(tupleRule{condExpr: true, parens: true})
			p.op(")")
			return x
		case "[":
			x := &listExpr{}
			p.list("]", func() { x.items = append(x.items, p.expression(true)) })
			return x
		case "{":
			x := &dictExpr{}
			p.list("}", func() {
				x.keys = append(x.keys, p.expression(true))
				p.op(":")
				x.vals = append(x.vals, p.expression(true))
			})
			return x
		}
	}
	p.fail(t.line, "unexpected '%s'", t)
	return nil
}

// list reads items up to end, separated by commas; one may trail.
func (p *parser) list(end string, item func()) {
	for first := true; !p.isOp(end); first = false {
		if !first {
			p.op(",")
			if p.isOp(end) {
				break
			}
		}
		item()
	}
	p.op(end)
}

// tupleRule says which form of expression list is read.
type tupleRule struct {
	simple    bool // targets: names only
	namespace bool // ns.attr is a target too
	condExpr  bool
	parens    bool   // within parentheses, where () is a tuple
	endName   string // a keyword that ends the list
}

// tuple reads an expression, or several with commas, which make a tuple.
func (p *parser) tuple(rule tupleRule) expr {
	if p.exprDepth++; p.exprDepth > maxExprDepth {
		p.fail(p.cur().line, "expressions nested deeper than %d levels", maxExprDepth)
	}
	defer func() { p.exprDepth-- }()
	var items []expr
	isTuple := false
	for {
		if items != nil {
			p.op(",")
		}
		if t := p.cur(); t.kind == tokVarEnd || t.kind == tokBlockEnd || t.is(tokOp, ")") ||
			rule.endName != "" && t.is(tokName, rule.endName) {
			break
		}
		if rule.simple {
			items = append(items, p.primary(rule.namespace))
		} else {
			items = append(items, p.expression(rule.condExpr))
		}
		if !p.isOp(",") {
			break
		}
		isTuple = true
	}
	if !isTuple {
		if items != nil {
			return items[0]
		}
		if !rule.parens {
			p.fail(p.cur().line, "Expected an expression, got '%s'", p.cur())
		}
	}
	return &tupleExpr{items}
}

func (p *parser) postfix(x expr) expr {
	for n := 0; ; p.chain(&n) {
		switch {
		case p.isOp("."), p.isOp("["):
			x = p.subscript(x)
		case p.isOp("("):
			x = p.call(x)
		default:
			return x
		}
	}
}

func (p *parser) filterExpr(x expr) expr {
	for n := 0; ; p.chain(&n) {
		switch {
		case p.isOp("|"):
			x = p.filters(x, false)
		case p.isName("is"):
			x = p.test(x)
		case p.isOp("("):
			x = p.call(x)
		default:
			return x
		}
	}
}

func (p *parser) subscript(x expr) expr {
	t := p.next()
	if t.s == "." {
		attr := p.next()
		if attr.kind == tokName {
			return &attrExpr{x: x, name: attr.s, line: t.line}
		}
		if attr.kind != tokNumber || attr.val.typeName() != "int" {
			p.fail(attr.line, "expected name or number")
		}
		return &itemExpr{x: x, arg: &constExpr{attr.val}, line: t.line}
	}
	var args []expr
	for !p.isOp("]") {
		if args != nil {
			p.op(",")
		}
		args = append(args, p.subscribed())
	}
	p.op("]")
	if len(args) == 1 {
		return &itemExpr{x: x, arg: args[0], line: t.line}
	}
	return &itemExpr{x: x, arg: &tupleExpr{args}, line: t.line}
}

func (p *parser) subscribed() expr {
	s := &sliceExpr{}
	if !p.isOp(":") {
		s.start = p.expression(true)
		if !p.isOp(":") {
			return s.start
		}
	}
	p.op(":")
	part := func() expr {
		if p.isOp("]") || p.isOp(",") || p.isOp(":") {
			return nil
		}
		return p.expression(true)
	}
	s.stop = part()
	if p.skip(tokOp, ":") {
		s.step = part()
	}
	return s
}

func (p *parser) call(fn expr) expr {
	line := p.cur().line
	return &callExpr{fn: fn, callArgs: p.callArgs(), line: line}
}

func (p *parser) callArgs() callArgs {
	var a callArgs
	line := p.cur().line
	p.op("(")
	ensure := func(ok bool) {
		if !ok {
			p.fail(line, "invalid syntax for function call expression")
		}
	}
	p.list(")", func() {
		switch {
		case p.skip(tokOp, "*"):
			ensure(a.dynArgs == nil && a.dynKw == nil)
			a.dynArgs = p.expression(true)
		case p.skip(tokOp, "**"):
			ensure(a.dynKw == nil)
			a.dynKw = p.expression(true)
		case p.cur().kind == tokName && p.look().is(tokOp, "="):
			ensure(a.dynKw == nil)
			name := p.next().s
			p.next()
			for _, seen := range a.kwNames {
				if seen == name {
					raiseAt(line, kindPython, "keyword argument repeated: %s", name)
				}
			}
			a.kwNames = append(a.kwNames, name)
			a.kwArgs = append(a.kwArgs, p.expression(true))
		default:
			ensure(a.dynArgs == nil && a.dynKw == nil && a.kwArgs == nil)
			a.args = append(a.args, p.expression(true))
		}
	})
	return a
}

// filters reads a run of filters; inline ones start without a pipe.
func (p *parser) filters(x expr, inline bool) expr {
	for n := 0; inline || p.isOp("|"); p.chain(&n) {
		if !inline {
			p.next()
		}
		inline = false
		f := &filterExpr{x: x, line: p.cur().line, name: p.dottedName()}
		if p.isOp("(") {
			f.callArgs = p.callArgs()
		}
		x = f
	}
	return x
}

func (p *parser) dottedName() string {
	name := p.expect(tokName, "").s
	for p.skip(tokOp, ".") {
		name += "." + p.expect(tokName, "").s
	}
	return name
}

func (p *parser) test(x expr) expr {
	line := p.next().line
	negated := p.skip(tokName, "not")
	t := &testExpr{x: x, name: p.dottedName(), line: line}
	switch c := p.cur(); {
	case c.is(tokOp, "("):
		t.callArgs = p.callArgs()
	case c.kind == tokName && c.s != "else" && c.s != "or" && c.s != "and",
		c.kind == tokString, c.kind == tokNumber, c.is(tokOp, "["), c.is(tokOp, "{"):
		if p.isName("is") {
			p.fail(c.line, "You cannot chain multiple tests with is")
		}
		t.args = []expr{p.postfix(p.primary(false))}
	}
	if negated {
		return &notExpr{t}
	}
	return t
}
