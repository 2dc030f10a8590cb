package tokenizer

import "strings"

// digitAt says whether the rune at s[i] is a digit to the Digits pre-tokenizer,
// which goes by the numbers of Unicode 17, one version later than the patterns.
func digitAt(s string, i int) (digit bool, size int) {
	class, n := classAt(s, i)
	if class == 0 && n == 4 {
		r, _ := runeAt(s, i)
		return isLateNumber(r), n
	}
	return class&classNumber != 0, n
}

// scanDigits is the Digits pre-tokenizer: digits, one by one or in runs, and
// what lies between.
func scanDigits(individual bool) splitter {
	return func(s string, i int) int {
		digit, n := digitAt(s, i)
		i += n
		if digit && individual {
			return i
		}
		for i < len(s) {
			next, n := digitAt(s, i)
			if next != digit {
				break
			}
			i += n
		}
		return i
	}
}

// scanDigitsGPT2 is GPT-2's pattern on what lies between digits, each digit
// being a piece: Sequence[Digits(individual_digits), ByteLevel(use_regex)], as
// SmolLM has it. Fused, because a digit only shows to the pattern as the end of
// its text: there \s+(?!\S) takes the whole run.
func scanDigitsGPT2(s string, i int) int {
	digit, n := digitAt(s, i)
	if digit {
		return i + n
	}
	if class, _ := classAt(s, i); class&classSpace == 0 {
		return beforeLateNumber(s, i, scanGPT2(s, i))
	}
	end := skip(s, i, classSpace)
	if end == len(s) {
		return end
	}
	if digit, _ := digitAt(s, end); digit {
		return end
	}
	last := end - runeBefore(s, end)
	if last > i {
		return last
	}
	if s[i] == ' ' {
		return beforeLateNumber(s, i, scanGPT2(s, i))
	}
	return end
}

// beforeLateNumber ends a piece of GPT-2's pattern, to which a number of
// Unicode 17 is one of the other characters, where Digits would.
func beforeLateNumber(s string, i, end int) int {
	at := strings.IndexByte(s[i:end], 0xF0)
	if at < 0 {
		return end
	}
	for i += at; i < end; {
		digit, n := digitAt(s, i)
		if digit {
			return i
		}
		i += n
	}
	return end
}
