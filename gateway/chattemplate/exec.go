package chattemplate

func (s *textStmt) exec(r *renderer, f *frame) signal {
	r.write(s.s)
	return goOn
}

func (s *outputStmt) exec(r *renderer, f *frame) signal {
	r.line = s.line
	add, ok := s.x.(*addExpr)
	if !ok {
		r.write(r.str(s.x.eval(r, f)))
		return goOn
	}
	texts, sum := add.add(r, f)
	if sum != nil {
		r.write(r.str(sum))
	}
	for _, text := range texts { // not joined first: a message may be long
		r.write(text)
	}
	return goOn
}

func (s *setStmt) exec(r *renderer, f *frame) signal {
	r.line = s.line
	if containsNamespace(s.target) {
		checkNamespaces(s.target, f)
	}
	r.assign(s.target, s.x.eval(r, f), f)
	r.export(s.export, f)
	return goOn
}

func containsNamespace(target expr) bool {
	switch t := target.(type) {
	case *nsRefExpr:
		return true
	case *tupleExpr:
		for _, item := range t.items {
			if containsNamespace(item) {
				return true
			}
		}
	}
	return false
}

// checkNamespaces fails, before anything is evaluated, if a target ns.attr is not of a namespace.
func checkNamespaces(target expr, f *frame) {
	switch t := target.(type) {
	case *nsRefExpr:
		if _, ok := (*f.at(t.ref)).(*namespace); !ok {
			raise(kindRuntime, "cannot assign attribute on non-namespace object")
		}
	case *tupleExpr:
		for _, item := range t.items {
			checkNamespaces(item, f)
		}
	}
}

// assign gives v to a target, unpacking it into a tuple of targets.
func (r *renderer) assign(target expr, v Value, f *frame) {
	switch t := target.(type) {
	case *nameExpr:
		*f.at(t.ref) = v
	case *nsRefExpr:
		ns, ok := (*f.at(t.ref)).(*namespace)
		if !ok {
			raise(kindRuntime, "cannot assign attribute on non-namespace object")
		}
		r.spend(itemCost)
		ns.attrs.setStr(t.attr, v)
	case *tupleExpr:
		next, ok := r.iterate(v)
		if !ok {
			raise(kindType, "cannot unpack non-iterable %s object", v.typeName())
		}
		vals := make([]Value, 0, len(t.items))
		for len(vals) <= len(t.items) {
			item, more := next()
			if !more {
				break
			}
			vals = append(vals, item)
		}
		if len(vals) > len(t.items) {
			raise(kindValue, "too many values to unpack (expected %d)", len(t.items))
		}
		if len(vals) < len(t.items) {
			raise(kindValue, "not enough values to unpack (expected %d, got %d)", len(t.items), len(vals))
		}
		for i, item := range t.items {
			r.assign(item, vals[i], f)
		}
	}
}

// export copies root variables to the context, where blocks find them.
func (r *renderer) export(names []exportRef, f *frame) {
	if r.vars == nil {
		return
	}
	for _, e := range names {
		r.vars[e.name] = *f.at(e.ref)
	}
}

func (s *setBlockStmt) exec(r *renderer, f *frame) signal {
	r.line = s.line
	f.enter(r, s.enter)
	sig := goOn
	body := r.capture(func() { sig = r.execAll(s.body, f) })
	if sig != goOn {
		return sig
	}
	var v Value = str(body)
	if s.filter != nil {
		v = r.filterBlock(s.filter, v, f)
	}
	r.assign(s.target, v, f)
	r.export(s.export, f)
	return goOn
}

func (s *filterStmt) exec(r *renderer, f *frame) signal {
	f.enter(r, s.enter)
	sig := goOn
	body := r.capture(func() { sig = r.execAll(s.body, f) })
	if sig != goOn {
		return sig
	}
	r.writeText(r.filterBlock(s.filter, str(body), f))
	return goOn
}

// writeText writes what a block gave, which Jinja joins without making it text first.
func (r *renderer) writeText(v Value) {
	s, ok := text(v)
	if !ok {
		raise(kindType, "sequence item 0: expected str instance, %s found", v.typeName())
	}
	r.write(s)
}

// filterBlock applies a chain of filters to the text of a block.
func (r *renderer) filterBlock(x expr, body Value, f *frame) Value {
	if x == nil {
		return body
	}
	fx := x.(*filterExpr)
	return fx.apply(r, r.filterBlock(fx.x, body, f), f)
}

func (s *ifStmt) exec(r *renderer, f *frame) signal {
	for i, test := range s.tests {
		if truth(test.eval(r, f)) {
			return r.execAll(s.bodies[i], f)
		}
	}
	return r.execAll(s.other, f)
}

