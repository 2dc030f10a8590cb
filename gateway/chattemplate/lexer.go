package chattemplate

import (
	"math/big"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind int

const (
	tokEOF tokenKind = iota
	tokData
	tokVarBegin
	tokVarEnd
	tokBlockBegin
	tokBlockEnd
	tokName
	tokString
	tokNumber // integer or float; val says which
	tokOp
)

type token struct {
	kind tokenKind
	line int
	s    string // text of data, name, string or operator
	val  Value  // of a number
}

func (t token) is(kind tokenKind, s string) bool { return t.kind == kind && t.s == s }

func (t token) String() string {
	switch t.kind {
	case tokEOF:
		return "end of template"
	case tokVarEnd:
		return "end of print statement"
	case tokBlockEnd:
		return "end of statement block"
	case tokString:
		return "string"
	case tokNumber:
		return t.val.typeName()
	}
	return t.s
}

// lexer splits a template as Jinja's lexer does with trim_blocks and lstrip_blocks:
// the newline after a block tag goes, and so do blanks before one on its line.
type lexer struct {
	src       string
	pos       int
	line      int
	lineStart bool // the last match ended a line
	toks      []token
}

func lex(src string) []token {
	src = strings.ReplaceAll(strings.ReplaceAll(src, "\r\n", "\n"), "\r", "\n")
	l := &lexer{src: strings.TrimSuffix(src, "\n"), line: 1, lineStart: true}
	for l.pos < len(l.src) {
		l.root()
	}
	l.emit(tokEOF, "")
	return l.toks
}

func (l *lexer) fail(format string, args ...any) {
	raiseAt(l.line, kindSyntax, format, args...)
}

func (l *lexer) emit(kind tokenKind, s string) {
	l.toks = append(l.toks, token{kind: kind, line: l.line, s: s})
}

// advance consumes n bytes.
func (l *lexer) advance(n int) string {
	s := l.src[l.pos : l.pos+n]
	l.pos += n
	l.line += strings.Count(s, "\n")
	l.lineStart = strings.HasSuffix(s, "\n")
	return s
}

// root reads text up to the next tag, and the tag.
func (l *lexer) root() {
	rest := l.src[l.pos:]
	at := 0
	for {
		i := strings.IndexByte(rest[at:], '{')
		if i < 0 || at+i+1 >= len(rest) {
			l.data(rest)
			l.advance(len(rest))
			return
		}
		at += i
		if c := rest[at+1]; c == '%' || c == '{' || c == '#' {
			break
		}
		at++
	}
	tag := rest[at+1]
	sign := signAt(rest, at+2)
	l.data(l.trimBefore(rest[:at], sign, tag != '{'))
	l.advance(at)
	if n := rawBegin(l.src[l.pos:]); n > 0 {
		l.advance(n)
		l.raw()
		return
	}
	line := l.line
	l.advance(2 + len(sign))
	switch tag {
	case '#':
		l.comment()
	case '{':
		l.toks = append(l.toks, token{kind: tokVarBegin, line: line, s: "{{"})
		l.code(tokVarEnd)
	default:
		l.toks = append(l.toks, token{kind: tokBlockBegin, line: line, s: "{%"})
		l.code(tokBlockEnd)
	}
}

func (l *lexer) data(s string) {
	if s != "" {
		l.emit(tokData, s)
	}
}

// signAt is the whitespace control at s[i:], "-", "+" or "".
func signAt(s string, i int) string {
	if i < len(s) && (s[i] == '-' || s[i] == '+') {
		return s[i : i+1]
	}
	return ""
}

// trimBefore is the text before a tag, less what the tag's sign or lstrip_blocks removes.
func (l *lexer) trimBefore(text, sign string, lstrip bool) string {
	if sign == "-" {
		return strings.TrimRightFunc(text, isSpace)
	}
	if sign == "+" || !lstrip {
		return text
	}
	start := strings.LastIndexByte(text, '\n') + 1
	if (start > 0 || l.lineStart) && strings.TrimLeftFunc(text[start:], isSpace) == "" {
		return text[:start]
	}
	return text
}

func skipSpace(s string) int { return len(s) - len(strings.TrimLeftFunc(s, isSpace)) }

// rawBegin is the length of a {% raw %} tag at the start of s, or 0.
func rawBegin(s string) int {
	return keywordTag(s, "raw", func(rest string) int {
		if strings.HasPrefix(rest, "-%}") {
			return 3 + skipSpace(rest[3:])
		}
		if strings.HasPrefix(rest, "%}") {
			return 2
		}
		return 0
	})
}

// keywordTag is the length of a tag of one keyword whose end matches end, or 0.
func keywordTag(s, word string, end func(string) int) int {
	if !strings.HasPrefix(s, "{%") {
		return 0
	}
	i := 2 + len(signAt(s, 2))
	i += skipSpace(s[i:])
	if !strings.HasPrefix(s[i:], word) {
		return 0
	}
	i += len(word)
	i += skipSpace(s[i:])
	if n := end(s[i:]); n > 0 {
		return i + n
	}
	return 0
}

// tagEnd is the length of the end of a block (close "%}") or comment ("#}") at the
// start of s, with the whitespace that goes with it, or 0.
func tagEnd(s, end string) int {
	switch {
	case strings.HasPrefix(s, "+"+end):
		return 1 + len(end)
	case strings.HasPrefix(s, "-"+end):
		n := 1 + len(end)
		return n + skipSpace(s[n:])
	case strings.HasPrefix(s, end+"\n"):
		return len(end) + 1
	case strings.HasPrefix(s, end):
		return len(end)
	}
	return 0
}

func (l *lexer) raw() {
	rest := l.src[l.pos:]
	for at := 0; ; at++ {
		i := strings.Index(rest[at:], "{%")
		if i < 0 {
			if rest != "" { // as in Jinja, whose rule for this wants a character to fail at
				l.fail("Missing end of raw directive")
			}
			return
		}
		at += i
		n := keywordTag(rest[at:], "endraw", func(s string) int { return tagEnd(s, "%}") })
		if n > 0 {
			l.data(l.trimBefore(rest[:at], signAt(rest, at+2), true))
			l.advance(at + n)
			return
		}
	}
}

func (l *lexer) comment() {
	rest := l.src[l.pos:]
	i := strings.Index(rest, "#}")
	if i < 0 {
		if rest != "" {
			l.fail("Missing end of comment tag")
		}
		return
	}
	if i > 0 && (rest[i-1] == '-' || rest[i-1] == '+') {
		i--
	}
	l.advance(i + tagEnd(rest[i:], "#}"))
}

// code reads the tokens of a tag through its end.
func (l *lexer) code(end tokenKind) {
	var open []byte // closing brackets that are due
	for {
		rest := l.src[l.pos:]
		if rest == "" {
			return
		}
		if len(open) == 0 {
			if n := codeEnd(rest, end); n > 0 {
				l.emit(end, "")
				l.advance(n)
				return
			}
		}
		if n := skipSpace(rest); n > 0 {
			l.advance(n)
			continue
		}
		if l.number(rest) || l.word(rest) || l.quoted(rest) {
			continue
		}
		op := operatorAt(rest)
		switch op {
		case "":
			c, _ := utf8.DecodeRuneInString(rest)
			l.fail("unexpected char %s at %d", repr(str(string(c))), l.pos)
		case "{":
			open = append(open, '}')
		case "(":
			open = append(open, ')')
		case "[":
			open = append(open, ']')
		case "}", ")", "]":
			if len(open) == 0 {
				l.fail("unexpected '%s'", op)
			}
			if due := open[len(open)-1]; due != op[0] {
				l.fail("unexpected '%s', expected '%c'", op, due)
			}
			open = open[:len(open)-1]
		}
		l.emit(tokOp, op)
		l.advance(len(op))
	}
}

func codeEnd(s string, end tokenKind) int {
	if end == tokBlockEnd {
		return tagEnd(s, "%}")
	}
	if strings.HasPrefix(s, "-}}") {
		return 3 + skipSpace(s[3:])
	}
	if strings.HasPrefix(s, "}}") {
		return 2
	}
	return 0
}

func operatorAt(s string) string {
	if len(s) >= 2 {
		switch s[:2] {
		case "//", "**", "==", "!=", ">=", "<=":
			return s[:2]
		}
	}
	if strings.IndexByte("+-/*%~[](){}><=.:|,;", s[0]) >= 0 {
		return s[:1]
	}
	return ""
}

// word reads a name.
func (l *lexer) word(rest string) bool {
	n := 0
	for n < len(rest) {
		c, size := utf8.DecodeRuneInString(rest[n:])
		if c != '_' && !isAlnum(c) {
			break
		}
		n += size
	}
	if n == 0 {
		return false
	}
	if c, _ := utf8.DecodeRuneInString(rest); c != '_' && !unicode.IsLetter(c) {
		l.fail("Invalid character in identifier")
	}
	l.emit(tokName, rest[:n])
	l.advance(n)
	return true
}

// quoted reads a string literal.
func (l *lexer) quoted(rest string) bool {
	quote := rest[0]
	if quote != '\'' && quote != '"' {
		return false
	}
	for i := 1; i < len(rest); i++ {
		switch rest[i] {
		case '\\':
			i++
		case quote:
			l.emit(tokString, l.unescape(rest[1:i]))
			l.advance(i + 1)
			return true
		}
	}
	return false
}

// number reads an integer or float literal.
func (l *lexer) number(rest string) bool {
	word, val := intLiteral(rest)
	if l.pos == 0 || l.src[l.pos-1] != '.' {
		if w := floatLiteral(rest); w != "" {
			f, _ := strconv.ParseFloat(strings.ReplaceAll(w, "_", ""), 64)
			word, val = w, float(f)
		}
	}
	if word == "" {
		return false
	}
	l.toks = append(l.toks, token{kind: tokNumber, line: l.line, val: val})
	l.advance(len(word))
	return true
}

// digitRun is the length of (\d+_)*\d+ at the start of s.
func digitRun(s string, ok func(byte) bool) int {
	n := 0
	for n < len(s) && (ok(s[n]) || s[n] == '_' && n > 0 && s[n-1] != '_') {
		n++
	}
	if n > 0 && s[n-1] == '_' {
		n--
	}
	return n
}

func isDecimal(c byte) bool { return c >= '0' && c <= '9' }

func floatLiteral(s string) string {
	n := digitRun(s, isDecimal)
	if n == 0 {
		return ""
	}
	isFloat := false
	if n < len(s) && s[n] == '.' {
		if frac := digitRun(s[n+1:], isDecimal); frac > 0 {
			n += 1 + frac
			isFloat = true
		}
	}
	if n < len(s) && (s[n] == 'e' || s[n] == 'E') {
		e := n + 1
		if e < len(s) && (s[e] == '+' || s[e] == '-') {
			e++
		}
		if exp := digitRun(s[e:], isDecimal); exp > 0 {
			n = e + exp
			isFloat = true
		}
	}
	if !isFloat {
		return ""
	}
	return s[:n]
}

func intLiteral(s string) (string, Value) {
	if !isDecimal(s[0]) {
		return "", nil
	}
	n, base := 0, 10
	if len(s) > 2 && s[0] == '0' {
		ok := map[byte]func(byte) bool{
			'b': func(c byte) bool { return c == '0' || c == '1' },
			'o': func(c byte) bool { return c >= '0' && c <= '7' },
			'x': func(c byte) bool { return isDecimal(c) || c|32 >= 'a' && c|32 <= 'f' },
		}[s[1]|32]
		if ok != nil {
			body := strings.TrimPrefix(s[2:], "_")
			if run := digitRun(body, ok); run > 0 {
				base = map[byte]int{'b': 2, 'o': 8, 'x': 16}[s[1]|32]
				n = len(s) - len(body) + run
			}
		}
	}
	var digits string
	if n > 0 {
		digits = s[2:n]
	} else {
		ok := isDecimal
		if s[0] == '0' {
			ok = func(c byte) bool { return c == '0' }
		}
		n = digitRun(s, ok)
		digits = s[:n]
	}
	digits = strings.ReplaceAll(digits, "_", "")
	if len(digits) > maxIntDigits {
		raise(kindSyntax, "integer of more than %d digits", maxIntDigits)
	}
	v, _ := new(big.Int).SetString(digits, base)
	return s[:n], normInt(v)
}
