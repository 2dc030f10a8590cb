package chattemplate

import "strings"

// parser turns tokens into statements and expressions, rule by rule as Jinja's
// parser does.
type parser struct {
	toks       []token
	i          int
	exprDepth  int
	blockDepth int
	tags       []string // open statements, for error messages
}

func (p *parser) cur() token { return p.toks[p.i] }

func (p *parser) look() token { return p.toks[min(p.i+1, len(p.toks)-1)] }

func (p *parser) next() token {
	t := p.toks[p.i]
	if p.i < len(p.toks)-1 {
		p.i++
	}
	return t
}

func (p *parser) isName(s string) bool { return p.cur().is(tokName, s) }

func (p *parser) isOp(s string) bool { return p.cur().is(tokOp, s) }

func (p *parser) skip(kind tokenKind, s string) bool {
	if p.cur().is(kind, s) {
		p.next()
		return true
	}
	return false
}

func (p *parser) fail(line int, format string, args ...any) {
	raiseAt(line, kindSyntax, format, args...)
}

func (p *parser) expect(kind tokenKind, s string) token {
	t := p.cur()
	if t.kind != kind || s != "" && t.s != s {
		want := s
		if want == "" {
			want = (token{kind: kind, s: "name"}).String()
		}
		p.fail(t.line, "expected token '%s', got '%s'", want, t)
	}
	return p.next()
}

func (p *parser) op(s string) { p.expect(tokOp, s) }

// parse reads a whole template.
func (p *parser) parse() []stmt {
	return p.body(nil)
}

// body reads statements up to a tag named by one of ends, which stays current.
func (p *parser) body(ends []string) []stmt {
	if p.blockDepth++; p.blockDepth > maxBlockDepth {
		p.fail(p.cur().line, "statements nested deeper than %d levels", maxBlockDepth)
	}
	defer func() { p.blockDepth-- }()
	var out []stmt
	for {
		t := p.cur()
		switch t.kind {
		case tokData:
			p.next()
			out = append(out, &textStmt{t.s})
		case tokVarBegin:
			p.next()
			out = append(out, &outputStmt{x: p.tuple(tupleRule{condExpr: true}), line: t.line})
			p.expect(tokVarEnd, "")
		case tokBlockBegin:
			p.next()
			for _, end := range ends {
				if p.isName(end) {
					return out
				}
			}
			out = append(out, p.statement(ends)...)
			p.expect(tokBlockEnd, "")
		default:
			if ends != nil {
				p.fail(t.line, "Unexpected end of template. Jinja was looking for the following tags: '%s'.%s",
					strings.Join(ends, "' or '"), p.innermost())
			}
			return out
		}
	}
}

func (p *parser) innermost() string {
	if len(p.tags) == 0 {
		return ""
	}
	return " The innermost block that needs to be closed is '" + p.tags[len(p.tags)-1] + "'."
}

// block reads the rest of a tag, the statements of its body and the end tag's name.
func (p *parser) block(ends ...string) []stmt {
	p.skip(tokOp, ":")
	p.expect(tokBlockEnd, "")
	return p.body(ends)
}

// closedBlock is block, consuming the end tag's name too.
func (p *parser) closedBlock(end string) []stmt {
	body := p.block(end)
	p.next()
	return body
}

func (p *parser) statement(ends []string) []stmt {
	t := p.cur()
	if t.kind != tokName {
		p.fail(t.line, "tag name expected")
	}
	p.tags = append(p.tags, t.s)
	defer func() { p.tags = p.tags[:len(p.tags)-1] }()
	p.next()
	switch t.s {
	case "for":
		return []stmt{p.forStmt(t.line)}
	case "if":
		return []stmt{p.ifStmt()}
	case "set":
		return []stmt{p.setStmt(t.line)}
	case "macro":
		return []stmt{p.macroStmt(t.line)}
	case "call":
		return []stmt{p.callStmt(t.line)}
	case "generation":
		return []stmt{&callStmt{macroDef: macroDef{body: p.closedBlock("endgeneration"), line: t.line}}}
	case "filter":
		return []stmt{&filterStmt{filter: p.filters(nil, true), body: p.closedBlock("endfilter")}}
	case "with":
		return []stmt{p.withStmt()}
	case "break":
		return []stmt{&breakStmt{sig: breakLoop, line: t.line}}
	case "continue":
		return []stmt{&breakStmt{sig: continueLoop, line: t.line}}
	case "print":
		return p.printStmt(t.line)
	case "block":
		return []stmt{p.blockStmt()}
	case "extends", "include", "import", "from":
		return []stmt{p.loaderStmt(t)}
	case "autoescape":
		p.fail(t.line, "the autoescape tag is not supported in chat templates")
	}
	looking := ""
	if ends != nil {
		looking = " Jinja was looking for the following tags: '" + strings.Join(ends, "' or '") + "'."
	}
	p.tags[len(p.tags)-1] = t.s
	p.fail(t.line, "Encountered unknown tag '%s'.%s", t.s, looking)
	return nil
}

func (p *parser) printStmt(line int) []stmt {
	var out []stmt
	for p.cur().kind != tokBlockEnd {
		if out != nil {
			p.op(",")
		}
		out = append(out, &outputStmt{x: p.expression(true), line: line})
	}
	return out
}

