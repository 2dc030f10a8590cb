package tokenizer

// DeepSeek V3 splits in three stages: \p{N}{1,3}, then [一-龥぀-ゟ゠-ヿ]+, then
//
//	[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|
//	\s*[\r\n]+|\s+(?!\S)|\s+
//
// each on every piece of the one before. scanDeepSeekOuter is the first two
// fused: their characters are disjoint.
func scanDeepSeekOuter(s string, i int) int {
	if end := skipNumbers(s, i, 3); end > i {
		return end
	}
	if end := skipEastAsian(s, i); end > i {
		return end
	}
	for i < len(s) {
		r, n := runeAt(s, i)
		if runeClass[r]&classNumber != 0 || isEastAsian(r) {
			break
		}
		i += n
	}
	return i
}

// scanNumbers is \p{N}{1,limit}.
func scanNumbers(limit int) splitter {
	return func(s string, i int) int {
		if end := skipNumbers(s, i, limit); end > i {
			return end
		}
		return skipOther(s, i, classNumber)
	}
}

// scanEastAsian is [一-龥぀-ゟ゠-ヿ]+.
func scanEastAsian(s string, i int) int {
	if end := skipEastAsian(s, i); end > i {
		return end
	}
	for i < len(s) {
		r, n := runeAt(s, i)
		if isEastAsian(r) {
			break
		}
		i += n
	}
	return i
}

func isEastAsian(r rune) bool {
	return r >= 0x3040 && (r <= 0x30FF || r >= 0x4E00 && r <= 0x9FA5)
}

func skipEastAsian(s string, i int) int {
	for i < len(s) {
		r, n := runeAt(s, i)
		if !isEastAsian(r) {
			break
		}
		i += n
	}
	return i
}

// scanDeepSeekRest gathers what the pattern does not match (numbers, controls,
// unassigned code points) into one piece.
func scanDeepSeekRest(s string, i int) int {
	end := matchDeepSeek(s, i)
	if end > i {
		return end
	}
	for i < len(s) {
		_, n := classAt(s, i)
		if i += n; i == len(s) || matchDeepSeek(s, i) > i {
			break
		}
	}
	return i
}

func matchDeepSeek(s string, i int) int {
	const letters, marks = classLetter | classMark, classPunct | classSymbol
	class, n := classAt(s, i)
	next := i + n
	if class&marks != 0 && s[i] < 0x80 {
		if end := skipASCIILetters(s, next); end > next {
			return end
		}
	}
	if class&letters != 0 {
		return skip(s, next, letters)
	}
	b := s[i]
	if class&marks != 0 {
		return skipNewlines(s, skip(s, next, marks))
	}
	if next < len(s) && b != '\r' && b != '\n' {
		after, width := classAt(s, next)
		if after&letters != 0 {
			return skip(s, next+width, letters)
		}
		if b == ' ' && after&marks != 0 {
			return skipNewlines(s, skip(s, next+width, marks))
		}
	}
	if class&classSpace != 0 {
		return lineRun(s, i)
	}
	return i
}

func skipASCIILetters(s string, i int) int {
	for i < len(s) && (s[i]|0x20)-'a' < 26 {
		i++
	}
	return i
}
