package chattemplate

import (
	"math"
	"math/big"
	"strings"
)

// binary applies an arithmetic operator.
func (r *renderer) binary(op string, l, rhs Value) Value {
	if isNumber(l) && isNumber(rhs) {
		return arith(op, l, rhs)
	}
	if ls, ok := l.(str); ok && op == "+" {
		if rs, ok := rhs.(str); ok {
			r.spend(len(ls) + len(rs))
			return ls + rs
		}
	}
	if s, ok := text(l); ok && op == "%" {
		return like(l, r.printf(l, s, rhs))
	}
	failIfUndefined(l, rhs)
	switch op {
	case "+":
		if v := r.concat(l, rhs); v != nil {
			return v
		}
	case "*":
		if v := r.repeat(l, rhs); v != nil {
			return v
		}
		if v := r.repeat(rhs, l); v != nil {
			return v
		}
	}
	if _, ok := text(l); ok && op == "+" {
		raise(kindType, `can only concatenate str (not "%s") to str`, rhs.typeName())
	}
	raise(kindType, "unsupported operand type(s) for %s: '%s' and '%s'", op, l.typeName(), rhs.typeName())
	return nil
}

func failIfUndefined(vs ...Value) {
	for _, v := range vs {
		if u, ok := v.(*undefined); ok {
			u.fail()
		}
	}
}

// concat is + of two sequences of a kind, or nil.
func (r *renderer) concat(l, rhs Value) Value {
	switch l := l.(type) {
	case *list:
		if m, ok := rhs.(*list); ok {
			return &list{items: r.appendItems(l.items, m.items)}
		}
	case *tuple:
		if m, ok := rhs.(*tuple); ok {
			return &tuple{items: r.appendItems(l.items, m.items)}
		}
	case str, markup:
		a, _ := text(l)
		b, ok := text(rhs)
		if !ok {
			return nil
		}
		_, lm := l.(markup)
		_, rm := rhs.(markup)
		if !lm && !rm {
			r.spend(len(a) + len(b))
			return str(a + b)
		}
		if !lm {
			a = escapeHTML(a)
		}
		if !rm {
			b = escapeHTML(b)
		}
		r.spend(len(a) + len(b))
		return markup(a + b)
	}
	return nil
}

func (r *renderer) appendItems(a, b []Value) []Value {
	r.spendTimes(itemCost, len(a)+len(b))
	return append(append(make([]Value, 0, len(a)+len(b)), a...), b...)
}

// repeat is seq * count, or nil if those are not a sequence and an int.
func (r *renderer) repeat(seq, count Value) Value {
	c, ok := asInt(count)
	if !ok {
		return nil
	}
	n := math.MaxInt32
	if c.Sign() < 0 {
		n = 0
	} else if c.Cmp(big.NewInt(math.MaxInt32)) < 0 {
		n = int(c.Int64())
	}
	items := func(in []Value) []Value {
		r.spendTimes(itemCost*len(in), n)
		out := make([]Value, 0, len(in)*n)
		for i := 0; i < n && len(in) > 0; i++ {
			out = append(out, in...)
		}
		return out
	}
	switch seq := seq.(type) {
	case *list:
		return &list{items: items(seq.items)}
	case *tuple:
		return &tuple{items: items(seq.items)}
	case str, markup:
		s, _ := text(seq)
		if s == "" {
			return seq
		}
		r.spendTimes(len(s), n)
		return like(seq, strings.Repeat(s, n))
	}
	return nil
}

// join is sep.join(parts).
func (r *renderer) join(parts []string, sep string) string {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	r.spend(n)
	r.spendTimes(len(sep), len(parts))
	return strings.Join(parts, sep)
}

// compare is one comparison operator.
func (r *renderer) compare(op string, l, rhs Value) bool {
	switch op {
	case "==":
		return r.equal(l, rhs)
	case "!=":
		return !r.equal(l, rhs)
	case "in":
		return r.contains(rhs, l)
	case "not in":
		return !r.contains(rhs, l)
	}
	return r.order(op, l, rhs, 0)
}

// equal is Python's l == rhs.
func (r *renderer) equal(l, rhs Value) bool { return r.equalAt(l, rhs, 0) }

func (r *renderer) equalAt(l, rhs Value, depth int) bool {
	checkDepth(depth)
	if isNumber(l) && isNumber(rhs) {
		return compareNumbers(l, rhs) == 0
	}
	switch a := l.(type) {
	case str, markup:
		s, _ := text(a)
		t, ok := text(rhs)
		if len(s) != len(t) || !ok {
			return false
		}
		r.scan(len(s))
		return s == t
	case *list:
		b, ok := rhs.(*list)
		return ok && r.equalItems(a.items, b.items, depth)
	case *tuple:
		b, ok := rhs.(*tuple)
		return ok && r.equalItems(a.items, b.items, depth)
	case *dict:
		b, ok := rhs.(*dict)
		if !ok || len(a.keys) != len(b.keys) {
			return false
		}
		for i, k := range a.keys {
			r.step()
			v := b.get(k)
			if v == nil || !r.identical(a.vals[i], v) && !r.equalAt(a.vals[i], v, depth+1) {
				return false
			}
		}
		return true
	case *rangeObj:
		b, ok := rhs.(*rangeObj)
		return ok && a.n == b.n && (a.n == 0 || a.start == b.start && (a.n == 1 || a.step == b.step))
	case *undefined:
		_, ok := rhs.(*undefined)
		return ok
	case *dictView:
		b, ok := rhs.(*dictView)
		if !ok || a.kind == "dict_values" || b.kind == "dict_values" {
			return l == rhs
		}
		return a.kind == b.kind && len(a.d.keys) == len(b.d.keys) && r.subset(a, b)
	}
	return l == rhs
}

