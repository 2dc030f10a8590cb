package tokenizer

import (
	"fmt"
	"unicode/utf8"
)

// definition is what every file format is read into, before build proves and
// indexes it. Pieces are still spelled as in the file.
type definition struct {
	vocab  *vocab
	merges []mergeRule
	added  []addedToken

	byteLevel    bool // pieces spell bytes as GPT-2's printable characters
	markSpaces   bool // SentencePiece: spaces become U+2581
	splitSpaces  bool
	stages       []stage
	normalizer   normalizer
	decoder      decoderRules
	ignoreMerges bool
	byteFallback bool
	fuseUnknown  bool
	unknown      uint32

	prefix, suffix []uint32

	bos      uint32
	eos      []uint32
	specials map[string]string
	template string
}

// mergeRule joins two pieces; the lower rank goes first.
type mergeRule struct{ left, right, merged, rank uint32 }

func newDefinition(capacity int) *definition {
	return &definition{vocab: newVocab(capacity), unknown: none, bos: none, specials: map[string]string{}}
}

// build makes the Tokenizer of a definition.
func (d *definition) build() (*Tokenizer, error) {
	if d.byteLevel == d.markSpaces {
		return nil, fmt.Errorf("%w: neither byte-level nor SentencePiece-style BPE", ErrUnsupported)
	}
	t := &Tokenizer{
		spm: d.markSpaces, splitSpaces: d.splitSpaces, ignoreMerges: d.ignoreMerges, fuseUnknown: d.fuseUnknown, unknown: d.unknown,
		normalizer: d.normalizer, decoder: d.decoder, prefix: d.prefix, suffix: d.suffix,
		bos: d.bos, eos: d.eos, specials: d.specials, template: d.template,
		added: map[string]addedToken{}, unmergeable: map[uint32]bool{},
	}
	t.stages = fuse(d.stages)
	if t.normalizer.nfc {
		t.suspects = nfcSuspects()
	}
	t.encoders.New = func() any { return &encoder{t: t} }
	d.respell(t)
	if err := d.singles(t); err != nil {
		return nil, err
	}
	if err := d.rules(t); err != nil {
		return nil, err
	}
	proven := d.prune(t)
	t.merges.bytes = t.rankBytes()
	d.addedTokens(t)
	t.proveWords(proven)
	d.proveCuts(t)
	if t.spm {
		t.asciiCuts = t.cutsASCII()
	} else {
		t.runes = d.newRuneStarts(t)
	}
	d.outPieces(t)
	t.cache = newSegmentCache()
	t.newlines = cutAny
	for _, s := range t.stages {
		t.newlines &= s.cuts
	}
	if t.spm && t.cuts == nil || !t.spm && len(t.stages) == 0 {
		t.newlines = 0
	}
	return t, nil
}

// respell turns the file's spelling into text: bytes for byte-level pieces,
// spaces for U+2581. A piece that spells no text (a literal space in a
// byte-level or SentencePiece vocabulary) can never come out of a merge; it
// keeps its spelling and is not found by Encode.
func (d *definition) respell(t *Tokenizer) {
	t.vocab = newVocab(d.vocab.count)
	t.vocab.spans = make([]span, len(d.vocab.spans))
	var buf []byte
	var rest []uint32
	for id := range d.vocab.spans {
		piece := d.vocab.bytes(uint32(id))
		if len(piece) == 0 {
			continue
		}
		var ok bool
		if buf, ok = d.spell(buf[:0], piece); ok {
			t.vocab.add(buf, uint32(id))
		} else {
			rest = append(rest, uint32(id))
		}
	}
	for _, id := range rest {
		t.unmergeable[id] = true
		if piece := d.vocab.bytes(id); t.vocab.id(piece) == none {
			t.vocab.add(piece, id)
		}
	}
}

// spell appends the text of a piece; false if it spells none.
func (d *definition) spell(dst, piece []byte) ([]byte, bool) {
	if d.byteLevel {
		return appendByteLevel(dst, piece)
	}
	return appendSpaces(dst, piece)
}

