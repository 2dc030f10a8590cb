package chattemplate

import (
	"strings"
	"unicode"
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
	chunks := wrapChunks(r, s, hyphens)
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

func isBlank(s string) bool { return strings.TrimFunc(s, isSpace) == "" }

// longWord puts as much of a word that fits no line as there is room for.
func longWord(line, chunks []string, room int, breakLong, hyphens bool) ([]string, []string) {
	word := chunks[0]
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

// wrapChunks splits a line where it may be broken: at whitespace and, if hyphens are
// break points, where textwrap's regular expression ends a piece of a word.
func wrapChunks(r *renderer, s string, hyphens bool) []string {
	r.spend(5 * len(s))
	text := []rune(s)
	var out []string
	for at := 0; at < len(text); {
		end := at + 1
		switch {
		case isWrapSpace(text[at]):
			for end < len(text) && isWrapSpace(text[end]) {
				end++
			}
		case hyphens:
			end = pieceEnd(r, text, at)
		default:
			for end < len(text) && !isWrapSpace(text[end]) {
				end++
			}
		}
		out = append(out, string(text[at:end]))
		at = end
	}
	return out
}

func isWrapSpace(c rune) bool { return strings.ContainsRune("\t\n\x0b\x0c\r ", c) }

// pieceEnd is where the piece of a word at text[at:] ends: at the end of a dash between
// words, after a hyphen between letters, before a dash, or at the end of the word.
func pieceEnd(r *renderer, text []rune, at int) int {
	if end := dashEnd(r, text, at); end > 0 {
		return end
	}
	for i := at + 1; i < len(text) && !isWrapSpace(text[i]); i++ {
		if text[i] == '-' && letterAt(text, i-1) &&
			(letterAt(text, i-2) || runeAt(text, i-2) == '-' && letterAt(text, i-3)) &&
			letterAt(text, i+1) &&
			(letterAt(text, i+2) || runeAt(text, i+2) == '-' && letterAt(text, i+3)) {
			return i + 1
		}
		if dashEnd(r, text, i) > 0 {
			return i
		}
		if i+1 == len(text) || isWrapSpace(text[i+1]) {
			return i + 1
		}
	}
	return at + 1
}

// dashEnd is the end of two or more hyphens between words at text[i:], or 0.
func dashEnd(r *renderer, text []rune, i int) int {
	end := i
	for runeAt(text, end) == '-' {
		end++
	}
	r.scan(scanPerStep * (end - i)) // a long run of hyphens is gone over from each of them
	before, after := runeAt(text, i-1), runeAt(text, end)
	if end-i < 2 || !isWord(after) || !isWord(before) && !strings.ContainsRune(`!"'&.,?`, before) {
		return 0
	}
	return end
}

// runeAt is text[i], or a control character beyond the ends.
func runeAt(text []rune, i int) rune {
	if i < 0 || i >= len(text) {
		return 0
	}
	return text[i]
}

func isWord(c rune) bool { return c == '_' || isAlnum(c) }

func letterAt(text []rune, i int) bool {
	c := runeAt(text, i)
	return isWord(c) && !unicode.Is(unicode.Nd, c)
}
