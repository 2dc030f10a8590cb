package chattemplate

import (
	"math"
	"math/big"
	"math/bits"
	"strconv"
	"strings"
)

// normInt is n as an int Value.
func normInt(n *big.Int) Value {
	if n.IsInt64() {
		return integer(n.Int64())
	}
	if n.BitLen() > maxIntBits {
		raise(kindLimit, "integer of more than %d bits", maxIntBits)
	}
	return bigInt{n}
}

// asInt returns an int or bool.
func asInt(v Value) (*big.Int, bool) {
	switch v := v.(type) {
	case boolean:
		if v {
			return big.NewInt(1), true
		}
		return new(big.Int), true
	case integer:
		return big.NewInt(int64(v)), true
	case bigInt:
		return v.v, true
	}
	return nil, false
}

// small returns an int or bool that fits int64.
func small(v Value) (int64, bool) {
	switch v := v.(type) {
	case integer:
		return int64(v), true
	case boolean:
		if v {
			return 1, true
		}
		return 0, true
	}
	return 0, false
}

func isNumber(v Value) bool {
	switch v.(type) {
	case boolean, integer, bigInt, float:
		return true
	}
	return false
}

// toFloat is Python's float(v) of a number.
func toFloat(v Value) float64 {
	switch v := v.(type) {
	case float:
		return float64(v)
	case bigInt:
		f, _ := new(big.Float).SetInt(v.v).Float64()
		if math.IsInf(f, 0) {
			raise(kindOverflow, "int too large to convert to float")
		}
		return f
	}
	n, _ := small(v)
	return float64(n)
}

func negate(v Value) Value {
	switch v := v.(type) {
	case *undefined:
		v.fail()
	case float:
		return -v
	}
	n, ok := asInt(v)
	if !ok {
		raise(kindType, "bad operand type for unary -: '%s'", v.typeName())
	}
	return normInt(new(big.Int).Neg(n))
}

func positive(v Value) Value {
	switch v := v.(type) {
	case *undefined:
		v.fail()
	case float, integer, bigInt:
		return v
	case boolean:
		n, _ := small(v)
		return integer(n)
	}
	raise(kindType, "bad operand type for unary +: '%s'", v.typeName())
	return nil
}

// arith is a binary operator on two numbers.
func arith(op string, l, r Value) Value {
	_, lf := l.(float)
	_, rf := r.(float)
	if lf || rf {
		return floatArith(op, toFloat(l), toFloat(r))
	}
	a, aok := small(l)
	b, bok := small(r)
	if aok && bok {
		if v := smallArith(op, a, b); v != nil {
			return v
		}
	}
	x, _ := asInt(l)
	y, _ := asInt(r)
	return bigArith(op, x, y)
}

// smallArith is nil where the result may not fit.
func smallArith(op string, a, b int64) Value {
	switch op {
	case "+":
		if s := a + b; (s > a) == (b > 0) {
			return integer(s)
		}
	case "-":
		if d := a - b; (d < a) == (b > 0) {
			return integer(d)
		}
	case "*":
		hi, lo := bits.Mul64(uint64(max(a, -a)), uint64(max(b, -b)))
		if hi == 0 && lo < 1<<63 && a != math.MinInt64 && b != math.MinInt64 {
			return integer(a * b)
		}
	case "%", "//":
		if b == 0 || a == math.MinInt64 {
			return nil
		}
		q, m := a/b, a%b
		if m != 0 && (m < 0) != (b < 0) {
			q, m = q-1, m+b
		}
		if op == "%" {
			return integer(m)
		}
		return integer(q)
	}
	return nil
}

func bigArith(op string, x, y *big.Int) Value {
	z := new(big.Int)
	switch op {
	case "+":
		return normInt(z.Add(x, y))
	case "-":
		return normInt(z.Sub(x, y))
	case "*":
		if x.BitLen()+y.BitLen() > maxIntBits+1 {
			raise(kindLimit, "integer of more than %d bits", maxIntBits)
		}
		return normInt(z.Mul(x, y))
	case "**":
		return intPow(x, y)
	}
	if y.Sign() == 0 {
		switch op {
		case "/":
			raise(kindZeroDiv, "division by zero")
		default:
			raise(kindZeroDiv, "integer division or modulo by zero")
		}
	}
	if op == "/" {
		f, _ := new(big.Rat).SetFrac(x, y).Float64()
		if math.IsInf(f, 0) {
			raise(kindOverflow, "integer division result too large for a float")
		}
		return float(f)
	}
	m := new(big.Int)
	z.QuoRem(x, y, m)
	if m.Sign() != 0 && m.Sign() != y.Sign() {
		z.Sub(z, big.NewInt(1))
		m.Add(m, y)
	}
	if op == "%" {
		return normInt(m)
	}
	return normInt(z)
}

