package tokenizer

import "unicode/utf8"

// runeStarts lets the merging of a byte-level word start from characters where
// that is proven to change nothing, with a half or a third of the symbols.
//
// A character may stand as one symbol from the start if its bytes merge into one
// piece, if no merged piece spans either of its borders with a part of a character
// (then nothing merges with a part of this one), and if whatever joins it has a
// higher rank than its own merges: then these are done when one that joins it is
// the best there is, and until then they change nothing around it.
type runeStarts struct {
	ids   []uint32       // of characters of two or three bytes that are one piece
	split [256][4]uint64 // bytes around borders that pieces span with a part of a character
}

// newRuneStarts is nil if merges make what no merge can make of text.
func (d *definition) newRuneStarts(t *Tokenizer) *runeStarts {
	r := &runeStarts{ids: make([]uint32, 1<<16)}
	for i := range r.ids {
		r.ids[i] = none
	}
	joined := make([]uint32, len(t.vocab.spans)) // the least rank that joins a piece
	for i := range joined {
		joined[i] = noRank
	}
	seen := make([]bool, len(t.vocab.spans))
	for _, m := range d.merges {
		if !t.mergeable(m.merged) {
			return nil
		}
		joined[m.left], joined[m.right] = min(joined[m.left], m.rank), min(joined[m.right], m.rank)
		if !seen[m.merged] {
			seen[m.merged] = true
			r.learn(t.vocab.bytes(m.merged))
		}
	}
	for id := range t.vocab.spans {
		piece := t.vocab.bytes(uint32(id))
		c, n := utf8.DecodeRune(piece)
		if n != len(piece) || n != 2 && n != 3 {
			continue
		}
		if made, rank := t.mergeRune(piece); made == uint32(id) && rank < joined[id] {
			r.ids[c] = made
		}
	}
	return r
}

// mergeRune merges the two or three bytes of a character into one piece, and says
// the highest rank that this took; none if they become several.
func (t *Tokenizer) mergeRune(b []byte) (id, rank uint32) {
	var ids [3]uint32
	for i := range b {
		if ids[i] = t.byteID[b[i]]; ids[i] == none {
			return none, 0
		}
	}
	m := t.merges
	left, right := ids[0], ids[1]
	first := m.rank(left, right)
	if len(b) == 3 {
		second := m.rank(ids[1], ids[2])
		if first <= second && first != noRank {
			left, right = m.merged(first, left, right), ids[2]
		} else if second != noRank {
			first, right = second, m.merged(second, ids[1], ids[2])
		}
		rank = first
		first = m.rank(left, right)
	}
	if first == noRank || rank == noRank {
		return none, 0
	}
	return m.merged(first, left, right), max(first, rank)
}

// learn records the borders of characters that piece spans with a part of one.
func (r *runeStarts) learn(piece []byte) {
	for i := 1; i < len(piece); i++ {
		if !utf8.RuneStart(piece[i]) {
			continue
		}
		_, before := utf8.DecodeLastRune(piece[:i])
		_, after := utf8.DecodeRune(piece[i:])
		if before == 1 && piece[i-1] >= utf8.RuneSelf || after == 1 && piece[i] >= utf8.RuneSelf {
			r.split[piece[i-1]][piece[i]>>6] |= 1 << (piece[i] & 63)
		}
	}
}

// at is the id of the character that starts at word[i], not in ASCII, and its
// size; none if it has to be merged from its bytes.
func (r *runeStarts) at(word string, i int) (id uint32, size int) {
	c, n := runeAt(word, i)
	if c >= rune(len(r.ids)) {
		return none, n
	}
	if i > 0 && r.splits(word[i-1], word[i]) || i+n < len(word) && r.splits(word[i+n-1], word[i+n]) {
		return none, n
	}
	return r.ids[c], n
}

func (r *runeStarts) splits(last, first byte) bool {
	return r.split[last][first>>6]>>(first&63)&1 != 0
}
