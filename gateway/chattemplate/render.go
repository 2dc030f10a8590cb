package chattemplate

import (
	"strings"
	"time"
)

// renderer is one rendering in progress.
type renderer struct {
	ctx    *dict
	vars   map[string]Value // what the root assigned; read by blocks only
	scoped map[string]Value // what a scoped block sees, in front of vars
	now    time.Time

	budget
	out   *strings.Builder
	line  int // of the statement being executed, for errors
	calls int // nested macro calls and recursive loops
}

// frame holds the variables of one call of a function of the template.
// An absent variable is nil.
type frame struct {
	slots []Value
	up    *frame
}

func (fn *funcScope) frame(up *frame) *frame {
	return &frame{slots: make([]Value, fn.slots), up: up}
}

func (f *frame) at(ref varRef) *Value {
	for ; ref.hops > 0; ref.hops-- {
		f = f.up
	}
	return &f.slots[ref.slot]
}

// enter initialises the variables of a scope.
func (f *frame) enter(r *renderer, ops []loadOp) {
	for _, op := range ops {
		switch op.kind {
		case loadResolve:
			f.slots[op.slot] = r.resolve(op.name)
		case loadAlias:
			f.slots[op.slot] = *f.at(op.from)
		default:
			f.slots[op.slot] = nil
		}
	}
}

// resolve looks a name up in the context; nil if it is not there.
func (r *renderer) resolve(name string) Value {
	if v, ok := r.scoped[name]; ok {
		return v
	}
	if v, ok := r.vars[name]; ok {
		return v
	}
	if v := r.ctx.getStr(name); v != nil {
		return v
	}
	if g, ok := globals[name]; ok {
		return g
	}
	return nil
}

// write adds to the output in progress.
func (r *renderer) write(s string) {
	r.spend(len(s))
	if r.out.Len()+len(s) > maxOutput {
		raise(kindLimit, "the rendering is larger than %d bytes", maxOutput)
	}
	r.out.WriteString(s)
}

// capture returns what run writes.
func (r *renderer) capture(run func()) string {
	outer := r.out
	r.out = new(strings.Builder)
	run()
	s := r.out.String()
	r.out = outer
	return s
}

// nested runs f one call deeper.
func (r *renderer) nested(f func() string) str {
	if r.calls++; r.calls > maxCallDepth {
		raise(kindRecursion, "maximum recursion depth exceeded")
	}
	line := r.line
	s := f()
	r.line = line
	r.calls--
	return str(s)
}

func (r *renderer) execAll(body []stmt, f *frame) signal {
	for _, s := range body {
		r.step()
		if sig := s.exec(r, f); sig != goOn {
			return sig
		}
	}
	return goOn
}
