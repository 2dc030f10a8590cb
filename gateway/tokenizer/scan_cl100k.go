package tokenizer

// scanCL100K returns
//
//	(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[LETTERS]+|\p{N}{1,numbers}|
//	 ?[^\s LETTERS \p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// where letters is \p{L} (cl100k, Llama 3, Qwen 2) or \p{L}\p{M} (Qwen 3.5).
func scanCL100K(letters uint8, numbers int) splitter {
	return func(s string, i int) int {
		b := s[i]
		if b == '\'' {
			if end := contraction(s, i); end > i {
				return end
			}
		}
		class, n := classAt(s, i)
		if class&letters != 0 {
			return skip(s, i+n, letters)
		}
		if class&classNumber != 0 {
			return skipNumbers(s, i, numbers)
		}
		next := i + n
		if next < len(s) && b != '\r' && b != '\n' {
			after, width := classAt(s, next)
			if after&letters != 0 {
				return skip(s, next+width, letters)
			}
			if b == ' ' && after&(classSpace|classNumber) == 0 {
				return skipNewlines(s, skipOther(s, next+width, classSpace|letters|classNumber))
			}
		}
		if class&classSpace != 0 {
			return lineRun(s, i)
		}
		return skipNewlines(s, skipOther(s, next, classSpace|letters|classNumber))
	}
}
