package chattemplate

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// isSpace is Python's str.isspace of a character.
func isSpace(c rune) bool {
	return c >= 0x1c && c <= 0x1f || unicode.IsSpace(c)
}

// isLineBreak tells where str.splitlines splits.
func isLineBreak(c rune) bool {
	switch c {
	case '\n', '\r', '\v', '\f', 0x1c, 0x1d, 0x1e, 0x85, 0x2028, 0x2029:
		return true
	}
	return false
}

func isLower(c rune) bool {
	return unicode.Is(unicode.Lower, c) || unicode.Is(unicode.Other_Lowercase, c)
}

func isUpper(c rune) bool {
	return unicode.Is(unicode.Upper, c) || unicode.Is(unicode.Other_Uppercase, c)
}

func isTitle(c rune) bool { return unicode.Is(unicode.Lt, c) }

func isCased(c rune) bool { return isLower(c) || isUpper(c) || isTitle(c) }

func isDigit(c rune) bool { return unicode.Is(unicode.Nd, c) || unicode.Is(digitsNotDecimal, c) }

func isNumeric(c rune) bool {
	return unicode.Is(unicode.N, c) || unicode.Is(numericLetters, c)
}

func isAlnum(c rune) bool { return unicode.IsLetter(c) || isDigit(c) || isNumeric(c) }

// asciiDigits replaces decimal digits of all scripts, as int() and float() read them.
func asciiDigits(s string) string {
	if isASCII(s) {
		return s
	}
	return strings.Map(func(c rune) rune {
		if c < utf8.RuneSelf || !unicode.Is(unicode.Nd, c) {
			return c
		}
		return '0' + decimalValue(c)
	}, s)
}

// decimalValue is the value of a decimal digit: they come in tens, starting at zero.
func decimalValue(c rune) rune {
	for _, r := range unicode.Nd.R16 {
		if rune(r.Lo) <= c && c <= rune(r.Hi) {
			return (c - rune(r.Lo)) % 10
		}
	}
	for _, r := range unicode.Nd.R32 {
		if rune(r.Lo) <= c && c <= rune(r.Hi) {
			return (c - rune(r.Lo)) % 10
		}
	}
	return 0
}

func mapCase(s string, full map[rune]string, simple func(rune) rune) string {
	var b strings.Builder
	b.Grow(len(s))
	for _, c := range s {
		if m, ok := full[c]; ok {
			b.WriteString(m)
		} else {
			b.WriteRune(simple(c))
		}
	}
	return b.String()
}

func upper(s string) string {
	if isASCII(s) {
		return strings.ToUpper(s)
	}
	return mapCase(s, fullUpper, unicode.ToUpper)
}

func lower(s string) string {
	if isASCII(s) {
		return strings.ToLower(s)
	}
	var b strings.Builder
	b.Grow(len(s))
	for i, c := range s {
		writeLower(&b, s, i, c)
	}
	return b.String()
}

// writeLower writes the lower case of c at s[i:]. A sigma that ends a word has a form
// of its own.
func writeLower(b *strings.Builder, s string, i int, c rune) {
	if c == 'Σ' {
		if finalSigma(s[:i], s[i+len("Σ"):]) {
			b.WriteRune('ς')
		} else {
			b.WriteRune('σ')
		}
		return
	}
	if m, ok := fullLower[c]; ok {
		b.WriteString(m)
		return
	}
	b.WriteRune(unicode.ToLower(c))
}

func finalSigma(before, after string) bool {
	before = strings.TrimRightFunc(before, caseIgnorable)
	last, _ := utf8.DecodeLastRuneInString(before)
	if before == "" || !isCased(last) {
		return false
	}
	after = strings.TrimLeftFunc(after, caseIgnorable)
	first, _ := utf8.DecodeRuneInString(after)
	return after == "" || !isCased(first)
}

// caseIgnorable is Unicode's property of that name.
func caseIgnorable(c rune) bool {
	switch c {
	case '\'', '.', ':', '^', '`', 0xa8, 0xad, 0xaf, 0xb4, 0xb7, 0xb8, 0x2018, 0x2019, 0x2024, 0x2027, 0x387, 0x55f, 0x5f4,
		0xfe13, 0xfe52, 0xfe55, 0xff07, 0xff0e, 0xff1a:
		return true
	}
	return unicode.In(c, unicode.Mn, unicode.Me, unicode.Cf, unicode.Lm, unicode.Sk)
}

func title(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	inWord := false
	for i, c := range s {
		if inWord {
			writeLower(&b, s, i, c)
		} else {
			writeTitle(&b, c)
		}
		inWord = isCased(c)
	}
	return b.String()
}

func writeTitle(b *strings.Builder, c rune) {
	if m, ok := fullTitle[c]; ok {
		b.WriteString(m)
		return
	}
	b.WriteRune(unicode.ToTitle(c))
}

func capitalize(s string) string {
	var b strings.Builder
	b.Grow(len(s))
	for i, c := range s {
		if i == 0 {
			writeTitle(&b, c)
		} else {
			writeLower(&b, s, i, c)
		}
	}
	return b.String()
}

func swapcase(s string) string {
	var b strings.Builder
	for i, c := range s {
		switch {
		case isUpper(c):
			writeLower(&b, s, i, c)
		case isLower(c):
			b.WriteString(upper(string(c)))
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

func casefold(s string) string {
	return mapCase(s, caseFold, func(c rune) rune {
		if m := fullLower[c]; m != "" {
			return c
		}
		return unicode.ToLower(c)
	})
}
