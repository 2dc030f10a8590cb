package tokenizer

// SentencePiece writes a space as U+2581. Here text and pieces are kept the
// other way round, with a space for every U+2581, so that text needs no
// rewriting: the two are one symbol, and no piece holds a literal space.
const spaceMark = "▁"

const spaceMarkRune = '▁'

// encodeSPM appends the ids of s, one SentencePiece segment in which spaces
// stand for U+2581, cut wherever that is proven exact.
func (e *encoder) encodeSPM(s string) {
	for i := 0; i < len(s); {
		i = e.wordsASCII(s, i)
		end := e.t.nextCutSPM(s, i)
		e.word(s, i, end)
		i = end
	}
}

// wordsASCII encodes words from s[i] on as far as s is ASCII there, and says where
// the one starts that is left.
func (e *encoder) wordsASCII(s string, i int) int {
	b := view(s)
	for i+window+16 <= len(b) {
		starts := e.t.asciiCuts.find((*[window]byte)(b[i:]))
		if starts == 0 {
			break
		}
		i = e.shortWords(s, i, starts)
	}
	return i
}

// nextCutSPM is where the word that starts at s[i] ends.
func (t *Tokenizer) nextCutSPM(s string, i int) int {
	last, n := spmRune(s, i)
	for i += n; i < len(s); i += n {
		var r rune
		if r, n = spmRune(s, i); r == ' ' && t.splitSpaces || !t.cuts.joined(last, r, s[i-1], s[i]) {
			return i
		}
		last = r
	}
	return i
}

// asciiCuts holds 1 for two ASCII characters, the first times 128 plus the second,
// between which SentencePiece text may be cut.
type asciiCuts [1 << 14]uint8

func (t *Tokenizer) cutsASCII() *asciiCuts {
	c := new(asciiCuts)
	for i := range c {
		last, next := i>>7, i&127
		if next == ' ' && t.splitSpaces || !t.cuts.joined(rune(last), rune(next), byte(last), byte(next)) {
			c[i] = 1
		}
	}
	return c
}

// find has a bit for every character of b before which it may be cut, as far as b
// is ASCII.
func (c *asciiCuts) find(b *[window]byte) (starts uint64) {
	last := b[0]
	if last >= 0x80 {
		return 0
	}
	for i := 1; i < window; i++ {
		next := b[i]
		if next >= 0x80 {
			break
		}
		starts |= uint64(c[uint(last)<<7&(1<<14-1)|uint(next)&127]) << i
		last = next
	}
	return starts
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
