package chattemplate

import (
	"strings"
)

// format is str.format in the sandbox: fields are looked up as templates look up
// attributes. Markup escapes what it is given.
func (r *renderer) format(recv Value, s string, pos []Value, named *dict) string {
	f := formatter{r: r, pos: pos, named: named, auto: -1, escape: is[markup](recv)}
	return f.run(s, 2)
}

type formatter struct {
	r      *renderer
	pos    []Value
	named  *dict
	auto   int // next automatic field; -1 if none was used yet, -2 once fields are numbered
	escape bool
}

func (f *formatter) run(s string, depth int) string {
	if depth < 0 {
		raise(kindValue, "Max string recursion exceeded")
	}
	var b strings.Builder
	for s != "" {
		i := strings.IndexAny(s, "{}")
		if i < 0 {
			i = len(s)
		}
		f.r.spend(i)
		b.WriteString(s[:i])
		if s = s[i:]; s == "" {
			break
		}
		if strings.HasPrefix(s, "{{") || strings.HasPrefix(s, "}}") {
			b.WriteByte(s[0])
			s = s[2:]
			continue
		}
		if s[0] == '}' {
			raise(kindValue, "Single '}' encountered in format string")
		}
		end := fieldEnd(s)
		out := f.field(s[1:end], depth)
		f.r.spend(len(out))
		b.WriteString(out)
		s = s[end+1:]
	}
	return b.String()
}

// fieldEnd is the index of the brace that closes the field at the start of s.
func fieldEnd(s string) int {
	nested := 0
	bracket := false
	for i := 1; i < len(s); i++ {
		switch c := s[i]; {
		case c == '[' && nested == 0 && !strings.Contains(s[:i], ":"):
			bracket = true
		case c == ']':
			bracket = false
		case bracket:
		case c == '{':
			nested++
		case c == '}':
			if nested == 0 {
				return i
			}
			nested--
		}
	}
	if len(s) == 1 {
		raise(kindValue, "Single '{' encountered in format string")
	}
	raise(kindValue, "expected '}' before end of string")
	return 0
}

func (f *formatter) field(s string, depth int) string {
	name, spec, conversion := s, "", byte(0)
	bracket := false
	for i := 0; i < len(s); i++ {
		c := s[i]
		bracket = c == '[' || bracket && c != ']'
		if !bracket && (c == ':' || c == '!') {
			name, spec = s[:i], s[i:]
			break
		}
	}
	if strings.HasPrefix(spec, "!") {
		if len(spec) < 2 {
			raise(kindValue, "end of string while looking for conversion specifier")
		}
		conversion, spec = spec[1], spec[2:]
		if spec != "" && spec[0] != ':' {
			raise(kindValue, "expected ':' after conversion specifier")
		}
	}
	v := f.lookup(name)
	switch conversion {
	case 0:
	case 's':
		v = str(f.r.str(v))
	case 'r':
		v = str(repr(v))
	case 'a':
		v = str(asciiRepr(v))
	default:
		raise(kindValue, "Unknown conversion specifier %c", conversion)
	}
	out := f.r.formatValue(v, f.run(strings.TrimPrefix(spec, ":"), depth-1))
	if f.escape && !is[markup](v) {
		out = escapeHTML(out)
	}
	return out
}

// asciiRepr is Python's ascii(v).
func asciiRepr(v Value) string {
	var b strings.Builder
	for _, c := range repr(v) {
		if c < 0x80 {
			b.WriteRune(c)
		} else {
			b.WriteString(asciiEscape(c))
		}
	}
	return b.String()
}

// lookup reads a field such as 0.name[key].
func (f *formatter) lookup(field string) Value {
	end := strings.IndexAny(field, ".[")
	if end < 0 {
		end = len(field)
	}
	v := f.first(field[:end])
	for rest := field[end:]; rest != ""; {
		if rest[0] == '.' {
			end := strings.IndexAny(rest[1:], ".[") + 1
			if end == 0 {
				end = len(rest)
			}
			if end == 1 {
				raise(kindValue, "Empty attribute in format string")
			}
			v, rest = f.r.getAttr(v, rest[1:end]), rest[end:]
			continue
		}
		end := strings.IndexByte(rest, ']')
		if end < 2 {
			raise(kindValue, "Missing ']' in format string")
		}
		key := Value(str(rest[1:end]))
		if all(func(c rune) bool { return c < 0x80 && isDecimal(byte(c)) })(rest[1:end]) {
			key, _ = parseInt(rest[1:end], 10)
		}
		v, rest = f.r.getItem(v, key), rest[end+1:]
		if rest != "" && rest[0] != '.' && rest[0] != '[' {
			raise(kindValue, "Only '.' or '[' may follow ']' in format field specifier")
		}
	}
	return v
}

func (f *formatter) first(name string) Value {
	n, isInt := Value(nil), false
	if all(func(c rune) bool { return c < 0x80 && isDecimal(byte(c)) })(name) {
		n, isInt = parseInt(name, 10)
	}
	switch {
	case name == "":
		if f.auto == -2 {
			raise(kindValue, "cannot switch from manual field specification to automatic field numbering")
		}
		f.auto++
		n = intValue(f.auto)
	case isInt:
		if f.auto >= 0 {
			raise(kindValue, "cannot switch from manual field specification to automatic field numbering")
		}
		f.auto = -2
	default:
		if v := f.named.getStr(name); v != nil {
			return v
		}
		raise(kindKey, "%s", repr(str(name)))
	}
	i := mustInt(n)
	if i >= len(f.pos) {
		raise(kindIndex, "Replacement index %d out of range for positional args tuple", i)
	}
	return f.pos[i]
}