func (p *parser) forStmt(line int) stmt {
	s := &forStmt{line: line}
	start := p.i
	s.target = p.target(false, "in")
	end := p.i
	p.expect(tokName, "in")
	s.iter = p.tuple(tupleRule{endName: "recursive"})
	if p.skip(tokName, "if") {
		s.test = p.expression(true)
		mark := p.i
		p.i = start // the test is a function of its own, with a target of its own
		s.testTarget = p.target(false, "in")
		if p.i != end {
			panic("chattemplate: reading a loop target twice gave two targets")
		}
		p.i = mark
	}
	s.recursive = p.skip(tokName, "recursive")
	s.body = p.block("endfor", "else")
	if p.next().s == "else" {
		s.other = p.closedBlock("endfor")
	}
	return s
}

func (p *parser) ifStmt() stmt {
	s := &ifStmt{}
	for {
		s.tests = append(s.tests, p.tuple(tupleRule{}))
		s.bodies = append(s.bodies, p.block("elif", "else", "endif"))
		switch p.next().s {
		case "else":
			s.other = p.closedBlock("endif")
			return s
		case "endif":
			return s
		}
	}
}

func (p *parser) setStmt(line int) stmt {
	target := p.target(true, "")
	if p.skip(tokOp, "=") {
		return &setStmt{target: target, x: p.tuple(tupleRule{condExpr: true}), line: line}
	}
	return &setBlockStmt{target: target, filter: p.filters(nil, false), body: p.closedBlock("endset"), line: line}
}

func (p *parser) withStmt() stmt {
	s := &withStmt{}
	for p.cur().kind != tokBlockEnd {
		if s.targets != nil {
			p.op(",")
		}
		s.targets = append(s.targets, p.target(false, ""))
		p.op("=")
		s.values = append(s.values, p.expression(true))
	}
	s.body = p.closedBlock("endwith")
	return s
}

func (p *parser) name() *nameExpr {
	t := p.expect(tokName, "")
	n := &nameExpr{name: t.s, store: true, line: t.line}
	p.assignable(n, t.line)
	return n
}

func (p *parser) signature(d *macroDef) {
	p.op("(")
	for !p.isOp(")") {
		if d.params != nil {
			p.op(",")
		}
		param := p.name()
		if p.skip(tokOp, "=") {
			d.defaults = append(d.defaults, p.expression(true))
		} else if d.defaults != nil {
			p.fail(p.cur().line, "non-default argument follows default argument")
		}
		d.params = append(d.params, param)
	}
	p.op(")")
}

func (p *parser) macroStmt(line int) stmt {
	s := &macroStmt{}
	s.line = line
	s.name = p.name().name
	p.signature(&s.macroDef)
	s.body = p.closedBlock("endmacro")
	return s
}

func (p *parser) callStmt(line int) stmt {
	s := &callStmt{}
	s.line = line
	if p.isOp("(") {
		p.signature(&s.macroDef)
	}
	call, ok := p.expression(true).(*callExpr)
	if !ok {
		p.fail(line, "expected call")
	}
	s.call = call
	s.body = p.closedBlock("endcall")
	return s
}

func (p *parser) blockStmt() stmt {
	t := p.expect(tokName, "")
	s := &blockStmt{name: t.s, line: t.line}
	s.scoped = p.skip(tokName, "scoped")
	if p.skip(tokName, "required") {
		p.fail(t.line, "required blocks are not supported in chat templates")
	}
	s.body = p.closedBlock("endblock")
	p.skip(tokName, t.s)
	return s
}

// loaderStmt reads a tag that names another template. Chat templates have no loader,
// so executing one fails; one that is never reached does no harm.
func (p *parser) loaderStmt(t token) stmt {
	s := &loaderStmt{name: t.s, line: t.line, x: p.expression(true)}
	switch t.s {
	case "include":
		if p.isName("ignore") && p.look().is(tokName, "missing") {
			p.next()
			p.next()
		}
	case "import":
		p.expect(tokName, "as")
		s.binds = append(s.binds, p.name().name)
	case "from":
		p.expect(tokName, "import")
		for first := true; first || p.skip(tokOp, ","); first = false {
			if (p.isName("with") || p.isName("without")) && p.look().is(tokName, "context") {
				break
			}
			bind := p.name()
			if p.skip(tokName, "as") {
				bind = p.name()
			}
			s.binds = append(s.binds, bind.name)
		}
	}
	if (p.isName("with") || p.isName("without")) && p.look().is(tokName, "context") {
		p.next()
		p.next()
	}
	return s
}

// target reads what can be assigned to: a name, ns.attr, or a tuple of those.
func (p *parser) target(withNamespace bool, endName string) expr {
	line := p.cur().line
	x := p.tuple(tupleRule{simple: true, namespace: withNamespace, endName: endName})
	p.assignable(x, line)
	return x
}

// assignable marks x as a target, or fails.
func (p *parser) assignable(x expr, line int) {
	switch x := x.(type) {
	case *nameExpr:
		x.store = true
		switch x.name {
		case "true", "false", "none", "True", "False", "None":
			p.fail(line, "can't assign to 'name'")
		}
	case *nsRefExpr:
	case *tupleExpr:
		for _, item := range x.items {
			p.assignable(item, line)
		}
	default:
		p.fail(line, "can't assign to this expression")
	}
}
