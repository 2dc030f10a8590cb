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
