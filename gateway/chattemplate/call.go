package chattemplate

import "strings"

// arguments are those of one call.
type arguments struct {
	pos     []Value
	kwNames []string
	kwVals  []Value
}

// kw removes and returns a keyword argument, or nil.
func (a *arguments) kw(name string) Value {
	for i, n := range a.kwNames {
		if n == name {
			v := a.kwVals[i]
			a.kwNames = append(append([]string{}, a.kwNames[:i]...), a.kwNames[i+1:]...)
			a.kwVals = append(append([]Value{}, a.kwVals[:i]...), a.kwVals[i+1:]...)
			return v
		}
	}
	return nil
}

func (a *arguments) kwDict() *dict {
	d := &dict{}
	for i, n := range a.kwNames {
		d.setStr(n, a.kwVals[i])
	}
	return d
}

func (c *callArgs) evalArgs(r *renderer, f *frame) *arguments {
	a := &arguments{}
	if len(c.args) > 0 {
		a.pos = make([]Value, 0, len(c.args))
	}
	for _, x := range c.args {
		a.pos = append(a.pos, x.eval(r, f))
	}
	for i, x := range c.kwArgs {
		a.kwNames = append(a.kwNames, c.kwNames[i])
		a.kwVals = append(a.kwVals, x.eval(r, f))
	}
	if c.dynArgs != nil {
		v := c.dynArgs.eval(r, f)
		if _, ok := r.iterate(v); !ok {
			raise(kindType, "argument after * must be an iterable, not %s", v.typeName())
		}
		a.pos = append(a.pos, r.items(v)...)
	}
	if c.dynKw != nil {
		d, ok := c.dynKw.eval(r, f).(*dict)
		if !ok {
			raise(kindType, "argument after ** must be a mapping")
		}
		for i, k := range d.keys {
			name, ok := text(k)
			if !ok {
				raise(kindType, "keywords must be strings")
			}
			for _, seen := range c.kwNames {
				if seen == name {
					raise(kindType, "got multiple values for keyword argument '%s'", name)
				}
			}
			a.kwNames = append(a.kwNames, name)
			a.kwVals = append(a.kwVals, d.vals[i])
		}
	}
	return a
}

// sig is the signature of a function of ours.
type sig struct {
	name       string
	params     []string
	required   int
	positional bool // no parameter may be given by name
	varargs    bool // the last of the bound values is a tuple of the rest
}

// newSig reads a signature such as "sep? maxsplit?": a name with ? is optional, a
// leading / makes all positional, and * takes the rest.
func newSig(name, spec string) sig {
	s := sig{name: name}
	for _, p := range strings.Fields(spec) {
		switch {
		case p == "/":
			s.positional = true
		case p == "*":
			s.varargs = true
		case strings.HasSuffix(p, "?"):
			s.params = append(s.params, p[:len(p)-1])
		default:
			s.params = append(s.params, p)
			s.required = len(s.params)
		}
	}
	return s
}

// bind assigns arguments to parameters; one not given is nil.
func (s *sig) bind(r *renderer, a *arguments) []Value {
	n := len(s.params)
	out := make([]Value, n, n+1)
	if len(a.pos) > n && !s.varargs {
		raise(kindType, "%s() takes at most %d arguments (%d given)", s.name, n, len(a.pos))
	}
	rest := a.pos[copy(out, a.pos):]
	for i, name := range a.kwNames {
		at := -1
		for j, p := range s.params {
			if p == name && !s.positional {
				at = j
			}
		}
		if at < 0 {
			raise(kindType, "%s() got an unexpected keyword argument '%s'", s.name, name)
		}
		if out[at] != nil {
			raise(kindType, "%s() got multiple values for argument '%s'", s.name, name)
		}
		out[at] = a.kwVals[i]
	}
	for i := 0; i < s.required; i++ {
		if out[i] == nil {
			raise(kindType, "%s() missing required argument: '%s'", s.name, s.params[i])
		}
	}
	if s.varargs {
		r.spendTimes(itemCost, len(rest))
		out = append(out, newTuple(append([]Value{}, rest...)...))
	}
	return out
}

