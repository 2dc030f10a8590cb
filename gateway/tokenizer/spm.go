package tokenizer

import "unicode/utf8"

// SentencePiece writes a space as U+2581. Here text and pieces are kept the
// other way round, with a space for every U+2581, so that text needs no
// rewriting: the two are one symbol, and no piece holds a literal space.
const spaceMark = "▁"

const spaceMarkRune = '▁'

// cutFilter proves cuts: pieces a|b need no common merge if no merged piece
// holds the rune a followed by the rune b. For ASCII it is exact; beyond, it is
// a Bloom filter, whose false positives only cost a cut.
type cutFilter struct {
	ascii [128][2]uint64
	bloom []uint64
}

const bloomBits = 20

func newCutFilter() *cutFilter { return &cutFilter{bloom: make([]uint64, 1<<bloomBits/64)} }

func bloomIndex(a, b rune) (word int, bit uint64) {
	h := (uint64(a)<<21 | uint64(b)) * 0x9E3779B97F4A7C15 >> (64 - bloomBits)
	return int(h >> 6), 1 << (h & 63)
}

// learn records the neighbours inside one piece.
func (f *cutFilter) learn(piece []byte) {
	last := rune(-1)
	for len(piece) > 0 {
		r, n := utf8.DecodeRune(piece)
		piece = piece[n:]
		if last >= 0 {
			if last < 128 && r < 128 {
				f.ascii[last][r>>6] |= 1 << (r & 63)
			} else {
				word, bit := bloomIndex(last, r)
				f.bloom[word] |= bit
			}
		}
		last = r
	}
}

// joined says whether some piece may hold a followed by b.
func (f *cutFilter) joined(a, b rune) bool {
	if f == nil {
		return true
	}
	if a < 128 && b < 128 {
		return f.ascii[a][b>>6]>>(b&63)&1 != 0
	}
	word, bit := bloomIndex(a, b)
	return f.bloom[word]&bit != 0
}

// encodeSPM appends the ids of s, one SentencePiece segment in which spaces
// stand for U+2581, cut wherever that is proven exact.
func (e *encoder) encodeSPM(s string) {
	f, split := e.t.cuts, e.t.splitSpaces
	start := 0
	last, i := spmRune(s, 0)
	for i < len(s) {
		r, n := rune(s[i]), 1
		if r >= 0x80 {
			r, n = spmRune(s, i)
		}
		if r == ' ' && split || !f.joined(last, r) {
			e.word(s, start, i)
			start = i
		}
		last = r
		i += n
	}
	e.word(s, start, i)
}

// spmRune is the rune at s[i], with U+2581 read as a space.
func spmRune(s string, i int) (rune, int) {
	r, n := runeAt(s, i)
	if r == spaceMarkRune {
		r = ' '
	}
	return r, n
}

// symbolsSPM starts a SentencePiece word: one symbol a rune, or its bytes if
// the vocabulary lacks it.
func (e *encoder) symbolsSPM(word string) {
	e.ids = e.ids[:0]
	unknown := false
	for i := 0; i < len(word); {
		r, n := spmRune(word, i)
		id := uint32(none)
		if r < 128 {
			id = e.t.asciiID[r]
		} else {
			id = e.t.findMergeable(view(word[i : i+n]))
		}
		switch {
		case id != none:
			e.ids = append(e.ids, id)
		case e.t.byteFallback:
			for _, b := range view(word[i : i+n]) {
				e.ids = append(e.ids, e.t.byteID[b])
			}
		case e.t.unknown != none && !(unknown && e.t.fuseUnknown):
			e.ids = append(e.ids, e.t.unknown)
		}
		unknown = id == none
		i += n
	}
}
