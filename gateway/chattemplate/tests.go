package chattemplate

// testDef is a test, as in {{ x is defined }}.
type testDef struct {
	sig sig
	fn  func(r *renderer, v Value, a []Value) bool
}

func (d *testDef) apply(r *renderer, v Value, a *arguments) bool {
	return d.fn(r, v, d.sig.bind(r, a))
}

var tests = make(map[string]*testDef)

func addTest(names []string, spec string, fn func(r *renderer, v Value, a []Value) bool) {
	for _, name := range names {
		tests[name] = &testDef{sig: newSig(name, spec), fn: fn}
	}
}

// kindTest adds a test of nothing but the value.
func kindTest(name string, fn func(v Value) bool) {
	addTest([]string{name}, "", func(r *renderer, v Value, a []Value) bool { return fn(v) })
}

func init() {
	kindTest("defined", func(v Value) bool { return !is[*undefined](v) })
	kindTest("undefined", is[*undefined])
	kindTest("none", is[noneType])
	kindTest("boolean", is[boolean])
	kindTest("true", func(v Value) bool { return v == boolean(true) })
	kindTest("false", func(v Value) bool { return v == boolean(false) })
	kindTest("integer", func(v Value) bool { return is[integer](v) || is[bigInt](v) })
	kindTest("float", is[float])
	kindTest("number", isNumber)
	kindTest("string", func(v Value) bool { return is[str](v) || is[markup](v) })
	kindTest("mapping", is[*dict])
	kindTest("escaped", is[markup])
	kindTest("sequence", func(v Value) bool {
		switch v.(type) {
		case str, markup, *list, *tuple, *dict, *rangeObj, *undefined:
			return true
		}
		return false
	})
	kindTest("callable", func(v Value) bool {
		_, ok := v.(callable)
		return ok || is[*undefined](v)
	})
	addTest([]string{"iterable"}, "", func(r *renderer, v Value, a []Value) bool {
		_, ok := r.iterate(v)
		return ok
	})
	addTest([]string{"lower"}, "", func(r *renderer, v Value, a []Value) bool { return cased(isLower)(r.str(v)) })
	addTest([]string{"upper"}, "", func(r *renderer, v Value, a []Value) bool { return cased(isUpper)(r.str(v)) })
	addTest([]string{"odd"}, "", func(r *renderer, v Value, a []Value) bool {
		return r.equal(r.binary("%", v, integer(2)), integer(1))
	})
	addTest([]string{"even"}, "", func(r *renderer, v Value, a []Value) bool {
		return r.equal(r.binary("%", v, integer(2)), integer(0))
	})
	addTest([]string{"divisibleby"}, "num", func(r *renderer, v Value, a []Value) bool {
		return r.equal(r.binary("%", v, a[0]), integer(0))
	})
	addTest([]string{"sameas"}, "other", func(r *renderer, v Value, a []Value) bool { return r.identical(v, a[0]) })
	addTest([]string{"in"}, "seq", func(r *renderer, v Value, a []Value) bool { return r.contains(a[0], v) })
	addTest([]string{"filter"}, "", func(r *renderer, v Value, a []Value) bool {
		name, ok := text(v)
		return ok && filters[name] != nil
	})
	addTest([]string{"test"}, "", func(r *renderer, v Value, a []Value) bool {
		name, ok := text(v)
		return ok && tests[name] != nil
	})
	for op, names := range map[string][]string{
		"==": {"==", "eq", "equalto"},
		"!=": {"!=", "ne"},
		">":  {">", "gt", "greaterthan"},
		">=": {">=", "ge"},
		"<":  {"<", "lt", "lessthan"},
		"<=": {"<=", "le"},
	} {
		addTest(names, "/ b", func(r *renderer, v Value, a []Value) bool { return r.compare(op, v, a[0]) })
	}
}

func is[T Value](v Value) bool {
	_, ok := v.(T)
	return ok
}
