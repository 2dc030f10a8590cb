package chattemplate

import (
	"math/big"
	"strings"
	"unicode/utf8"
)

// printf is Python's s % arg.
func (r *renderer) printf(recv Value, s string, arg Value) string {
	p := percent{r: r, escape: is[markup](recv), args: []Value{arg}}
	switch a := arg.(type) {
	case *tuple:
		p.args = a.items
	case *dict:
		p.named, p.allowUnused = a, true
	case *list, *rangeObj, *undefined:
		p.allowUnused = true // Python takes anything subscriptable for a mapping
	}
	out := p.run(s)
	if p.next < len(p.args) && !p.allowUnused {
		raise(kindType, "not all arguments converted during string formatting")
	}
	return out
}

type percent struct {
	r           *renderer
	args        []Value
	next        int
	named       *dict
	allowUnused bool
	escape      bool
}

func (p *percent) arg() Value {
	if p.next >= len(p.args) {
		raise(kindType, "not enough arguments for format string")
	}
	p.next++
	return p.args[p.next-1]
}

func (p *percent) run(s string) string {
	var b strings.Builder
	for {
		i := strings.IndexByte(s, '%')
		if i < 0 {
			p.r.spend(len(s))
			b.WriteString(s)
			return b.String()
		}
		p.r.spend(i)
		b.WriteString(s[:i])
		var out string
		out, s = p.directive(s[i+1:])
		p.r.spend(len(out))
		b.WriteString(out)
	}
}

// directive formats the directive after a percent sign, and returns what follows it.
func (p *percent) directive(s string) (out, rest string) {
	incomplete := func() {
		if s == "" {
			raise(kindValue, "incomplete format")
		}
	}
	var named Value
	if strings.HasPrefix(s, "(") {
		end, nested := 1, 1
		for ; end < len(s) && nested > 0; end++ {
			switch s[end] {
			case '(':
				nested++
			case ')':
				nested--
			}
		}
		if nested > 0 {
			raise(kindValue, "incomplete format key")
		}
		if p.named == nil {
			raise(kindType, "format requires a mapping")
		}
		key := str(s[1 : end-1])
		if named = p.named.get(key); named == nil {
			raise(kindKey, "%s", repr(key))
		}
		s = s[end:]
	}
	f := formatSpec{fill: " ", sign: '-', precision: -1, align: '>'}
	zero := false
	for ; s != "" && strings.IndexByte("-+ #0", s[0]) >= 0; s = s[1:] {
		switch s[0] {
		case '-':
			f.align = '<'
		case '+':
			f.sign = '+'
		case ' ':
			if f.sign != '+' {
				f.sign = ' '
			}
		case '#':
			f.alt = true
		case '0':
			zero = true
		}
	}
	f.width = p.size(&s)
	if f.width < 0 {
		f.align, f.width = '<', -f.width
	}
	if strings.HasPrefix(s, ".") {
		s = s[1:]
		f.precision = max(p.size(&s), 0)
	}
	for s != "" && strings.IndexByte("hlL", s[0]) >= 0 {
		s = s[1:]
	}
	incomplete()
	c, n := utf8.DecodeRuneInString(s)
	s = s[n:]
	if c == '%' {
		return "%", s
	}
	v := named
	if v == nil {
		v = p.arg()
	}
	p.r.spend(f.width + max(f.precision, 0))
	if zero && f.align != '<' && strings.ContainsRune("diouxXeEfFgG", c) {
		f.fill, f.align = "0", '='
	}
	return p.convert(f, c, v), s
}

// size reads a width or precision, or takes it from the arguments at a star.
func (p *percent) size(s *string) int {
	if !strings.HasPrefix(*s, "*") {
		return takeNumber(s, 0)
	}
	*s = (*s)[1:]
	n, ok := asInt(p.arg())
	if !ok {
		raise(kindType, "* wants int")
	}
	if !n.IsInt64() || n.CmpAbs(big.NewInt(maxFormatSize)) > 0 {
		raise(kindOverflow, "width or precision too large")
	}
	return int(n.Int64())
}

func (p *percent) convert(f formatSpec, c rune, v Value) string {
	cut := func(s string) string {
		if f.precision >= 0 {
			s = s[:runeOffset(s, f.precision)]
		}
		return f.pad(s, f.align)
	}
	switch c {
	case 's':
		s := p.r.str(v)
		if p.escape && !is[markup](v) {
			s = escapeHTML(s)
		}
		return cut(s)
	case 'r':
		return cut(repr(v))
	case 'a':
		return cut(asciiRepr(v))
	case 'c':
		if s, ok := text(v); ok && utf8.RuneCountInString(s) == 1 {
			return f.pad(s, f.align)
		}
		n, ok := asInt(v)
		if !ok || !n.IsInt64() || n.Int64() > utf8.MaxRune || !utf8.ValidRune(rune(n.Int64())) {
			raise(kindType, "%%c requires int or char")
		}
		return f.pad(string(rune(n.Int64())), f.align)
	case 'd', 'i', 'u', 'o', 'x', 'X':
		return p.integer(f, byte(c), v)
	case 'e', 'E', 'f', 'F', 'g', 'G':
		failIfUndefined(v)
		x, ok := 0.0, isNumber(v)
		if !ok {
			raise(kindType, "must be real number, not %s", v.typeName())
		}
		x = toFloat(v)
		f.kind = byte(c)
		return f.float(x)
	}
	raise(kindValue, "unsupported format character %s", repr(str(string(c))))
	return ""
}

func (p *percent) integer(f formatSpec, c byte, v Value) string {
	n, ok := asInt(v)
	if x, isFloat := v.(float); isFloat && strings.IndexByte("diu", c) >= 0 {
		w, isInt := intOf(float64(x))
		if !isInt {
			raise(kindValue, "cannot convert float NaN or infinity to integer")
		}
		n, ok = w, true
	}
	if !ok {
		failIfUndefined(v)
		raise(kindType, "%%%c format: a real number is required, not %s", c, v.typeName())
	}
	base, prefix := 10, ""
	switch c {
	case 'o':
		base, prefix = 8, "0o"
	case 'x', 'X':
		base, prefix = 16, "0"+string(c)
	}
	if base == 10 {
		intRepr(normInt(n)) // its size is bounded
	}
	digits := new(big.Int).Abs(n).Text(base)
	if c == 'X' {
		digits = strings.ToUpper(digits)
	}
	if n := f.precision - len(digits); n > 0 {
		digits = strings.Repeat("0", n) + digits
	}
	if !f.alt {
		prefix = ""
	}
	return f.number(n.Sign() < 0, prefix, digits, "", 3)
}
