package tokenizer

// SentencePiece writes a space as U+2581. Here text and pieces are kept the
// other way round, with a space for every U+2581, so that text needs no
// rewriting: the two are one symbol, and no piece holds a literal space.
const spaceMark = "▁"

const spaceMarkRune = '▁'

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
		if r == ' ' && split || !f.joined(last, r, s[i-1], s[i]) {
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
