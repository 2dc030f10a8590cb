package tokenizer

import "slices"

// prune drops the merges that no text can lead to: files converted from rank files
// list every way to part a piece, twice as many merges as pieces or more.
//
// Say that in some text a merge of left and right happens. Until then nothing
// crossed the borders of the two or what lies between them, so what happened inside
// is what happens to their text on its own: of what may be merged there, the best
// of the whole is the best of the part. So the text of the two on its own leads to
// the same merge, as its last. Of the merges that make a piece, only the last one
// of the piece's own text can ever happen; none, if that does not become the piece.
//
// It also says which pieces their own text becomes.
func (d *definition) prune(t *Tokenizer) (proven []bool) {
	proven = make([]bool, len(t.vocab.spans))
	e := t.encoders.Get().(*encoder)
	defer t.encoders.Put(e)
	safe := d.mergesSpell(t)
	last := make([]mergeRule, len(t.vocab.spans)) // of the pieces that are pruned
	for id := range t.vocab.spans {
		piece := t.vocab.bytes(uint32(id))
		if len(piece) == 0 || len(piece) > maxScanned || !t.mergeable(uint32(id)) || t.vocab.id(piece) != uint32(id) {
			continue
		}
		left, right := e.mergeOnce(text(piece))
		proven[id] = len(e.ids) == 1 && e.ids[0] == uint32(id)
		last[id] = mergeRule{left: none}
		if proven[id] && left != none {
			last[id] = mergeRule{left, right, uint32(id), t.merges.rank(left, right)}
		}
	}
	if !safe {
		return proven
	}
	kept := make([]mergeRule, 0, t.vocab.count)
	for _, r := range d.merges {
		if l := last[r.merged]; l == (mergeRule{}) || l == r {
			kept = append(kept, r)
		}
	}
	d.merges = renumber(kept)
	t.merges = newMergeTable(d.merges)
	return proven
}

// mergesSpell says whether all merges join texts, as prune takes them to. One that
// joins a byte-fallback or the unknown piece joins what is not its text.
func (d *definition) mergesSpell(t *Tokenizer) bool {
	stands := make([]bool, len(t.vocab.spans)) // for other text than its own
	mark := func(id uint32) {
		if int(id) < len(stands) {
			stands[id] = true
		}
	}
	mark(t.unknown)
	if t.byteFallback {
		for _, id := range t.byteID {
			mark(id)
		}
	}
	for _, r := range d.merges {
		left, right, merged := t.vocab.bytes(r.left), t.vocab.bytes(r.right), t.vocab.bytes(r.merged)
		if stands[r.left] || stands[r.right] || stands[r.merged] || len(left)+len(right) != len(merged) ||
			string(left) != string(merged[:len(left)]) || string(right) != string(merged[len(left):]) {
			return false
		}
	}
	return true
}

// mergeOnce merges a word of at most maxScanned bytes into e.ids, and says which
// two symbols were joined last; none if none were.
func (e *encoder) mergeOnce(word string) (left, right uint32) {
	if e.t.spm {
		e.symbolsSPM(word)
	} else {
		e.symbolsBytes(word)
	}
	e.ids, left, right = mergeScan(e.t.merges, e.ids, e.firstRanks())
	return left, right
}

// renumber makes ranks dense. Equal ones, of which the leftmost goes first, stay equal.
func renumber(rules []mergeRule) []mergeRule {
	slices.SortStableFunc(rules, func(a, b mergeRule) int { return int(a.rank) - int(b.rank) })
	rank := uint32(0)
	for i, old := 0, uint32(0); i < len(rules); i++ {
		if i > 0 && rules[i].rank != old {
			rank++
		}
		old, rules[i].rank = rules[i].rank, rank
	}
	return rules
}
