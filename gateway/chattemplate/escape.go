package chattemplate

import (
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// unescape reads the body of a string literal as Jinja does: written in ASCII with
// backslash escapes, then decoded by Python's unicode-escape codec. A backslash
// before a non-ASCII character therefore escapes the backslash of that character's
// own escape, and leaves the rest of it as text.
func (l *lexer) unescape(s string) string {
	if strings.IndexByte(s, '\\') < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			i++
			continue
		}
		if i++; i >= len(s) {
			l.fail("\\ at end of string")
		}
		if s[i] >= utf8.RuneSelf {
			c, size := utf8.DecodeRuneInString(s[i:])
			b.WriteString(`\` + asciiEscape(c)[1:])
			i += size
			continue
		}
		i += l.escape(&b, s[i:])
	}
	return b.String()
}

// asciiEscape is c as Python's backslashreplace writes it.
func asciiEscape(c rune) string {
	switch {
	case c < 0x100:
		return fmt.Sprintf(`\x%02x`, c)
	case c < 0x10000:
		return fmt.Sprintf(`\u%04x`, c)
	}
	return fmt.Sprintf(`\U%08x`, c)
}

var simpleEscapes = map[byte]string{
	'\n': "", '\\': `\`, '\'': "'", '"': `"`, 'a': "\a", 'b': "\b", 'f': "\f",
	'n': "\n", 'r': "\r", 't': "\t", 'v': "\v",
}

// escape writes the escape whose character after the backslash is s[0], and returns
// its length without the backslash.
func (l *lexer) escape(b *strings.Builder, s string) int {
	if text, ok := simpleEscapes[s[0]]; ok {
		b.WriteString(text)
		return 1
	}
	digits := map[byte]int{'x': 2, 'u': 4, 'U': 8}[s[0]]
	switch {
	case s[0] >= '0' && s[0] <= '7':
		n := 1
		for n < 3 && n < len(s) && s[n] >= '0' && s[n] <= '7' {
			n++
		}
		c, _ := strconv.ParseUint(s[:n], 8, 32)
		b.WriteRune(rune(c))
		return n
	case s[0] == 'N':
		l.fail("\\N escapes are not supported; write the character itself")
	case digits > 0:
		if len(s) < 1+digits {
			l.fail("truncated \\%c escape", s[0])
		}
		c, err := strconv.ParseUint(s[1:1+digits], 16, 32)
		if err != nil {
			l.fail("truncated \\%c escape", s[0])
		}
		if !utf8.ValidRune(rune(c)) {
			l.fail("illegal Unicode character")
		}
		b.WriteRune(rune(c))
		return 1 + digits
	}
	b.WriteByte('\\')
	b.WriteByte(s[0])
	return 1
}
