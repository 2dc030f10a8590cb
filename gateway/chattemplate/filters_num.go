package chattemplate

import (
	"math"
	"math/big"
	"strconv"
)

func addNumberFilters() {
	addFilter("abs", "/", func(r *renderer, v Value, a []Value) Value {
		if f, ok := v.(float); ok {
			return float(math.Abs(float64(f)))
		}
		n, ok := asInt(v)
		if !ok {
			raise(kindType, "bad operand type for abs(): '%s'", v.typeName())
		}
		return normInt(new(big.Int).Abs(n))
	})
	addFilter("int", "default? base?", intFilter)
	addFilter("float", "default?", func(r *renderer, v Value, a []Value) Value {
		if f, ok := floatOf(v); ok {
			return float(f)
		}
		if a[0] == nil {
			return float(0)
		}
		return a[0]
	})
	addFilter("round", "precision? method?", round)
	addFilter("filesizeformat", "binary?", filesize)
}

// floatOf is Python's float(v); false where that raises TypeError or ValueError.
func floatOf(v Value) (float64, bool) {
	failIfUndefined(v)
	if s, ok := text(v); ok {
		return parseFloat(s)
	}
	if !isNumber(v) {
		return 0, false
	}
	return toFloat(v), true
}

func intFilter(r *renderer, v Value, a []Value) Value {
	def := Value(integer(0))
	if a[0] != nil {
		def = a[0]
	}
	failIfUndefined(v)
	if n, ok := asInt(v); ok {
		return normInt(n)
	}
	if s, ok := text(v); ok {
		if n, ok := parseInt(s, intOr(a[1], 10)); ok {
			return n
		}
	}
	f, ok := floatOf(v)
	if is[float](v) && math.IsInf(f, 0) {
		raise(kindOverflow, "cannot convert float infinity to integer")
	}
	if !ok || math.IsNaN(f) || math.IsInf(f, 0) {
		return def
	}
	return truncInt(f)
}

// truncInt is Python's int(f) of a finite float.
func truncInt(f float64) Value {
	n, _ := intOf(f)
	return normInt(n)
}

func round(r *renderer, v Value, a []Value) Value {
	digits, method := intOr(a[0], 0), "common"
	if a[1] != nil {
		method, _ = text(a[1])
	}
	failIfUndefined(v)
	switch method {
	case "common":
		if !isNumber(v) {
			raise(kindType, "type %s doesn't define __round__ method", v.typeName())
		}
		if f, ok := v.(float); ok {
			return roundFloat(float64(f), digits)
		}
		n, _ := asInt(v)
		return roundInt(n, digits)
	case "ceil", "floor":
		scale := r.binary("**", integer(10), intValue(digits))
		scaled := r.binary("*", v, scale)
		var whole Value
		if f, ok := scaled.(float); ok {
			if math.IsInf(float64(f), 0) || math.IsNaN(float64(f)) {
				raise(kindOverflow, "cannot convert float infinity to integer")
			}
			if method == "ceil" {
				whole = truncInt(math.Ceil(float64(f)))
			} else {
				whole = truncInt(math.Floor(float64(f)))
			}
		} else {
			whole = positive(scaled)
		}
		return r.binary("/", whole, scale)
	}
	raise(kindFilterArg, "method must be common, ceil or floor")
	return nil
}

// roundFloat rounds half to even on the exact binary value, as CPython does.
func roundFloat(f float64, digits int) Value {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0) || digits > 400:
		return float(f)
	case digits < -400:
		return float(math.Copysign(0, f))
	case digits >= 0:
		g, _ := strconv.ParseFloat(strconv.FormatFloat(f, 'f', digits, 64), 64)
		return float(g)
	}
	unit := new(big.Rat).SetInt(new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-digits)), nil))
	q := roundRat(new(big.Rat).Quo(new(big.Rat).SetFloat64(f), unit))
	g, _ := new(big.Rat).Mul(new(big.Rat).SetInt(q), unit).Float64()
	if math.IsInf(g, 0) {
		raise(kindOverflow, "rounded value too large to represent")
	}
	return float(math.Copysign(g, f))
}

func roundInt(n *big.Int, digits int) Value {
	if digits >= 0 {
		return normInt(n)
	}
	if -digits > maxIntDigits {
		return integer(0)
	}
	unit := new(big.Int).Exp(big.NewInt(10), big.NewInt(int64(-digits)), nil)
	return normInt(new(big.Int).Mul(roundRat(new(big.Rat).SetFrac(n, unit)), unit))
}

// roundRat is the integer nearest to x, the even one of two.
func roundRat(x *big.Rat) *big.Int {
	twice := new(big.Int).Mul(x.Num(), big.NewInt(2))
	twice.Add(twice, x.Denom())
	q, m := new(big.Int).DivMod(twice, new(big.Int).Mul(x.Denom(), big.NewInt(2)), new(big.Int))
	if m.Sign() == 0 && q.Bit(0) == 1 {
		q.Sub(q, big.NewInt(1))
	}
	return q
}

func filesize(r *renderer, v Value, a []Value) Value {
	bytes, ok := floatOf(v)
	if !ok {
		raise(kindValue, "could not convert to float: %s", repr(v))
	}
	base, prefixes := 1000.0, []string{"kB", "MB", "GB", "TB", "PB", "EB", "ZB", "YB"}
	if flag(a[0]) {
		base, prefixes = 1024, []string{"KiB", "MiB", "GiB", "TiB", "PiB", "EiB", "ZiB", "YiB"}
	}
	if bytes == 1 {
		return str("1 Byte")
	}
	if bytes < base {
		return str(intRepr(truncInt(bytes)) + " Bytes")
	}
	unit := base
	for i, prefix := range prefixes {
		unit *= base
		if bytes < unit || i == len(prefixes)-1 {
			return str(strconv.FormatFloat(base*bytes/unit, 'f', 1, 64) + " " + prefix)
		}
	}
	return nil
}
