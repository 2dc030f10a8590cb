package chattemplate

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Template is a parsed chat template. It is immutable and safe for concurrent use.
type Template struct {
	body      []stmt
	fn        *funcScope
	enter     []loadOp
	hasBlocks bool
	partsForm bool // content is given as a list of parts, see wantsParts

	namesContent bool // the source has the word "content", which continuing a message takes
}

// Parse compiles the Jinja source of a chat template.
// A syntax error is an *Error that names the line.
func Parse(src string) (t *Template, err error) {
	defer catch(&err)
	if len(src) > maxSource {
		raise(kindLimit, "the template is larger than %d bytes", maxSource)
	}
	if !utf8.ValidString(src) {
		raise(kindSyntax, "the template is not valid UTF-8")
	}
	p := &parser{toks: lex(src)}
	t = &Template{body: p.parse()}
	c := &resolver{blocks: make(map[string]*blockStmt)}
	t.fn, t.enter = c.resolveRoot(t.body)
	t.hasBlocks = len(c.blocks) > 0
	t.partsForm = wantsParts(t.body)
	t.namesContent = strings.Contains(src, "content")
	return t, nil
}

// Render evaluates the template with the variables of ctx, which must be a map,
// reading now wherever the template asks for the current time.
func (t *Template) Render(ctx Value, now time.Time) (string, error) {
	vars, ok := ctx.(*dict)
	if !ok {
		return "", &Error{Kind: kindType, Message: "the context must be a map"}
	}
	return t.render(vars, now, 0, fullBudget)
}

// render is Render for an output of about size bytes, within a budget.
func (t *Template) render(vars *dict, now time.Time, size int, b budget) (out string, err error) {
	r := &renderer{ctx: vars, now: now, budget: b, out: new(strings.Builder)}
	defer func() {
		if e, ok := err.(*Error); ok && e.Line == 0 {
			e.Line = r.line
		}
	}()
	defer catch(&err)
	r.out.Grow(size)
	if t.hasBlocks {
		r.vars = make(map[string]Value)
	}
	f := t.fn.frame(nil)
	f.enter(r, t.enter)
	r.execAll(t.body, f)
	return r.out.String(), nil
}