func intPow(x, y *big.Int) Value {
	if y.Sign() < 0 {
		if x.Sign() == 0 {
			raise(kindZeroDiv, "0.0 cannot be raised to a negative power")
		}
		return floatArith("**", toFloat(normInt(x)), toFloat(normInt(y)))
	}
	if x.BitLen() > 1 && (!y.IsInt64() || y.Int64() > maxIntBits/int64(x.BitLen()-1)) {
		raise(kindLimit, "integer of more than %d bits", maxIntBits)
	}
	if x.BitLen() <= 1 && y.Sign() > 0 { // 0, 1 or -1: only the parity of y counts
		y = new(big.Int).Sub(big.NewInt(2), new(big.Int).SetUint64(uint64(y.Bit(0))))
	}
	return normInt(new(big.Int).Exp(x, y, nil))
}

func floatArith(op string, a, b float64) Value {
	switch op {
	case "+":
		return float(a + b)
	case "-":
		return float(a - b)
	case "*":
		return float(a * b)
	case "/":
		if b == 0 {
			raise(kindZeroDiv, "float division by zero")
		}
		return float(a / b)
	case "**":
		return floatPow(a, b)
	}
	if b == 0 {
		raise(kindZeroDiv, "float modulo")
	}
	q, m := floatDivmod(a, b)
	if op == "%" {
		return float(m)
	}
	return float(q)
}

// floatDivmod is CPython's float_divmod.
func floatDivmod(a, b float64) (q, m float64) {
	m = math.Mod(a, b)
	div := (a - m) / b
	if m != 0 {
		if (b < 0) != (m < 0) {
			m += b
			div--
		}
	} else {
		m = math.Copysign(0, b)
	}
	if div != 0 {
		q = math.Floor(div)
		if div-q > 0.5 {
			q++
		}
	} else {
		q = math.Copysign(0, a/b)
	}
	return q, m
}

func floatPow(a, b float64) Value {
	if a == 0 && b < 0 {
		raise(kindZeroDiv, "0.0 cannot be raised to a negative power")
	}
	if a < 0 && b != math.Trunc(b) && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
		raise(kindType, "complex numbers are not supported")
	}
	p := math.Pow(a, b)
	if math.IsInf(p, 0) && !math.IsInf(a, 0) && !math.IsInf(b, 0) {
		raise(kindOverflow, "(34, 'Numerical result out of range')")
	}
	return float(p)
}

// floatRepr is Python's repr of a float.
func floatRepr(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	s := strconv.FormatFloat(f, 'e', -1, 64)
	exp, _ := strconv.Atoi(s[strings.IndexByte(s, 'e')+1:])
	if exp < -4 || exp >= 16 {
		return s // Go writes at least two exponent digits, as Python does
	}
	s = strconv.FormatFloat(f, 'f', -1, 64)
	if strings.IndexByte(s, '.') < 0 {
		s += ".0"
	}
	return s
}

func intRepr(v Value) string {
	if n, ok := small(v); ok {
		return strconv.FormatInt(n, 10)
	}
	s := v.(bigInt).v.String()
	if len(strings.TrimPrefix(s, "-")) > maxIntDigits {
		raise(kindValue, "Exceeds the limit (%d digits) for integer string conversion", maxIntDigits)
	}
	return s
}

// parseInt is Python's int(s, base); false if s is not an integer.
func parseInt(s string, base int) (Value, bool) {
	if base != 0 && (base < 2 || base > 36) {
		raise(kindValue, "int() base must be >= 2 and <= 36, or 0")
	}
	s = asciiDigits(strings.TrimFunc(s, isSpace))
	neg := strings.HasPrefix(s, "-")
	if neg || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	if len(s) > 2 && s[0] == '0' {
		if b := map[byte]int{'b': 2, 'o': 8, 'x': 16}[s[1]|32]; b != 0 && (base == 0 || base == b) {
			s = strings.TrimPrefix(s[2:], "_")
			base = b
		}
	}
	digits := strings.ReplaceAll(s, "_", "")
	if base == 0 {
		if len(digits) > 1 && digits[0] == '0' && strings.Trim(digits, "0") != "" {
			return nil, false
		}
		base = 10
	}
	if digits == "" || strings.HasPrefix(s, "_") || strings.HasSuffix(s, "_") || strings.Contains(s, "__") ||
		digits[0] == '+' || digits[0] == '-' {
		return nil, false
	}
	if base&(base-1) != 0 && len(digits) > maxIntDigits {
		return nil, false
	}
	n, ok := new(big.Int).SetString(digits, base)
	if !ok {
		return nil, false
	}
	if neg {
		n.Neg(n)
	}
	return normInt(n), true
}

// parseFloat is Python's float(s); false if s is not a number.
func parseFloat(s string) (float64, bool) {
	s = asciiDigits(strings.TrimFunc(s, isSpace))
	for i := range s {
		c := s[i] | 32
		if c == 'x' || c == 'p' || s[i] == '_' && (i == 0 || i == len(s)-1 || !isDecimal(s[i-1]) || !isDecimal(s[i+1])) {
			return 0, false
		}
	}
	f, err := strconv.ParseFloat(strings.ReplaceAll(s, "_", ""), 64)
	if err != nil && !math.IsInf(f, 0) {
		return 0, false
	}
	return f, true
}

// intOf is the integer part of a finite float.
func intOf(f float64) (*big.Int, bool) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return nil, false
	}
	n, _ := big.NewFloat(math.Trunc(f)).Int(nil)
	return n, true
}