// subset reports whether the items of view a are all in b.
func (r *renderer) subset(a, b *dictView) bool {
	next := a.iterate()
	for item, more := next(); more; item, more = next() {
		if !r.contains(b, item) {
			return false
		}
	}
	return true
}

// equalItems compares sequences; as in Python an item equals itself, even a NaN.
func (r *renderer) equalItems(a, b []Value, depth int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		r.step()
		if !r.identical(a[i], b[i]) && !r.equalAt(a[i], b[i], depth+1) {
			return false
		}
	}
	return true
}

// identical is Python's "is", as far as it can be told here: it holds for equal
// strings and small ints, which CPython mostly shares.
func (r *renderer) identical(a, b Value) bool {
	switch x := a.(type) {
	case bigInt, float:
		return false
	case integer:
		return a == b && x >= -5 && x <= 256
	}
	return a == b
}

// compareNumbers is -1, 0, 1, or 2 if either is NaN.
func compareNumbers(l, rhs Value) int {
	a, aok := small(l)
	b, bok := small(rhs)
	if aok && bok {
		return cmp(a, b)
	}
	lf, lok := l.(float)
	rf, rok := rhs.(float)
	switch {
	case lok && math.IsNaN(float64(lf)), rok && math.IsNaN(float64(rf)):
		return 2
	case lok && rok:
		return cmp(lf, rf)
	case lok && math.IsInf(float64(lf), 0):
		return cmp(lf, 0)
	case rok && math.IsInf(float64(rf), 0):
		return cmp(0, rf)
	}
	return exact(l).Cmp(exact(rhs))
}

func cmp[T int64 | float](a, b T) int {
	switch {
	case a < b:
		return -1
	case a > b:
		return 1
	}
	return 0
}

// exact is a finite number as a rational.
func exact(v Value) *big.Rat {
	if f, ok := v.(float); ok {
		return new(big.Rat).SetFloat64(float64(f))
	}
	n, _ := asInt(v)
	return new(big.Rat).SetInt(n)
}

// order is l op rhs for < <= > and >=.
func (r *renderer) order(op string, l, rhs Value, depth int) bool {
	checkDepth(depth)
	if isNumber(l) && isNumber(rhs) {
		c := compareNumbers(l, rhs)
		return c != 2 && ordered(op, c)
	}
	if a, ok := text(l); ok {
		if b, ok := text(rhs); ok {
			r.scan(min(len(a), len(b)))
			return ordered(op, strings.Compare(a, b)) // UTF-8 sorts as code points do
		}
	}
	failIfUndefined(l, rhs)
	var a, b []Value
	switch x := l.(type) {
	case *list:
		if y, ok := rhs.(*list); ok {
			a, b = x.items, y.items
			return r.orderItems(op, a, b, depth)
		}
	case *tuple:
		if y, ok := rhs.(*tuple); ok {
			a, b = x.items, y.items
			return r.orderItems(op, a, b, depth)
		}
	}
	raise(kindType, "'%s' not supported between instances of '%s' and '%s'", op, l.typeName(), rhs.typeName())
	return false
}

func (r *renderer) orderItems(op string, a, b []Value, depth int) bool {
	for i := 0; i < len(a) && i < len(b); i++ {
		r.step()
		if !r.identical(a[i], b[i]) && !r.equalAt(a[i], b[i], depth+1) {
			return r.order(op, a[i], b[i], depth+1)
		}
	}
	return ordered(op, cmp(int64(len(a)), int64(len(b))))
}

func ordered(op string, c int) bool {
	switch op {
	case "<":
		return c < 0
	case "<=":
		return c <= 0
	case ">":
		return c > 0
	}
	return c >= 0
}

// contains is Python's "item in v".
func (r *renderer) contains(v, item Value) bool {
	switch c := v.(type) {
	case str, markup:
		s, _ := text(c)
		sub, ok := text(item)
		if !ok {
			raise(kindType, "'in <string>' requires string as left operand, not %s", item.typeName())
		}
		r.scan(len(s))
		return strings.Contains(s, sub)
	case *dict:
		r.scanKey(item)
		return c.get(item) != nil
	case *dictView:
		r.scanKey(item)
		if c.kind == "dict_keys" {
			return c.d.get(item) != nil
		}
	case *rangeObj:
		if n, ok := small(item); ok {
			d := n - c.start
			return c.n > 0 && d%c.step == 0 && d/c.step >= 0 && d/c.step < int64(c.n)
		}
	}
	next, ok := r.iterate(v)
	if !ok {
		raise(kindType, "argument of type '%s' is not iterable", v.typeName())
	}
	for x, more := next(); more; x, more = next() {
		r.step()
		if r.identical(x, item) || r.equal(x, item) {
			return true
		}
	}
	return false
}
