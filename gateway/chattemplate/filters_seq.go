package chattemplate

import "sort"

func addSequenceFilters() {
	filters["map"] = &filterDef{raw: mapFilter}
	filters["select"] = &filterDef{raw: selector(false, true)}
	filters["reject"] = &filterDef{raw: selector(false, false)}
	filters["selectattr"] = &filterDef{raw: selector(true, true)}
	filters["rejectattr"] = &filterDef{raw: selector(true, false)}
	addFilter("sort", "reverse? case_sensitive? attribute?", sortFilter)
	addFilter("dictsort", "case_sensitive? by? reverse?", dictsort)
	addFilter("unique", "case_sensitive? attribute?", unique)
	addFilter("groupby", "attribute default? case_sensitive?", groupby)
	addFilter("min", "case_sensitive? attribute?", extreme("<"))
	addFilter("max", "case_sensitive? attribute?", extreme(">"))
	addFilter("sum", "attribute? start?", func(r *renderer, v Value, a []Value) Value {
		next, get := r.mustIterate(v), r.getter(a[0], nil)
		total := a[1]
		if total == nil {
			total = integer(0)
		}
		if is[str](total) {
			raise(kindType, "sum() can't sum strings [use ''.join(seq) instead]")
		}
		for item, more := next(); more; item, more = next() {
			r.step()
			total = r.binary("+", total, get(item))
		}
		return total
	})
	addFilter("batch", "linecount fill_with?", batch)
	addFilter("slice", "slices fill_with?", sliceFilter)
}

// mapFilter applies a filter to each item, or reads an attribute of it.
func mapFilter(r *renderer, v Value, a *arguments) Value {
	if !truth(v) {
		return &generator{next: sliceIter(nil), name: "generator"}
	}
	return lazy(func() func() (Value, bool) {
		fn := r.mapper(a)
		next := r.mustIterate(v)
		return func() (Value, bool) {
			r.step()
			item, more := next()
			if !more {
				return nil, false
			}
			return fn(item), true
		}
	})
}

func (r *renderer) mapper(a *arguments) func(Value) Value {
	if attribute := a.kw("attribute"); len(a.pos) == 0 && attribute != nil {
		def := a.kw("default")
		if len(a.kwNames) > 0 {
			raise(kindFilterArg, "Unexpected keyword argument %s", repr(str(a.kwNames[0])))
		}
		return r.getterOr(attribute, def)
	}
	if len(a.pos) == 0 {
		raise(kindFilterArg, "map requires a filter argument")
	}
	r.scanKey(a.pos[0])
	f := filters[r.str(a.pos[0])]
	if f == nil {
		raise(kindRuntime, "No filter named %s.", repr(a.pos[0]))
	}
	rest := *a
	rest.pos = a.pos[1:]
	return func(item Value) Value {
		args := rest
		return f.apply(r, item, &args)
	}
}

// getterOr is getter with a value for what is undefined at any part of the path.
func (r *renderer) getterOr(attribute, def Value) func(Value) Value {
	parts := r.attributeParts(attribute)
	return func(item Value) Value {
		for _, p := range parts {
			item = r.getItem(item, p)
			if isUndefined(item) && def != nil && def != none {
				item = def
			}
		}
		return item
	}
}

// selector makes select, reject, selectattr and rejectattr.
func selector(byAttribute, want bool) func(*renderer, Value, *arguments) Value {
	return func(r *renderer, v Value, a *arguments) Value {
		if !truth(v) {
			return &generator{next: sliceIter(nil), name: "generator"}
		}
		return lazy(func() func() (Value, bool) {
			ok := r.predicate(byAttribute, a)
			next := r.mustIterate(v)
			return func() (Value, bool) {
				for {
					r.step()
					item, more := next()
					if !more {
						return nil, false
					}
					if ok(item) == want {
						return item, true
					}
				}
			}
		})
	}
}

func (r *renderer) predicate(byAttribute bool, a *arguments) func(Value) bool {
	args := *a
	get := func(v Value) Value { return v }
	if byAttribute {
		if len(args.pos) == 0 {
			raise(kindFilterArg, "Missing parameter for attribute name")
		}
		get = r.getter(args.pos[0], nil)
		args.pos = args.pos[1:]
	}
	if len(args.pos) == 0 {
		return func(item Value) bool { return truth(get(item)) }
	}
	r.scanKey(args.pos[0])
	test := tests[r.str(args.pos[0])]
	if test == nil {
		raise(kindRuntime, "No test named %s.", repr(args.pos[0]))
	}
	args.pos = args.pos[1:]
	return func(item Value) bool {
		one := args
		return test.apply(r, get(item), &one)
	}
}

// keyed is an item with what it is sorted by.
type keyed struct{ key, item Value }

// sorted sorts stably, as Python's sorted(items, key=..., reverse=...).
func (r *renderer) sorted(items []Value, key func(Value) Value, reverse bool) []keyed {
	r.spendTimes(3*itemCost, len(items))
	pairs := make([]keyed, len(items))
	for i, item := range items {
		pairs[i] = keyed{key(item), item}
	}
	op := "<"
	if reverse {
		op = ">"
	}
	sort.SliceStable(pairs, func(i, j int) bool {
		r.step()
		return r.order(op, pairs[i].key, pairs[j].key, 0)
	})
	return pairs
}

