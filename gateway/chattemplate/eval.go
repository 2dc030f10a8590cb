package chattemplate

func (x *constExpr) eval(r *renderer, f *frame) Value { return x.v }

func (x *nameExpr) eval(r *renderer, f *frame) Value {
	if v := *f.at(x.ref); v != nil {
		return v
	}
	return undefinedVar(x.name)
}

// eval of a target never happens.
func (x *nsRefExpr) eval(r *renderer, f *frame) Value { return none }

func evalItems(xs []expr, r *renderer, f *frame) []Value {
	r.spendTimes(itemCost, len(xs))
	items := make([]Value, len(xs))
	for i, x := range xs {
		items[i] = x.eval(r, f)
	}
	return items
}

func (x *tupleExpr) eval(r *renderer, f *frame) Value {
	return &tuple{items: evalItems(x.items, r, f)}
}

func (x *listExpr) eval(r *renderer, f *frame) Value {
	return &list{items: evalItems(x.items, r, f)}
}

func (x *dictExpr) eval(r *renderer, f *frame) Value {
	r.spendTimes(itemCost, len(x.keys))
	d := &dict{}
	for i, k := range x.keys {
		key := k.eval(r, f)
		r.scanKey(key)
		d.set(key, x.vals[i].eval(r, f))
	}
	return d
}

func (x *condExpr) eval(r *renderer, f *frame) Value {
	switch {
	case truth(x.test.eval(r, f)):
		return x.then.eval(r, f)
	case x.other != nil:
		return x.other.eval(r, f)
	}
	return undefinedHint("the inline if-expression evaluated to false and no else section was defined.")
}

func (x *andExpr) eval(r *renderer, f *frame) Value {
	if l := x.l.eval(r, f); !truth(l) {
		return l
	}
	return x.r.eval(r, f)
}

func (x *orExpr) eval(r *renderer, f *frame) Value {
	if l := x.l.eval(r, f); truth(l) {
		return l
	}
	return x.r.eval(r, f)
}

func (x *notExpr) eval(r *renderer, f *frame) Value {
	return boolean(!truth(x.x.eval(r, f)))
}

func (x *unaryExpr) eval(r *renderer, f *frame) Value {
	v := x.x.eval(r, f)
	if x.op == '-' {
		return negate(v)
	}
	return positive(v)
}

func (x *binaryExpr) eval(r *renderer, f *frame) Value {
	r.step()
	l := x.l.eval(r, f)
	return r.binary(x.op, l, x.r.eval(r, f))
}

// eval adds from left to right. As long as all is text, it is copied only once.
func (x *addExpr) eval(r *renderer, f *frame) Value {
	texts, sum := x.add(r, f)
	if sum == nil {
		return str(r.join(texts, ""))
	}
	return sum
}

// add is the sum, or the texts that it is made of if all parts are texts.
func (x *addExpr) add(r *renderer, f *frame) (texts []string, sum Value) {
	for i, part := range x.parts {
		r.step()
		v := part.eval(r, f)
		s, ok := v.(str)
		switch {
		case ok && len(texts) == i:
			if texts == nil {
				texts = make([]string, 0, len(x.parts))
			}
			texts = append(texts, string(s))
			continue
		case i == 0:
			sum = v
			continue
		case sum == nil:
			sum = str(r.join(texts, ""))
		}
		sum = r.binary("+", sum, v)
	}
	if sum != nil {
		return nil, sum
	}
	return texts, nil
}

func (x *concatExpr) eval(r *renderer, f *frame) Value {
	parts := make([]string, len(x.parts))
	for i, p := range x.parts {
		v := p.eval(r, f)
		parts[i] = r.str(v)
	}
	return str(r.join(parts, ""))
}

func (x *compareExpr) eval(r *renderer, f *frame) Value {
	r.step()
	l := x.x.eval(r, f)
	for i, op := range x.ops {
		rhs := x.args[i].eval(r, f)
		if !r.compare(op, l, rhs) {
			return boolean(false)
		}
		l = rhs
	}
	return boolean(true)
}

func (x *attrExpr) eval(r *renderer, f *frame) Value {
	r.step()
	return r.getAttr(x.x.eval(r, f), x.name)
}

func (x *itemExpr) eval(r *renderer, f *frame) Value {
	r.step()
	v := x.x.eval(r, f)
	if s, ok := x.arg.(*sliceExpr); ok {
		return r.slice(v, evalOr(s.start, r, f), evalOr(s.stop, r, f), evalOr(s.step, r, f))
	}
	return r.getItem(v, x.arg.eval(r, f))
}

func evalOr(x expr, r *renderer, f *frame) Value {
	if x == nil {
		return none
	}
	return x.eval(r, f)
}

// eval of a slice is reached only within a tuple of subscripts, which nothing accepts.
func (x *sliceExpr) eval(r *renderer, f *frame) Value {
	raise(kindType, "a slice is not allowed here")
	return nil
}

func (x *callExpr) eval(r *renderer, f *frame) Value {
	r.step()
	fn := x.fn.eval(r, f)
	return r.call(fn, x.evalArgs(r, f))
}

func (x *filterExpr) eval(r *renderer, f *frame) Value {
	return x.apply(r, x.x.eval(r, f), f)
}

func (x *filterExpr) apply(r *renderer, v Value, f *frame) Value {
	r.step()
	if x.def == nil {
		raise(kindRuntime, "No filter named '%s' found.", x.name)
	}
	return x.def.apply(r, v, x.evalArgs(r, f))
}

func (x *testExpr) eval(r *renderer, f *frame) Value {
	r.step()
	if x.def == nil {
		raise(kindRuntime, "No test named '%s' found.", x.name)
	}
	v := x.x.eval(r, f)
	return boolean(x.def.apply(r, v, x.evalArgs(r, f)))
}
