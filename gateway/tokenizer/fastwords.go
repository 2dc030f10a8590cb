package tokenizer

import (
	"encoding/binary"
	"math/bits"
)

// fastWords describes words of ASCII letters that a split pattern surely makes,
// so that they are found by arithmetic on 16 bytes instead of by its scanner: an
// optional leading byte and letters, up to an ASCII byte that is no letter.
type fastWords struct {
	// lead is leadShift for a byte that may lead a word, 0 for a letter, and
	// noLead for one that shows nothing.
	lead [256]uint8
	// cased: of the letters only the first may be upper-case, one of them must
	// be lower-case, and the byte after them must not be an apostrophe. Words of
	// o200k end where the case changes, and may take a contraction.
	cased bool
}

const (
	leadShift = 8
	noLead    = 64
)

// newFastWords allows the given leading bytes; a nil function only a space.
func newFastWords(cased bool, leads func(b byte) bool) *fastWords {
	f := &fastWords{cased: cased}
	for i := range f.lead {
		switch b := byte(i); {
		case b < 0x80 && runeClass[b]&classLetter != 0:
			f.lead[i] = 0
		case b == ' ' || b < 0x80 && leads != nil && leads(b):
			f.lead[i] = leadShift
		default:
			f.lead[i] = noLead
		}
	}
	return f
}

// leadsCL100K is [^\r\n\p{L}\p{N}] in ASCII, but for the apostrophe of contractions.
func leadsCL100K(b byte) bool {
	return b != '\r' && b != '\n' && b != '\'' && runeClass[b]&(classLetter|classNumber) == 0
}

const (
	eachByte = 0x0101010101010101
	topBits  = 0x80 * eachByte
)

// word packs the word that the 16 bytes of b begin with; its size is 0 if they
// do not show that there is one.
func (f *fastWords) word(b []byte) (key packed, size int) {
	lead := uint(f.lead[b[0]])
	if lead == noLead {
		return packed{}, 0
	}
	lo, hi := binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint64(b[8:])
	least := lead/8 + 1
	stopLo, stopHi := notLetters(lo|0x20*eachByte, lo), notLetters(hi|0x20*eachByte, hi)
	stopLo &^= 0x80 * uint64(lead/8)
	if f.cased {
		if stopLo>>lead&0x80 != 0 {
			return packed{}, 0
		}
		stopLo, stopHi = notLetters(lo, lo), notLetters(hi, hi)
		// The first letter does not stop the word, but does not suffice if it is
		// upper-case.
		least += uint(stopLo >> lead >> 7 & 1)
		stopLo &^= 0x80<<lead | 0x80
	}
	if stopLo != 0 {
		size = bits.TrailingZeros64(stopLo) >> 3
	} else {
		size = 8 + bits.TrailingZeros64(stopHi)>>3
	}
	if uint(size) < least || size > maxPacked {
		return packed{}, 0
	}
	if end := b[size&15]; end >= 0x80 || f.cased && end == '\'' {
		return packed{}, 0
	}
	return packed{lo & lowMask[size&15], hi&highMask[size&15] | uint64(size)<<56}, size
}

// notLetters sets the top bit of each byte of folded that is not 'a' to 'z', or
// whose byte in x is not ASCII.
func notLetters(folded, x uint64) uint64 {
	y := folded &^ topBits
	atLeast := y + (0x80-'a')*eachByte
	beyond := y + (0x80-'z'-1)*eachByte
	return ^(atLeast &^ beyond &^ x) & topBits
}
