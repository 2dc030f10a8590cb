package chattemplate

import (
	"math/big"
	"strings"
	"unicode/utf8"
)

// getAttr is obj.name in the immutable sandbox: an attribute of the type first, then
// an item of that key.
func (r *renderer) getAttr(obj Value, name string) Value {
	if !objectDunders[name] {
		failIfUndefined(obj)
	}
	if v := r.attribute(obj, name); v != nil {
		return v
	}
	if d, ok := obj.(*dict); ok {
		if v := d.getStr(name); v != nil {
			return v
		}
	}
	return undefinedAttr(obj, str(name))
}

// getItem is obj[key]: an item first, then an attribute if key is text.
func (r *renderer) getItem(obj, key Value) Value {
	failIfUndefined(obj)
	r.scanKey(key)
	if v := r.item(obj, key); v != nil {
		return v
	}
	if name, ok := text(key); ok {
		if v := r.attribute(obj, name); v != nil {
			return v
		}
	}
	return undefinedAttr(obj, key)
}

// item is obj[key] without the attributes; nil where Python raises a TypeError or LookupError.
func (r *renderer) item(obj, key Value) Value {
	if d, ok := obj.(*dict); ok {
		switch key.(type) {
		case *list, *dict:
			return nil
		}
		return d.get(key)
	}
	big, ok := asInt(key)
	if !ok || !big.IsInt64() {
		return nil
	}
	i := big.Int64()
	switch v := obj.(type) {
	case *list:
		return at(v.items, i)
	case *tuple:
		return at(v.items, i)
	case *rangeObj:
		if i < 0 {
			i += int64(v.n)
		}
		if i >= 0 && i < int64(v.n) {
			return v.at(int(i))
		}
	case str, markup:
		s, _ := text(v)
		if c, ok := r.runeAt(s, i); ok {
			return like(v, c)
		}
	}
	return nil
}

func at(items []Value, i int64) Value {
	if i < 0 {
		i += int64(len(items))
	}
	if i < 0 || i >= int64(len(items)) {
		return nil
	}
	return items[i]
}

// runeAt is s[i] in characters.
func (r *renderer) runeAt(s string, i int64) (string, bool) {
	if i == -1 && s != "" {
		_, n := utf8.DecodeLastRuneInString(s)
		return s[len(s)-n:], true
	}
	if i < 0 {
		r.scan(len(s))
		i += int64(utf8.RuneCountInString(s))
	}
	if i < 0 || i >= int64(len(s)) {
		return "", false
	}
	r.scan(int(i))
	for at := range s {
		if i == 0 {
			_, n := utf8.DecodeRuneInString(s[at:])
			return s[at : at+n], true
		}
		i--
	}
	return "", false
}

// slice is v[start:stop:step].
func (r *renderer) slice(v, start, stop, step Value) Value {
	failIfUndefined(v)
	switch v := v.(type) {
	case *list:
		return &list{items: r.sliceItems(v.items, start, stop, step)}
	case *tuple:
		return &tuple{items: r.sliceItems(v.items, start, stop, step)}
	case *rangeObj:
		from, by, n := sliceBounds(v.n, start, stop, step)
		out := &rangeObj{start: v.start + int64(from)*v.step, step: v.step * int64(by), n: n}
		out.stop = out.start + int64(n)*out.step
		return out
	case str, markup:
		s, _ := text(v)
		return like(v, r.sliceText(s, start, stop, step))
	case *dict:
		raise(kindKey, "a slice is not a key")
	}
	raise(kindType, "'%s' object is not subscriptable", v.typeName())
	return nil
}

func (r *renderer) sliceItems(items []Value, start, stop, step Value) []Value {
	from, by, n := sliceBounds(len(items), start, stop, step)
	if by == 1 {
		return items[from : from+n : from+n]
	}
	r.spendTimes(itemCost, n)
	out := make([]Value, n)
	for i := range out {
		out[i] = items[from+i*by]
	}
	return out
}

