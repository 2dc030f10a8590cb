package tokenizer

import "sort"

//go:generate sh -c "node internal/ucd/gen.mjs $UNICODE_PACKAGES > classes_tables.go"

// Character classes of split patterns, as bits so that one mask tests a whole
// bracket expression.
const (
	classUpper  = 1 << iota // \p{Lu} \p{Lt}
	classLower              // \p{Ll}
	classCase0              // \p{Lm} \p{Lo}: letters without case
	classMark               // \p{M}
	classNumber             // \p{N}
	classSpace              // \s
	classPunct              // \p{P}
	classSymbol             // \p{S}

	classLetter = classUpper | classLower | classCase0
)

// runeClass is flat: one load classifies any rune, and only the pages of
// scripts that occur are ever touched.
var runeClass classTable

func init() {
	for i, change := range classChanges {
		end := uint32(len(runeClass))
		if i+1 < len(classChanges) {
			end = classChanges[i+1] >> 8
		}
		if class := uint8(change); class != 0 {
			part := runeClass[change>>8 : end]
			for j := range part {
				part[j] = class
			}
		}
	}
}

// inTable looks r up in a table of changes that holds 0 and 1.
func inTable(changes []uint32, r rune) bool {
	i := sort.Search(len(changes), func(i int) bool { return changes[i]>>8 > uint32(r) })
	return i > 0 && changes[i-1]&1 != 0
}

func isWord(r rune) bool { return inTable(wordChanges[:], r) }

// isLateNumber says whether r is a number only since Unicode 17.
func isLateNumber(r rune) bool { return inTable(lateNumberChanges[:], r) }

func isHan(r rune) bool { return r >= 0x2E80 && inTable(hanChanges[:], r) }

// runeAt decodes the rune at s[i] of valid UTF-8.
func runeAt(s string, i int) (r rune, size int) {
	b := s[i]
	switch {
	case b < 0x80:
		return rune(b), 1
	case b < 0xE0:
		return rune(b&0x1F)<<6 | rune(s[i+1]&0x3F), 2
	case b < 0xF0:
		return rune(b&0x0F)<<12 | rune(s[i+1]&0x3F)<<6 | rune(s[i+2]&0x3F), 3
	}
	return rune(b&0x07)<<18 | rune(s[i+1]&0x3F)<<12 | rune(s[i+2]&0x3F)<<6 | rune(s[i+3]&0x3F), 4
}

// classAt classifies the rune at s[i] of valid UTF-8.
func classAt(s string, i int) (class uint8, size int) {
	if b := s[i]; b < 0x80 {
		return runeClass[b], 1
	}
	r, size := runeAt(s, i)
	return runeClass[r], size
}

// runeBefore is the width of the rune that ends at s[end] of valid UTF-8.
func runeBefore(s string, end int) int {
	n := 1
	for s[end-n]&0xC0 == 0x80 {
		n++
	}
	return n
}
