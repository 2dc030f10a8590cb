package tokenizer

import "unicode/utf8"

// cutFilter proves cuts. Text may be cut between two runes if no merged piece
// spans them: then no merge on one side ever depends on the other, and the two
// sides merge alone. Short words repeat, so a long word cut in parts is mostly
// looked up instead of merged.
//
// A set bit only costs a cut. ASCII neighbours are exact; others share a Bloom
// filter; pieces that begin or end inside a rune (byte-level ones may) block by
// the bytes at the boundary.
type cutFilter struct {
	ascii [128][2]uint64
	bytes [256][4]uint64
	bloom [1 << bloomBits / 64]uint64
}

const bloomBits = 19

func bloomIndex(a, b rune) (word int, bit uint64) {
	h := (uint64(a)<<21 | uint64(b)) * 0x9E3779B97F4A7C15 >> (64 - bloomBits)
	return int(h >> 6), 1 << (h & 63)
}

// learn records what one piece spans.
func (f *cutFilter) learn(piece []byte) {
	for i := 1; i < len(piece); i++ {
		if !utf8.RuneStart(piece[i]) {
			continue
		}
		a, aSize := utf8.DecodeLastRune(piece[:i])
		b, bSize := utf8.DecodeRune(piece[i:])
		switch {
		case a == utf8.RuneError && aSize == 1 || b == utf8.RuneError && bSize == 1:
			f.bytes[piece[i-1]][piece[i]>>6] |= 1 << (piece[i] & 63)
		case a < 128 && b < 128:
			f.ascii[a][b>>6] |= 1 << (b & 63)
		default:
			word, bit := bloomIndex(a, b)
			f.bloom[word] |= bit
		}
	}
}

// joined says whether some piece may span a, whose last byte is given, and b,
// whose first byte is given. Without a filter, it may.
func (f *cutFilter) joined(a, b rune, last, first byte) bool {
	if f == nil {
		return true
	}
	if a < 128 && b < 128 {
		return f.ascii[a][b>>6]>>(b&63)&1 != 0
	}
	if f.bytes[last][first>>6]>>(first&63)&1 != 0 {
		return true
	}
	word, bit := bloomIndex(a, b)
	return f.bloom[word]&bit != 0
}
