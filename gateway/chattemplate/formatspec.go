package chattemplate

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf8"
)

// formatSpec is Python's format specification mini-language:
// [[fill]align][sign][z][#][0][width][grouping][.precision][type].
type formatSpec struct {
	fill      string
	align     byte // < > = ^ or 0
	sign      byte // + - or space
	alt       bool
	width     int
	group     byte // , _ or 0
	precision int  // -1 if none
	kind      byte // 0 if none
}

func parseSpec(s string) formatSpec {
	f := formatSpec{sign: '-', precision: -1}
	whole := s
	isAlign := func(s string) bool { return s != "" && strings.IndexByte("<>=^", s[0]) >= 0 }
	if _, n := utf8.DecodeRuneInString(s); n > 0 && isAlign(s[n:]) {
		f.fill, f.align, s = s[:n], s[n], s[n+1:]
	} else if isAlign(s) {
		f.align, s = s[0], s[1:]
	}
	take := func(chars string) byte {
		if s != "" && strings.IndexByte(chars, s[0]) >= 0 {
			c := s[0]
			s = s[1:]
			return c
		}
		return 0
	}
	if c := take("+- "); c != 0 {
		f.sign = c
	}
	take("z")
	f.alt = take("#") != 0
	if take("0") != 0 && f.fill == "" {
		f.fill = "0"
		if f.align == 0 {
			f.align = '='
		}
	}
	if f.fill == "" {
		f.fill = " "
	}
	f.width = takeNumber(&s, 0)
	f.group = take(",_")
	if take(".") != 0 {
		if f.precision = takeNumber(&s, -1); f.precision < 0 {
			raise(kindValue, "Format specifier missing precision")
		}
	}
	if s != "" {
		f.kind, s = s[0], s[1:]
	}
	if s != "" {
		raise(kindValue, "Invalid format specifier '%s'", whole)
	}
	return f
}

// takeNumber reads decimal digits off s, or gives def.
func takeNumber(s *string, def int) int {
	n := 0
	for n < len(*s) && isDecimal((*s)[n]) {
		n++
	}
	if n == 0 {
		return def
	}
	v, err := strconv.Atoi((*s)[:n])
	*s = (*s)[n:]
	if err != nil || v > maxFormatSize {
		raise(kindValue, "Too many decimal digits in format string")
	}
	return v
}

// formatValue is Python's format(v, spec).
func (r *renderer) formatValue(v Value, spec string) string {
	if spec == "" {
		return r.str(v)
	}
	if isUndefined(v) {
		raise(kindType, "unsupported format string passed to Undefined.__format__")
	}
	f := parseSpec(spec)
	r.spend(f.width + max(f.precision, 0))
	if s, ok := text(v); ok {
		return f.text(s)
	}
	if b, ok := v.(boolean); ok && f.kind == 0 {
		n, _ := small(b)
		v = integer(n)
	}
	if n, ok := asInt(v); ok {
		if strings.IndexByte("\x00bcdnoxX", f.kind) >= 0 {
			return f.int(n)
		}
		v = float(toFloat(v))
	}
	if x, ok := v.(float); ok {
		return f.float(float64(x))
	}
	raise(kindType, "unsupported format string passed to %s.__format__", v.typeName())
	return ""
}

func (f *formatSpec) badKind(what string) {
	raise(kindValue, "Unknown format code '%c' for object of type '%s'", f.kind, what)
}

func (f *formatSpec) text(s string) string {
	switch {
	case f.kind != 0 && f.kind != 's':
		f.badKind("str")
	case f.sign != '-' || f.alt || f.group != 0:
		raise(kindValue, "Sign, '#' and grouping are not allowed in string format specifier")
	case f.align == '=' && f.fill != "0":
		raise(kindValue, "'=' alignment not allowed in string format specifier")
	}
	if f.precision >= 0 {
		s = s[:runeOffset(s, f.precision)]
	}
	if f.align == 0 || f.align == '=' {
		return f.pad(s, '<')
	}
	return f.pad(s, f.align)
}

// pad fills s up to the width.
func (f *formatSpec) pad(s string, align byte) string {
	n := f.width - utf8.RuneCountInString(s)
	if n <= 0 {
		return s
	}
	left := n
	switch align {
	case '<':
		left = 0
	case '^':
		left = n / 2
	}
	return strings.Repeat(f.fill, left) + s + strings.Repeat(f.fill, n-left)
}

// number lays out sign, prefix and digits.
func (f *formatSpec) number(neg bool, prefix, digits, rest string, groupSize int) string {
	sign := ""
	switch {
	case neg:
		sign = "-"
	case f.sign != '-':
		sign = string(f.sign)
	}
	head := sign + prefix
	if f.group != 0 {
		zeroWidth := 0
		if f.align == '=' && f.fill == "0" {
			zeroWidth = f.width - len(head) - len(rest)
		}
		digits = groupDigits(digits, f.group, groupSize, zeroWidth)
	}
	body := digits + rest
	if f.align == '=' {
		n := max(f.width-utf8.RuneCountInString(head+body), 0)
		return head + strings.Repeat(f.fill, n) + body
	}
	align := f.align
	if align == 0 {
		align = '>'
	}
	return f.pad(head+body, align)
}

