package tokenizer

// A splitter is a split pattern compiled by hand: it returns the end of the
// piece that starts at s[i]. s is valid UTF-8 and i < len(s). Text that the
// pattern does not match forms pieces of its own (Hugging Face's "Isolated").
type splitter func(s string, i int) int

// skip advances over runes that have a class of mask.
func skip(s string, i int, mask uint8) int {
	for i < len(s) {
		class, n := classAt(s, i)
		if class&mask == 0 {
			return i
		}
		i += n
	}
	return i
}

// skipOther advances over runes that have no class of mask.
func skipOther(s string, i int, mask uint8) int {
	for i < len(s) {
		class, n := classAt(s, i)
		if class&mask != 0 {
			return i
		}
		i += n
	}
	return i
}

// skipNumbers advances over at most limit numbers.
func skipNumbers(s string, i, limit int) int {
	for ; limit > 0 && i < len(s); limit-- {
		class, n := classAt(s, i)
		if class&classNumber == 0 {
			break
		}
		i += n
	}
	return i
}

// skipNewlines is [\r\n]* at s[i].
func skipNewlines(s string, i int) int {
	for i < len(s) && (s[i] == '\n' || s[i] == '\r') {
		i++
	}
	return i
}

// spaceRun is \s+(?!\S)|\s+ at s[i], which is a space: the last space of a run
// is left to the piece that follows it.
func spaceRun(s string, i int) int {
	end := skip(s, i, classSpace)
	if end == len(s) {
		return end
	}
	if last := end - runeBefore(s, end); last > i {
		return last
	}
	return end
}

// lineRun is \s*[\r\n]+|\s+(?!\S)|\s+ at s[i], which is a space: a run that
// holds newlines ends after its last one.
func lineRun(s string, i int) int {
	newline, last, end := -1, i, i
	for end < len(s) {
		class, n := classAt(s, end)
		if class&classSpace == 0 {
			break
		}
		if b := s[end]; b == '\n' || b == '\r' {
			newline = end
		}
		last = end
		end += n
	}
	switch {
	case newline >= 0:
		return newline + 1
	case end == len(s) || last == i:
		return end
	}
	return last
}

// contraction is (?i:'s|'t|'re|'ve|'m|'ll|'d) at s[i], which is an apostrophe:
// its end, or i if there is none. U+017F folds to s.
func contraction(s string, i int) int {
	if i+1 >= len(s) {
		return i
	}
	second := byte(0)
	if i+2 < len(s) {
		second = s[i+2] | 0x20
	}
	switch s[i+1] | 0x20 {
	case 's', 't', 'm', 'd':
		return i + 2
	case 'r', 'v':
		if second == 'e' {
			return i + 3
		}
	case 'l':
		if second == 'l' {
			return i + 3
		}
	}
	if s[i+1] == 0xC5 && i+2 < len(s) && s[i+2] == 0xBF {
		return i + 3
	}
	return i
}

// exactContraction is 's|'t|'re|'ve|'m|'ll|'d, lower case only.
func exactContraction(s string, i int) int {
	end := contraction(s, i)
	for j := i + 1; j < end; j++ {
		if s[j] < 'a' || s[j] > 'z' {
			return i
		}
	}
	return end
}
