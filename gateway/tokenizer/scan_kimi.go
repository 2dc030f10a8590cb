package tokenizer

import "sync"

var kimiLetters = sync.OnceValue(func() *classTable {
	t := runeClass
	for r := range t {
		if isHan(rune(r)) {
			t[r] = 0
		}
	}
	return &t
})

// scanKimiK2 is o200k's pattern with \p{Han}+ first and no Han in its words:
//
//	[\p{Han}]+|[^\r\n\p{L}\p{N}]?[UPPER&&[^\p{Han}]]*[LOWER&&[^\p{Han}]]+(CONTRACTION)?|
//	[^\r\n\p{L}\p{N}]?[UPPER&&[^\p{Han}]]+[LOWER&&[^\p{Han}]]*(CONTRACTION)?|
//	\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// o200k's word scanner runs on a table in which Han are no letters.
func scanKimiK2(s string, i int) int {
	r, n := runeAt(s, i)
	if isHan(r) {
		for i += n; i < len(s); i += n {
			if r, n = runeAt(s, i); !isHan(r) {
				break
			}
		}
		return i
	}
	class := runeClass[r]
	if class&classNumber != 0 {
		return skipNumbers(s, i, 3)
	}
	if end := casedWord(kimiLetters(), s, i, class, n); end > i {
		if end < len(s) && s[end] == '\'' {
			return contraction(s, end)
		}
		return end
	}
	next := i + n
	if s[i] == ' ' && next < len(s) {
		if after, width := classAt(s, next); after&(classSpace|classLetter|classNumber) == 0 {
			return skipNewlines(s, skipOther(s, next+width, classSpace|classLetter|classNumber))
		}
	}
	if class&classSpace != 0 {
		return lineRun(s, i)
	}
	return skipNewlines(s, skipOther(s, next, classSpace|classLetter|classNumber))
}
