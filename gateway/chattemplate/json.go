package chattemplate

import (
	"math"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
	"unsafe"

	"github.com/kvasir-ai/kvasir/internal/jsontext"
)

// FromJSON reads a JSON document as Python's json.loads does: key order is kept
// (of duplicate keys the last value wins, in the first one's place), integers have
// any size, and NaN, Infinity and -Infinity are accepted. Text that UTF-8 cannot
// hold, such as half a surrogate pair, is an error: no prompt could carry it. The
// value's texts are parts of b, which must not change while it is in use.
func FromJSON(b []byte) (v Value, err error) {
	return fromJSON(unsafe.String(unsafe.SliceData(b), len(b)))
}

func fromJSON(s string) (v Value, err error) {
	defer catch(&err)
	if !utf8.ValidString(s) {
		raise(kindJSON, "the document is not valid UTF-8")
	}
	p := jsonParser{s: s}
	p.space()
	v = p.value(0)
	p.space()
	if p.i < len(p.s) {
		p.fail("extra data")
	}
	return v, nil
}

type jsonParser struct {
	s string
	i int
}

func (p *jsonParser) fail(what string) {
	raise(kindJSON, "%s at byte %d", what, p.i)
}

func (p *jsonParser) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case ' ', '\t', '\n', '\r':
			p.i++
		default:
			return
		}
	}
}

func (p *jsonParser) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}

func (p *jsonParser) literal(word string) bool {
	if strings.HasPrefix(p.s[p.i:], word) {
		p.i += len(word)
		return true
	}
	return false
}

func (p *jsonParser) value(depth int) Value {
	checkDepth(depth)
	switch c := p.peek(); c {
	case '"':
		return str(p.str())
	case '{':
		return p.object(depth)
	case '[':
		return p.array(depth)
	}
	switch {
	case p.literal("null"):
		return none
	case p.literal("true"):
		return boolean(true)
	case p.literal("false"):
		return boolean(false)
	case p.literal("NaN"):
		return float(math.NaN())
	case p.literal("Infinity"):
		return float(math.Inf(1))
	case p.literal("-Infinity"):
		return float(math.Inf(-1))
	}
	return p.number()
}

func (p *jsonParser) object(depth int) Value {
	d := &dict{}
	p.i++
	if p.space(); p.peek() == '}' {
		p.i++
		return d
	}
	for {
		p.space()
		if p.peek() != '"' {
			p.fail("expected a property name in double quotes")
		}
		key := str(p.str())
		if p.space(); p.peek() != ':' {
			p.fail("expected ':'")
		}
		p.i++
		p.space()
		d.set(key, p.value(depth+1))
		p.space()
		switch p.peek() {
		case ',':
			p.i++
		case '}':
			p.i++
			return d
		default:
			p.fail("expected ',' or '}'")
		}
	}
}

func (p *jsonParser) array(depth int) Value {
	l := &list{}
	p.i++
	if p.space(); p.peek() == ']' {
		p.i++
		return l
	}
	for {
		p.space()
		l.items = append(l.items, p.value(depth+1))
		p.space()
		switch p.peek() {
		case ',':
			p.i++
		case ']':
			p.i++
			return l
		default:
			p.fail("expected ',' or ']'")
		}
	}
}

func (p *jsonParser) digits() int {
	start := p.i
	for p.i < len(p.s) && p.s[p.i] >= '0' && p.s[p.i] <= '9' {
		p.i++
	}
	return p.i - start
}

func (p *jsonParser) number() Value {
	start := p.i
	if p.peek() == '-' {
		p.i++
	}
	if p.peek() == '0' {
		p.i++
	} else if p.digits() == 0 {
		p.i = start
		p.fail("expected a value")
	}
	intEnd := p.i
	if p.peek() == '.' {
		p.i++
		if p.digits() == 0 {
			p.i = intEnd
		}
	}
	if mark := p.i; p.peek() == 'e' || p.peek() == 'E' {
		p.i++
		if p.peek() == '+' || p.peek() == '-' {
			p.i++
		}
		if p.digits() == 0 {
			p.i = mark
		}
	}
	word := p.s[start:p.i]
	if p.i > intEnd {
		f, _ := strconv.ParseFloat(word, 64) // out of range is an infinity, as in Python
		return float(f)
	}
	if n, err := strconv.ParseInt(word, 10, 64); err == nil {
		return integer(n)
	}
	if len(strings.TrimPrefix(word, "-")) > maxIntDigits {
		raise(kindValue, "integer of more than %d digits", maxIntDigits)
	}
	n, _ := new(big.Int).SetString(word, 10)
	return normInt(n)
}

// str reads a string at its opening quote.
func (p *jsonParser) str() string {
	p.i++
	start := p.i
	p.plain()
	if p.peek() == '"' {
		p.i++
		return p.s[start : p.i-1]
	}
	var b strings.Builder
	if end := strings.IndexByte(p.s[p.i:], '"'); end > 0 {
		b.Grow(p.i - start + end)
	}
	for {
		b.WriteString(p.s[start:p.i])
		if p.i >= len(p.s) {
			p.fail("unterminated string")
		}
		switch p.s[p.i] {
		case '"':
			p.i++
			return b.String()
		case '\\':
			p.i++
			b.WriteRune(p.escape())
		default:
			p.fail("control character in a string")
		}
		start = p.i
		p.plain()
	}
}

// plain skips the characters that stand for themselves.
func (p *jsonParser) plain() { p.i += jsontext.Plain(p.s[p.i:]) }

// escape reads what follows a backslash.
func (p *jsonParser) escape() rune {
	c := p.peek()
	p.i++
	switch c {
	case '"', '\\', '/':
		return rune(c)
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	case 'u':
		r := p.hex4()
		if utf16.IsSurrogate(r) {
			low := rune(-1)
			if p.literal(`\u`) {
				low = p.hex4()
			}
			if r = utf16.DecodeRune(r, low); r == utf8.RuneError {
				raise(kindValue, "half a surrogate pair at byte %d", p.i)
			}
		}
		return r
	}
	p.fail("invalid escape")
	return 0
}

func (p *jsonParser) hex4() rune {
	if p.i+4 > len(p.s) {
		p.fail("invalid \\u escape")
	}
	n, err := strconv.ParseUint(p.s[p.i:p.i+4], 16, 32)
	if err != nil {
		p.fail("invalid \\u escape")
	}
	p.i += 4
	return rune(n)
}