func itemsOf(pairs []keyed) *list {
	out := &list{items: make([]Value, len(pairs))}
	for i, p := range pairs {
		out.items[i] = p.item
	}
	return out
}

func flag(v Value) bool { return v != nil && truth(v) }

func sortFilter(r *renderer, v Value, a []Value) Value {
	fold := foldUnless(a[1])
	var gets []func(Value) Value
	if path, ok := text(orNone(a[2])); ok {
		for _, p := range splitLeft(r, path, &commaSep, -1) {
			gets = append(gets, r.getter(str(p), fold))
		}
	} else {
		gets = append(gets, r.getter(a[2], fold))
	}
	key := func(item Value) Value { // a list even of one, since lists compare equal items too
		t := &list{items: make([]Value, len(gets))}
		for i, get := range gets {
			t.items[i] = get(item)
		}
		return t
	}
	return itemsOf(r.sorted(r.items(v), key, flag(a[0])))
}

var commaSep = ","

func orNone(v Value) Value {
	if v == nil {
		return none
	}
	return v
}

func dictsort(r *renderer, v Value, a []Value) Value {
	at := 0
	if a[1] != nil {
		switch by, _ := text(a[1]); by {
		case "key":
		case "value":
			at = 1
		default:
			raise(kindFilterArg, `You can only sort by either "key" or "value"`)
		}
	}
	failIfUndefined(v)
	d, ok := v.(*dict)
	if !ok {
		raise(kindType, "'%s' object has no attribute 'items'", v.typeName())
	}
	fold := foldUnless(a[0])
	pairs := r.items(&dictView{d: d, kind: "dict_items"})
	return itemsOf(r.sorted(pairs, func(item Value) Value {
		key := item.(*tuple).items[at]
		if fold != nil {
			key = fold(key)
		}
		return key
	}, flag(a[2])))
}

func unique(r *renderer, v Value, a []Value) Value {
	get := r.getter(a[1], foldUnless(a[0]))
	return lazy(func() func() (Value, bool) {
		next := r.mustIterate(v)
		seen := make(map[any]bool)
		return func() (Value, bool) {
			for {
				r.step()
				item, more := next()
				if !more {
					return nil, false
				}
				v := get(item)
				r.scanKey(v)
				if key := hashKey(v); !seen[key] {
					r.spend(itemCost)
					seen[key] = true
					return item, true
				}
			}
		}
	})
}

func groupby(r *renderer, v Value, a []Value) Value {
	raw := r.getterOr(a[0], a[1])
	get := raw
	if fold := foldUnless(a[2]); fold != nil {
		get = func(item Value) Value { return fold(raw(item)) }
	}
	out := &list{}
	var group *list
	var last Value
	for _, p := range r.sorted(r.items(v), get, false) {
		if group == nil || !r.identical(p.key, last) && !r.equal(p.key, last) {
			group, last = &list{}, p.key
			t := newTuple(raw(p.item), group)
			t.names = []string{"grouper", "list"}
			out.items = append(out.items, t)
		}
		group.items = append(group.items, p.item)
	}
	return out
}

func extreme(op string) func(*renderer, Value, []Value) Value {
	return func(r *renderer, v Value, a []Value) Value {
		next, key := r.mustIterate(v), r.getter(a[1], foldUnless(a[0]))
		best, more := next()
		if !more {
			return undefinedHint("No aggregated item, sequence was empty.")
		}
		bestKey := key(best)
		for item, more := next(); more; item, more = next() {
			r.step()
			if k := key(item); r.order(op, k, bestKey, 0) {
				best, bestKey = item, k
			}
		}
		return best
	}
}

func batch(r *renderer, v Value, a []Value) Value {
	return lazy(func() func() (Value, bool) {
		next, n, done := r.mustIterate(v), mustInt(a[0]), false
		var pending Value
		return func() (Value, bool) {
			if done {
				return nil, false
			}
			row := &list{}
			if pending != nil {
				row.items, pending = append(row.items, pending), nil
			}
			for {
				r.step()
				item, more := next()
				if !more {
					done = true
					break
				}
				if len(row.items) == n {
					pending = item
					return row, true
				}
				r.spend(itemCost)
				row.items = append(row.items, item)
			}
			if len(row.items) == 0 {
				return nil, false
			}
			if a[1] != nil && a[1] != none && len(row.items) < n {
				r.spendTimes(itemCost, n-len(row.items))
				for len(row.items) < n {
					row.items = append(row.items, a[1])
				}
			}
			return row, true
		}
	})
}

func sliceFilter(r *renderer, v Value, a []Value) Value {
	return lazy(func() func() (Value, bool) {
		seq, n := r.items(v), mustInt(a[0])
		if n == 0 {
			raise(kindZeroDiv, "integer division or modulo by zero")
		}
		per, extra := 0, 0
		if n > 0 {
			per, extra = len(seq)/n, len(seq)%n
		}
		i, offset := 0, 0
		return func() (Value, bool) {
			r.spend(itemCost)
			if i >= n {
				return nil, false
			}
			start := offset + i*per
			if i < extra {
				offset++
			}
			row := &list{items: append([]Value{}, seq[start:offset+(i+1)*per]...)}
			if a[1] != nil && a[1] != none && i >= extra {
				row.items = append(row.items, a[1])
			}
			i++
			return row, true
		}
	})
}
