package chattemplate

import (
	"math"
	"math/big"
)

// dictMethods, listMethods and tupleMethods are the methods that do not change a value.
var dictMethods, listMethods, tupleMethods map[string]*methodDef

func init() {
	view := func(kind string) *methodDef {
		return &methodDef{sig: newSig(kind, "/"), fn: func(r *renderer, v Value, a []Value) Value {
			return &dictView{d: v.(*dict), kind: kind}
		}}
	}
	dictMethods = map[string]*methodDef{
		"keys":   view("dict_keys"),
		"values": view("dict_values"),
		"items":  view("dict_items"),
		"get": {sig: newSig("get", "/ key default?"), fn: func(r *renderer, v Value, a []Value) Value {
			r.scanKey(a[0])
			if found := v.(*dict).get(a[0]); found != nil {
				return found
			}
			if a[1] == nil {
				return none
			}
			return a[1]
		}},
		"copy": {sig: newSig("copy", "/"), fn: func(r *renderer, v Value, a []Value) Value { return v }},
		"fromkeys": {sig: newSig("fromkeys", "/ iterable value?"), fn: func(r *renderer, v Value, a []Value) Value {
			d := &dict{}
			if a[1] == nil {
				a[1] = none
			}
			for _, k := range r.items(a[0]) {
				r.spend(2 * itemCost)
				r.scanKey(k)
				d.set(k, a[1])
			}
			return d
		}},
	}
	listMethods = map[string]*methodDef{
		"copy":  {sig: newSig("copy", "/"), fn: func(r *renderer, v Value, a []Value) Value { return v }},
		"count": {sig: newSig("count", "/ value"), fn: countItem},
		"index": {sig: newSig("index", "/ value start? stop?"), fn: indexItem},
	}
	tupleMethods = map[string]*methodDef{"count": listMethods["count"], "index": listMethods["index"]}
}

func countItem(r *renderer, v Value, a []Value) Value {
	n := 0
	for _, item := range r.items(v) {
		r.step()
		if r.identical(item, a[0]) || r.equal(item, a[0]) {
			n++
		}
	}
	return intValue(n)
}

func indexItem(r *renderer, v Value, a []Value) Value {
	items := r.items(v)
	for i := 1; i <= 2; i++ {
		if a[i] == nil {
			a[i] = none
		}
	}
	from, _, n := sliceBounds(len(items), a[1], a[2], none)
	for i := from; i < from+n; i++ {
		r.step()
		if r.identical(items[i], a[0]) || r.equal(items[i], a[0]) {
			return intValue(i)
		}
	}
	raise(kindValue, "%s is not in %s", repr(a[0]), v.typeName())
	return nil
}

// numberAttr is an attribute of an int, bool or float, or nil.
func numberAttr(v Value, name string) Value {
	f, isFloat := v.(float)
	def := func(fn func() Value) Value {
		return &method{recv: v, def: &methodDef{sig: newSig(name, "/"), fn: func(*renderer, Value, []Value) Value { return fn() }}}
	}
	switch name {
	case "real":
		return positive(v)
	case "imag":
		if isFloat {
			return float(0)
		}
		return integer(0)
	case "conjugate":
		return def(func() Value { return positive(v) })
	}
	if isFloat {
		if name == "is_integer" {
			return def(func() Value { return boolean(float64(f) == math.Trunc(float64(f)) && !math.IsInf(float64(f), 0)) })
		}
		return nil
	}
	n, _ := asInt(v)
	switch name {
	case "numerator":
		return positive(v)
	case "denominator":
		return integer(1)
	case "bit_length":
		return def(func() Value { return intValue(n.BitLen()) })
	case "bit_count":
		return def(func() Value {
			ones := 0
			for _, w := range new(big.Int).Abs(n).Bits() {
				for ; w != 0; w &= w - 1 {
					ones++
				}
			}
			return intValue(ones)
		})
	case "is_integer":
		return def(func() Value { return boolean(true) })
	}
	return nil
}