func (r *renderer) sliceText(s string, start, stop, step Value) string {
	r.scan(len(s))
	if isASCII(s) {
		from, by, n := sliceBounds(len(s), start, stop, step)
		if by == 1 {
			return s[from : from+n]
		}
		r.spend(n)
		out := make([]byte, n)
		for i := range out {
			out[i] = s[from+i*by]
		}
		return string(out)
	}
	from, by, n := sliceBounds(utf8.RuneCountInString(s), start, stop, step)
	if by == 1 {
		begin := runeOffset(s, from)
		return s[begin : begin+runeOffset(s[begin:], n)]
	}
	r.spend(5 * len(s))
	runes := []rune(s)
	out := make([]rune, n)
	for i := range out {
		out[i] = runes[from+i*by]
	}
	return string(out)
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// runeOffset is the byte offset of the n-th character of s.
func runeOffset(s string, n int) int {
	for at := range s {
		if n == 0 {
			return at
		}
		n--
	}
	return len(s)
}

// sliceBounds is Python's slice.indices, as the first index, the step and the count.
func sliceBounds(length int, start, stop, step Value) (from, by, n int) {
	const far = 1 << 40 // beyond any length, and safe to add up
	index := func(v Value, def int) int {
		if v == none {
			return def
		}
		b, ok := asInt(v)
		if !ok {
			raise(kindType, "slice indices must be integers or None or have an __index__ method")
		}
		if b.CmpAbs(big.NewInt(far)) > 0 {
			return far * b.Sign()
		}
		return int(b.Int64())
	}
	by = index(step, 1)
	if by == 0 {
		raise(kindValue, "slice step cannot be zero")
	}
	low, high := 0, length
	if by < 0 {
		low, high = -1, length-1
	}
	clamp := func(i int) int {
		if i < 0 {
			return max(i+length, low)
		}
		return min(i, high)
	}
	if by > 0 {
		from = clamp(index(start, 0))
		n = (clamp(index(stop, length)) - from + by - 1) / by
	} else {
		from = high
		if start != none {
			from = clamp(index(start, 0))
		}
		to := low
		if stop != none {
			to = clamp(index(stop, 0))
		}
		n = (from - to - by - 1) / -by
	}
	return from, by, max(n, 0)
}

// Names that every Python object has, which the sandbox hides.
var objectDunders = set(`__class__ __delattr__ __dir__ __doc__ __eq__ __format__ __ge__ __getattribute__
	__getstate__ __gt__ __hash__ __init__ __init_subclass__ __le__ __lt__ __ne__ __new__ __reduce__
	__reduce_ex__ __repr__ __setattr__ __sizeof__ __str__ __subclasshook__`)

// Further ones of the built-in types.
var typeDunders = map[string]map[string]bool{
	"str":   set("__add__ __contains__ __getitem__ __getnewargs__ __iter__ __len__ __mod__ __mul__ __rmod__ __rmul__"),
	"list":  set("__add__ __class_getitem__ __contains__ __delitem__ __getitem__ __iadd__ __imul__ __iter__ __len__ __mul__ __reversed__ __rmul__ __setitem__"),
	"tuple": set("__add__ __class_getitem__ __contains__ __getitem__ __getnewargs__ __iter__ __len__ __mul__ __rmul__"),
	"dict":  set("__class_getitem__ __contains__ __delitem__ __getitem__ __ior__ __iter__ __len__ __or__ __reversed__ __ror__ __setitem__"),
	"int":   set("__abs__ __add__ __and__ __bool__ __ceil__ __divmod__ __float__ __floor__ __floordiv__ __getnewargs__ __index__ __int__ __invert__ __lshift__ __mod__ __mul__ __neg__ __or__ __pos__ __pow__ __radd__ __rand__ __rdivmod__ __rfloordiv__ __rlshift__ __rmod__ __rmul__ __ror__ __round__ __rpow__ __rrshift__ __rshift__ __rsub__ __rtruediv__ __rxor__ __sub__ __truediv__ __trunc__ __xor__"),
	"float": set("__abs__ __add__ __bool__ __ceil__ __divmod__ __float__ __floor__ __floordiv__ __getformat__ __getnewargs__ __int__ __mod__ __mul__ __neg__ __pos__ __pow__ __radd__ __rdivmod__ __rfloordiv__ __rmod__ __rmul__ __round__ __rpow__ __rsub__ __rtruediv__ __sub__ __truediv__ __trunc__"),
}

// Methods that would change a value, which the sandbox refuses.
var mutators = map[string]map[string]bool{
	"list": set("append clear pop reverse insert sort extend remove"),
	"dict": set("clear pop popitem setdefault update"),
}

func set(words string) map[string]bool {
	m := make(map[string]bool)
	for _, w := range strings.Fields(words) {
		m[w] = true
	}
	return m
}

// attribute is the attribute of obj's type of that name, or nil. One that the sandbox
// refuses is an undefined value that fails with a SecurityError when used.
func (r *renderer) attribute(obj Value, name string) Value {
	kind := obj.typeName()
	if kind == "bool" {
		kind = "int"
	}
	if ns, ok := obj.(*namespace); ok {
		return ns.attribute(name)
	}
	if strings.HasPrefix(name, "__") && (objectDunders[name] || typeDunders[kind][name]) || mutators[kind][name] {
		return &undefined{
			hint: "access to attribute " + repr(str(name)) + " of " + repr(str(obj.typeName())) + " object is unsafe.",
			obj:  obj, name: str(name), kind: kindSecurity,
		}
	}
	var def *methodDef
	switch v := obj.(type) {
	case str, markup:
		def = strMethods[name]
	case *dict:
		def = dictMethods[name]
	case *list:
		def = listMethods[name]
	case *tuple:
		for i, n := range v.names {
			if n == name {
				return v.items[i]
			}
		}
		def = tupleMethods[name]
	case boolean, integer, bigInt, float:
		return numberAttr(v, name)
	case *rangeObj:
		return v.attr(name)
	case *loopContext:
		return v.attr(name)
	case *macro:
		return v.attr(name)
	case *cycler:
		return v.attr(name)
	case *joiner:
		return v.attr(name)
	}
	if def == nil {
		return nil
	}
	return &method{recv: obj, def: def}
}

func (ns *namespace) attribute(name string) Value {
	if name == "__class__" || name == "_Namespace__attrs" {
		return &undefined{hint: "access to attribute " + repr(str(name)) + " of 'Namespace' object is unsafe.",
			obj: ns, name: str(name), kind: kindSecurity}
	}
	v := ns.attrs.getStr(name)
	if v != nil && strings.HasPrefix(name, "_") {
		return &undefined{hint: "access to attribute " + repr(str(name)) + " of 'Namespace' object is unsafe.",
			obj: ns, name: str(name), kind: kindSecurity}
	}
	return v
}