// callable is a value that can be called.
type callable interface {
	call(r *renderer, a *arguments) Value
}

func (r *renderer) call(fn Value, a *arguments) Value {
	switch fn := fn.(type) {
	case callable:
		return fn.call(r, a)
	case *undefined:
		fn.fail()
	}
	raise(kindType, "'%s' object is not callable", fn.typeName())
	return nil
}

// function is a global of the environment, such as range.
type function struct {
	sig sig
	fn  func(r *renderer, a []Value) Value
	raw func(r *renderer, a *arguments) Value // instead of fn, for any arguments
}

func (*function) typeName() string { return "function" }

func (g *function) call(r *renderer, a *arguments) Value {
	if g.raw != nil {
		return g.raw(r, a)
	}
	return g.fn(r, g.sig.bind(r, a))
}

// methodDef is a method of a built-in type.
type methodDef struct {
	sig sig
	fn  func(r *renderer, recv Value, a []Value) Value
	raw func(r *renderer, recv Value, a *arguments) Value // instead of fn, for any arguments
}

// method is a method of a value.
type method struct {
	recv Value
	def  *methodDef
}

func (*method) typeName() string { return "builtin_function_or_method" }

func (m *method) call(r *renderer, a *arguments) Value {
	if m.def.raw != nil {
		return m.def.raw(r, m.recv, a)
	}
	return m.def.fn(r, m.recv, m.def.sig.bind(r, a))
}

// macro is a macro, or the caller() of a call block, with the variables around it.
type macro struct {
	def   *macroDef
	frame *frame
}

func (*macro) typeName() string { return "Macro" }

// attr is the attribute of that name, or nil.
func (m *macro) attr(name string) Value {
	d := m.def
	switch name {
	case "name":
		if d.name == "" {
			return none
		}
		return str(d.name)
	case "arguments":
		t := newTuple()
		for _, p := range d.params {
			t.items = append(t.items, str(p.name))
		}
		return t
	case "catch_kwargs":
		return boolValue(d.kwargs >= 0)
	case "catch_varargs":
		return boolValue(d.varargs >= 0)
	case "caller":
		return boolValue(d.caller >= 0)
	case "explicit_caller":
		return boolValue(d.hasCaller)
	}
	return nil
}

func (m *macro) call(r *renderer, a *arguments) Value {
	d := m.def
	f := d.fn.frame(m.frame)
	given := min(len(a.pos), len(d.params))
	for i, p := range d.params {
		if i < given {
			f.slots[p.ref.slot] = a.pos[i]
		} else {
			f.slots[p.ref.slot] = a.kw(p.name)
		}
	}
	if d.caller >= 0 {
		caller := a.kw("caller")
		if caller == nil {
			caller = &undefined{hint: "No caller defined", name: str("caller"), kind: kindUndefined}
		}
		f.slots[d.caller] = caller
	}
	if d.kwargs >= 0 {
		f.slots[d.kwargs] = a.kwDict()
	} else if len(a.kwNames) > 0 {
		raise(kindType, "macro %s takes no keyword argument %s", repr(m.attr("name")), repr(str(a.kwNames[0])))
	}
	if d.varargs >= 0 {
		f.slots[d.varargs] = newTuple(a.pos[given:]...)
	} else if len(a.pos) > len(d.params) {
		raise(kindType, "macro %s takes not more than %d argument(s)", repr(m.attr("name")), len(d.params))
	}
	return r.nested(func() string {
		r.step()
		f.enter(r, d.enter)
		for i, p := range d.params {
			if slot := &f.slots[p.ref.slot]; *slot == nil {
				*slot = d.defaultOf(r, f, i)
			}
		}
		return r.capture(func() { r.execAll(d.body, f) })
	})
}

func (d *macroDef) defaultOf(r *renderer, f *frame, i int) Value {
	if j := i - (len(d.params) - len(d.defaults)); j >= 0 {
		return d.defaults[j].eval(r, f)
	}
	name := d.params[i].name
	return &undefined{
		hint: "parameter " + repr(str(name)) + " was not provided",
		name: str(name), kind: kindUndefined,
	}
}
