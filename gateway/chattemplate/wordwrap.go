package chattemplate

import (
	"strings"
	"unicode/utf8"
)

// wordwrap wraps each line as Python's textwrap does with its whitespace kept.
func wordwrap(r *renderer, v Value, a []Value) Value {
	width, sep := intOr(a[0], 79), "\n"
	if a[2] != nil && a[2] != none {
		sep = mustText(a[2])
	}
	s, ok := text(v)
	if !ok {
		failIfUndefined(v)
		raise(kindType, "'%s' object has no attribute 'splitlines'", v.typeName())
	}
	if width <= 0 && s != "" {
		raise(kindValue, "invalid width %d (must be > 0)", width)
	}
	breakLong := a[1] == nil || truth(a[1])
	hyphens := a[3] == nil || truth(a[3])
	var lines []string
	for _, line := range splitLines(s, false) {
		r.spend(len(line) + itemCost)
		lines = append(lines, r.join(wrapLine(r, line, width, breakLong, hyphens), sep))
	}
	return str(r.join(lines, sep))
}

// wrapLine is textwrap.wrap of one line.
func wrapLine(r *renderer, s string, width int, breakLong, hyphens bool) []string {
	chunks := wrapChunks(s, hyphens)
	var lines []string
	for len(chunks) > 0 {
		if len(lines) > 0 && isBlank(chunks[0]) {
			if chunks = chunks[1:]; len(chunks) == 0 {
				break
			}
		}
		var line []string
		used := 0
		for len(chunks) > 0 {
			n := utf8.RuneCountInString(chunks[0])
			if used+n > width {
				break
			}
			line, used, chunks = append(line, chunks[0]), used+n, chunks[1:]
		}
		if len(chunks) > 0 && utf8.RuneCountInString(chunks[0]) > width {
			line, chunks = longWord(line, chunks, width-used, breakLong, hyphens)
		}
		if n := len(line); n > 0 && isBlank(line[n-1]) {
			line = line[:n-1]
		}
		if len(line) > 0 {
			r.spend(itemCost)
			lines = append(lines, strings.Join(line, ""))
		}
	}
	return lines
}

func isBlank(s string) bool { return strings.Trim(s, wrapSpace) == "" }

// longWord puts as much of a word that fits no line as there is room for.
func longWord(line, chunks []string, room int, breakLong, hyphens bool) ([]string, []string) {
	word := chunks[0]
	room = max(room, 1)
	switch {
	case breakLong:
		end := runeOffset(word, room)
		if hyphens && utf8.RuneCountInString(word) > room {
			if i := strings.LastIndexByte(word[:end], '-'); i > 0 && strings.Trim(word[:i], "-") != "" {
				end = i + 1
			}
		}
		return append(line, word[:end]), append([]string{word[end:]}, chunks[1:]...)
	case len(line) == 0:
		return append(line, word), chunks[1:]
	}
	return line, chunks
}

const wrapSpace = "\t\n\x0b\x0c\r "

// wrapChunks splits a line where it may be broken: at whitespace and, if hyphens are
// break points, after hyphens between letters and around dashes.
func wrapChunks(s string, hyphens bool) []string {
	var out []string
	add := func(n int) {
		if n > 0 {
			out = append(out, s[:n])
			s = s[n:]
		}
	}
	for s != "" {
		n := len(s) - len(strings.TrimLeft(s, wrapSpace))
		if n > 0 {
			add(n)
			continue
		}
		end := strings.IndexAny(s, wrapSpace)
		if end < 0 {
			end = len(s)
		}
		if !hyphens {
			add(end)
			continue
		}
		for word := end; word > 0; {
			n := hyphenBreak(s[:word])
			add(n)
			word -= n
		}
	}
	return out
}

// hyphenBreak is the length of the first piece of a word.
func hyphenBreak(w string) int {
	for i := 0; i < len(w); i++ {
		if w[i] != '-' {
			continue
		}
		run := len(w[i:]) - len(strings.TrimLeft(w[i:], "-"))
		before, _ := utf8.DecodeLastRuneInString(w[:i])
		after, _ := utf8.DecodeRuneInString(w[i+run:])
		if run >= 2 && i+run < len(w) && wordChar(after) {
			if i == 0 {
				return run
			}
			if wordPunct(before) {
				return i
			}
		}
		if run == 1 && i > 0 && i+1 < len(w) && letter(before) && letter(after) && letterPair(w, i) {
			return i + 1
		}
		i += run - 1
	}
	return len(w)
}

func letter(c rune) bool { return (c == '_' || isAlnum(c)) && !isDigit(c) }

func wordChar(c rune) bool { return c == '_' || isAlnum(c) }

func wordPunct(c rune) bool { return wordChar(c) || strings.ContainsRune(`!"'&.,?`, c) }

// letterPair reports whether the hyphen at w[i:] stands in a word: two letters before
// it, or a letter and a hyphen, and two characters of a word after it.
func letterPair(w string, i int) bool {
	_, n := utf8.DecodeLastRuneInString(w[:i])
	first, _ := utf8.DecodeLastRuneInString(w[:i-n])
	_, m := utf8.DecodeRuneInString(w[i+1:])
	second, _ := utf8.DecodeRuneInString(w[i+1+m:])
	return (letter(first) || first == '-') && i > n && (letter(second) || second == '-') && i+1+m < len(w)
}