func (s *breakStmt) exec(r *renderer, f *frame) signal { return s.sig }

func (s *withStmt) exec(r *renderer, f *frame) signal {
	f.enter(r, s.enter)
	for i, t := range s.targets {
		r.assign(t, s.values[i].eval(r, f), f)
	}
	return r.execAll(s.body, f)
}

func (s *macroStmt) exec(r *renderer, f *frame) signal {
	*f.at(s.target) = &macro{def: &s.macroDef, frame: f}
	r.export(s.export, f)
	return goOn
}

func (s *callStmt) exec(r *renderer, f *frame) signal {
	r.line = s.line
	caller := &macro{def: &s.macroDef, frame: f}
	if s.call == nil {
		r.write(string(caller.call(r, &arguments{}).(str)))
		return goOn
	}
	fn := s.call.fn.eval(r, f)
	args := s.call.evalArgs(r, f)
	args.kwNames = append(args.kwNames, "caller")
	args.kwVals = append(args.kwVals, caller)
	r.writeText(r.call(fn, args))
	return goOn
}

func (s *blockStmt) exec(r *renderer, f *frame) signal {
	outer := r.scoped
	if s.scoped {
		inner := make(map[string]Value)
		merge(inner, outer)
		for _, l := range s.locals {
			if v := *f.at(l.ref); v != nil {
				inner[l.name] = v
			}
		}
		r.scoped = inner
	}
	r.nested(func() string {
		bf := s.fn.frame(nil)
		bf.enter(r, s.enter)
		r.execAll(s.body, bf)
		return ""
	})
	r.scoped = outer
	return goOn
}

func (s *loaderStmt) exec(r *renderer, f *frame) signal {
	r.line = s.line
	raise(kindType, "no loader for this environment specified")
	return goOn
}

// exec runs a for statement. Its else branch runs unless one iteration came to its
// end; as in Jinja, an iteration that breaks or continues does not count.
func (s *forStmt) exec(r *renderer, f *frame) signal {
	r.line = s.line
	iter := s.iter.eval(r, f)
	if !s.recursive {
		return s.run(r, f, iter, nil, 0)
	}
	var recurse func(iter Value, depth int) Value
	recurse = func(iter Value, depth int) Value {
		return r.nested(func() string {
			return r.capture(func() { s.run(r, s.fn.frame(f), iter, recurse, depth) })
		})
	}
	r.write(string(recurse(iter, 0).(str)))
	return goOn
}

func (s *forStmt) run(r *renderer, f *frame, iter Value, recurse func(Value, int) Value, depth int) signal {
	next, ok := r.iterate(iter)
	if !ok {
		raise(kindType, "'%s' object is not iterable", iter.typeName())
	}
	if s.test != nil {
		next = s.filtered(r, f, next)
		iter = &generator{next: next, name: "generator"}
	}
	var loop *loopContext
	if s.usesLoop {
		loop = &loopContext{iterable: iter, next: next, index0: -1, recurse: recurse, depth0: depth}
		next = loop.advance
	}
	completed := false
	for {
		r.step()
		item, more := next()
		if !more {
			break
		}
		r.assign(s.target, item, f)
		if loop != nil {
			*f.at(s.loopRef) = loop
		}
		f.enter(r, s.enter)
		sig := r.execAll(s.body, f)
		if sig == breakLoop {
			break
		}
		completed = completed || sig == goOn
	}
	if completed || s.other == nil {
		return goOn
	}
	f.enter(r, s.enterOther)
	return r.execAll(s.other, f)
}

// filtered yields the items that pass the loop's test, in a function of its own.
func (s *forStmt) filtered(r *renderer, f *frame, next func() (Value, bool)) func() (Value, bool) {
	var tf *frame
	return func() (Value, bool) {
		if tf == nil {
			tf = s.testFn.frame(f)
			tf.enter(r, s.enterTest)
		}
		for {
			r.step()
			item, more := next()
			if !more {
				return nil, false
			}
			r.assign(s.testTarget, item, tf)
			if truth(s.test.eval(r, tf)) {
				return regroup(s.testTarget, tf), true
			}
		}
	}
}

// regroup reads a target back: Jinja's filter function yields its target, so a list
// that was unpacked becomes a tuple.
func regroup(target expr, f *frame) Value {
	switch t := target.(type) {
	case *nameExpr:
		return *f.at(t.ref)
	case *tupleExpr:
		items := make([]Value, len(t.items))
		for i, item := range t.items {
			items[i] = regroup(item, f)
		}
		return newTuple(items...)
	}
	return none
}