// groupDigits separates groups of digits, filling with grouped zeros up to width.
func groupDigits(digits string, sep byte, size, width int) string {
	group := func(d string) string {
		first := (len(d)-1)%size + 1
		var b strings.Builder
		b.WriteString(d[:first])
		for i := first; i < len(d); i += size {
			b.WriteByte(sep)
			b.WriteString(d[i : i+size])
		}
		return b.String()
	}
	zeros := max(width*size/(size+1)-len(digits), 0)
	out := group(strings.Repeat("0", zeros) + digits)
	for len(out) < width {
		zeros++
		out = group(strings.Repeat("0", zeros) + digits)
	}
	return out
}

func (f *formatSpec) int(n *big.Int) string {
	if f.precision >= 0 {
		raise(kindValue, "Precision not allowed in integer format specifier")
	}
	base, prefix, groupSize := 10, "", 3
	switch f.kind {
	case 'c':
		if !n.IsInt64() || n.Int64() < 0 || !utf8.ValidRune(rune(min(n.Int64(), 0x110000))) {
			raise(kindOverflow, "%%c arg not in range(0x110000)")
		}
		g := *f
		g.kind = 0
		return g.text(string(rune(n.Int64())))
	case 'b':
		base, prefix, groupSize = 2, "0b", 4
	case 'o':
		base, prefix, groupSize = 8, "0o", 4
	case 'x', 'X':
		base, prefix, groupSize = 16, "0"+string(f.kind), 4
	}
	if !f.alt {
		prefix = ""
	}
	if base == 10 {
		intRepr(normInt(n)) // its size is bounded
	}
	digits := new(big.Int).Abs(n).Text(base)
	if f.kind == 'X' {
		digits = strings.ToUpper(digits)
	}
	return f.number(n.Sign() < 0, prefix, digits, "", groupSize)
}

func (f *formatSpec) float(x float64) string {
	neg := math.Signbit(x) && !math.IsNaN(x)
	abs := math.Abs(x)
	var s string
	switch f.kind {
	case 0:
		if f.precision < 0 {
			s = floatRepr(abs)
		} else {
			s = formatG(abs, f.precision, f.alt, true)
		}
	case 'e', 'E', 'f', 'F', 'g', 'G', 'n', '%':
		s = formatFloat(abs, f.kind, f.precision, f.alt)
	default:
		f.badKind("float")
	}
	end := strings.IndexFunc(s, func(c rune) bool { return !isDecimal(byte(c)) })
	if end < 0 {
		end = len(s)
	}
	if end == 0 { // inf and nan are not grouped
		g := *f
		g.group = 0
		return g.number(neg, "", s, "", 3)
	}
	return f.number(neg, "", s[:end], s[end:], 3)
}

// formatFloat writes a non-negative float by one of the letters e, f, g and %.
func formatFloat(x float64, kind byte, precision int, alt bool) string {
	if precision < 0 {
		precision = 6
	}
	var s string
	switch kind | 32 {
	case 'e':
		s = strconv.FormatFloat(x, 'e', precision, 64)
	case 'f':
		s = strconv.FormatFloat(x, 'f', precision, 64)
	case '%' | 32:
		s = strconv.FormatFloat(x*100, 'f', precision, 64)
	default:
		s = formatG(x, precision, alt, false)
	}
	switch {
	case math.IsInf(x, 0):
		s = "inf"
	case math.IsNaN(x):
		s = "nan"
	case alt && precision == 0 && kind|32 != 'g':
		mantissa, exp, found := strings.Cut(s, "e")
		s = mantissa + "."
		if found {
			s += "e" + exp
		}
	}
	if kind == '%' {
		s += "%"
	}
	if kind >= 'A' && kind <= 'Z' {
		s = strings.ToUpper(s)
	}
	return s
}

// formatG is general format: precision significant digits, fixed or with an exponent.
// As a repr it shows a fraction, and has the exponent one digit earlier.
func formatG(x float64, precision int, alt, asRepr bool) string {
	if math.IsInf(x, 0) || math.IsNaN(x) {
		return strings.ToLower(strings.Trim(strconv.FormatFloat(x, 'f', -1, 64), "+-"))
	}
	precision = max(precision, 1)
	s := strconv.FormatFloat(x, 'e', precision-1, 64)
	exp, _ := strconv.Atoi(s[strings.IndexByte(s, 'e')+1:])
	limit := precision
	if asRepr {
		limit--
	}
	trim := func(s string) string {
		if alt || strings.IndexByte(s, '.') < 0 {
			return s
		}
		return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
	}
	if exp < -4 || exp >= limit {
		mantissa, e, _ := strings.Cut(s, "e")
		return trim(mantissa) + "e" + e
	}
	s = trim(strconv.FormatFloat(x, 'f', max(precision-1-exp, 0), 64))
	if asRepr && strings.IndexByte(s, '.') < 0 {
		s += ".0"
	}
	return s
}