// singles finds the pieces that words start from.
func (d *definition) singles(t *Tokenizer) error {
	allBytes := true
	for b := range 256 {
		id := uint32(none)
		if d.byteLevel {
			id = t.findMergeable([]byte{byte(b)})
		} else if d.byteFallback {
			id = d.vocab.id(fmt.Appendf(nil, "<0x%02X>", b))
		}
		t.byteID[b] = id
		allBytes = allBytes && id != none
	}
	if d.byteFallback && !d.byteLevel && !allBytes {
		return fmt.Errorf("%w: byte fallback without a piece for every byte", ErrUnsupported)
	}
	t.byteFallback = d.byteFallback && !d.byteLevel
	t.lacksBytes = d.byteLevel && !allBytes && d.unknown == none
	for c := range t.asciiID {
		t.asciiID[c] = t.findMergeable([]byte{byte(c)})
	}
	return nil
}

// findMergeable is the id of a piece that spells text; none if there is none.
func (t *Tokenizer) findMergeable(piece []byte) uint32 {
	if id := t.vocab.id(piece); id != none && t.mergeable(id) {
		return id
	}
	return none
}

func (d *definition) rules(t *Tokenizer) error {
	if len(d.merges) >= noRank {
		return fmt.Errorf("%w: %d merges; up to %d run here", ErrUnsupported, len(d.merges), noRank-1)
	}
	t.merges = newMergeTable(d.merges)
	return nil
}

// rankBytes is the ranks of all pairs of bytes; nil for SentencePiece.
func (t *Tokenizer) rankBytes() []uint32 {
	if t.spm {
		return nil
	}
	ranks := make([]uint32, 1<<16)
	for pair := range ranks {
		ranks[pair] = noRank
		if left, right := t.byteID[pair>>8], t.byteID[pair&0xFF]; left != none && right != none {
			ranks[pair] = t.merges.rank(left, right)
		}
	}
	return ranks
}

// proveWords fills the table of words that are one piece: those of the
// vocabulary whose merging gives them, or, under ignore_merges, all. If all are
// proven, ignore_merges changes nothing and is dropped.
func (t *Tokenizer) proveWords(proven []bool) {
	t.words = newWordTable(t.vocab.count, len(t.vocab.spans))
	e := t.encoders.Get().(*encoder)
	all := true
	for id := range t.vocab.spans {
		piece := t.vocab.bytes(uint32(id))
		if !proven[id] && (len(piece) == 0 || !t.ignoreMerges || !t.mergeable(uint32(id)) || t.vocab.id(piece) != uint32(id)) {
			continue
		}
		if len(piece) > maxScanned {
			e.mergeSymbols(text(piece))
			proven[id] = len(e.ids) == 1 && e.ids[0] == uint32(id)
		}
		all = all && proven[id]
		if len(piece) <= maxPacked {
			t.words.add(pack(text(piece), 0, len(piece)), uint32(id))
		}
	}
	t.ignoreMerges = t.ignoreMerges && !all
	t.encoders.Put(e)
	if t.ignoreMerges {
		t.unproven = make([]bool, len(proven))
		for id := range proven {
			t.unproven[id] = !proven[id]
		}
	}
}

// proveCuts learns what text may be cut between. Nothing can be proven if merges
// involve byte-fallback pieces, whose text is not their spelling, or if unknown
// symbols fuse.
func (d *definition) proveCuts(t *Tokenizer) {
	unknownSafe := t.byteFallback || t.unknown != none && !t.fuseUnknown || t.unknown == none && !t.spm
	if t.ignoreMerges && t.spm || !unknownSafe {
		return
	}
	bytePiece := map[uint32]bool{}
	if t.byteFallback {
		for _, id := range t.byteID {
			bytePiece[id] = true
		}
	}
	f := &cutFilter{}
	merged := make([]bool, len(t.vocab.spans))
	for _, r := range d.merges {
		id := r.merged
		if bytePiece[r.left] || bytePiece[r.right] || bytePiece[id] || !t.mergeable(id) {
			return
		}
		if !merged[id] {
			merged[id] = true
			f.learn(t.vocab.bytes(id))
		}
	}
	t.cuts = f
}

func (d *definition) addedTokens(t *Tokenizer) {
	var raw, normalized []addedToken
	e := t.encoders.Get().(*encoder)
	for _, a := range d.added {
		if a.content == "" {
			continue
		}
		if _, ok := t.added[a.content]; ok {
			continue
		}
		name := a.content
		if !utf8.ValidString(name) {
			t.added[name] = a // text never holds it; found by bytes, it would cut a character
			continue
		}
		if a.normalized {
			a.content = t.spaced(e.normalize(a.content))
			normalized = append(normalized, a)
		} else {
			raw = append(raw, a)
		}
		t.added[name] = a
	}
	t.encoders.Put(e)
	t.raw, t.normalized = newMatcher(raw), newMatcher(normalized)
}
