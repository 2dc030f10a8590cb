package tokenizer

const (
	classesUpper = classUpper | classCase0 | classMark // [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]
	classesLower = classLower | classCase0 | classMark // [\p{Ll}\p{Lm}\p{Lo}\p{M}]
)

// scanO200K returns
//
//	[^\r\n\p{L}\p{N}]?UPPER*LOWER+(CONTRACTION)?|[^\r\n\p{L}\p{N}]?UPPER+LOWER*(CONTRACTION)?|
//	\p{N}{1,numbers}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
//
// of GPT-4o and gpt-oss; Tekken has no contractions and single numbers.
func scanO200K(numbers int, contractions bool) splitter {
	return func(s string, i int) int {
		class, n := classAt(s, i)
		if class&classNumber != 0 {
			return skipNumbers(s, i, numbers)
		}
		b := s[i]
		if end := casedWord(&runeClass, s, i, class, n); end > i {
			if contractions && end < len(s) && s[end] == '\'' {
				return contraction(s, end)
			}
			return end
		}
		next := i + n
		if b == ' ' && next < len(s) {
			if after, width := classAt(s, next); after&(classSpace|classLetter|classNumber) == 0 {
				return trailer(s, skipOther(s, next+width, classSpace|classLetter|classNumber))
			}
		}
		if class&classSpace != 0 {
			return lineRun(s, i)
		}
		return trailer(s, skipOther(s, next, classSpace|classLetter|classNumber))
	}
}

// classTable gives every rune's class.
type classTable [0x110000]uint8

// casedWord is the two word alternatives at s[i], whose class and width are
// given: its end, or i. A mark may serve as the one leading character or as
// part of the word, so both readings are tried, in the order of the pattern.
func casedWord(t *classTable, s string, i int, class uint8, n int) int {
	if class&classLetter != 0 {
		if end := t.lowerEnd(s, i); end > i {
			return end
		}
		return t.upperEnd(s, i)
	}
	lead := i + n
	leads := s[i] != '\r' && s[i] != '\n' && lead < len(s)
	if leads {
		if end := t.lowerEnd(s, lead); end > lead {
			return end
		}
	}
	if class&classMark != 0 {
		return t.lowerEnd(s, i)
	}
	if leads {
		if end := t.upperEnd(s, lead); end > lead {
			return end
		}
	}
	return i
}

// lowerEnd is UPPER*LOWER+ at s[i] with backtracking: its end, or i.
func (t *classTable) lowerEnd(s string, i int) int {
	end := i
	for i < len(s) {
		r, n := runeAt(s, i)
		class := t[r]
		if class&classesUpper == 0 {
			if class&classLower != 0 {
				return t.lowerRun(s, i+n)
			}
			break
		}
		i += n
		if class&classesLower != 0 {
			end = i
		}
	}
	return end
}

func (t *classTable) lowerRun(s string, i int) int {
	for i < len(s) {
		r, n := runeAt(s, i)
		if t[r]&classesLower == 0 {
			break
		}
		i += n
	}
	return i
}

func (t *classTable) upperEnd(s string, i int) int {
	for i < len(s) {
		r, n := runeAt(s, i)
		if t[r]&classesUpper == 0 {
			break
		}
		i += n
	}
	return i
}

// trailer is [\r\n/]* at s[i].
func trailer(s string, i int) int {
	for i < len(s) && (s[i] == '\n' || s[i] == '\r' || s[i] == '/') {
		i++
	}
	return i
}
