package tokenizer

// scanGPT2 is 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
func scanGPT2(s string, i int) int {
	b := s[i]
	if b == '\'' {
		if end := exactContraction(s, i); end > i {
			return end
		}
	}
	start := i
	if b == ' ' && i+1 < len(s) {
		i++
	}
	switch class, n := classAt(s, i); {
	case class&classLetter != 0:
		return skip(s, i+n, classLetter)
	case class&classNumber != 0:
		return skip(s, i+n, classNumber)
	case class&classSpace == 0:
		return skipOther(s, i+n, classSpace|classLetter|classNumber)
	}
	return spaceRun(s, start)
}

// scanDigitsGPT2 is GPT-2's pattern on what lies between digits, each digit
// being a piece: Sequence[Digits(individual_digits), ByteLevel(use_regex)], as
// SmolLM has it. Fused, because a digit only shows to the pattern as the end of
// its text: there \s+(?!\S) takes the whole run.
func scanDigitsGPT2(s string, i int) int {
	class, n := classAt(s, i)
	if class&classNumber != 0 {
		return i + n
	}
	if class&classSpace == 0 {
		return scanGPT2(s, i)
	}
	end := skip(s, i, classSpace)
	if end == len(s) {
		return end
	}
	if next, _ := classAt(s, end); next&classNumber != 0 {
		return end
	}
	last := end - runeBefore(s, end)
	if last > i {
		return last
	}
	if s[i] == ' ' {
		return scanGPT2(s, i)
	}
	return end
}
