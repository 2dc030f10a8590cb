package tokenizer

import "unsafe"

// An encoder is the scratch memory of one Encode call, and caches of words that
// its earlier calls met. It is held by one call at a time.
type encoder struct {
	t   *Tokenizer
	dst []uint32

	short [1 << 13]shortEntry
	long  [1 << 11]longEntry

	ids        []uint32 // symbols of the word being merged
	next, prev []uint32
	heap       []uint64
	buf        []byte // normalized text
	piece      []byte // a piece with its prefix
}

// shortEntry caches the ids of a word of at most maxPacked bytes.
type shortEntry struct {
	key packed
	n   uint32
	ids [11]uint32
}

// longEntry caches the ids of a longer word.
type longEntry struct {
	size, n uint16
	ids     [15]uint32
	word    [64]byte
}

// word appends the ids of s[i:j], a word that no merge crosses.
func (e *encoder) word(s string, i, j int) {
	if j-i > maxPacked {
		e.longWord(s[i:j])
		return
	}
	key := pack(s, i, j)
	hash := key.hash()
	if id := e.t.words.find(key, hash); id != none {
		e.dst = append(e.dst, id)
		return
	}
	c := &e.short[hash%uint64(len(e.short))]
	if c.key == key {
		e.dst = append(e.dst, c.ids[:c.n]...)
		return
	}
	ids := e.mergeWord(s[i:j])
	e.dst = append(e.dst, ids...)
	if len(ids) <= len(c.ids) {
		c.key, c.n = key, uint32(len(ids))
		copy(c.ids[:], ids)
	}
}

func (e *encoder) longWord(word string) {
	var c *longEntry
	if len(word) <= len(c.word) {
		c = &e.long[hashLong(word)%uint64(len(e.long))]
		if int(c.size) == len(word) && string(c.word[:len(word)]) == word {
			e.dst = append(e.dst, c.ids[:c.n]...)
			return
		}
	}
	ids := e.mergeWord(word)
	e.dst = append(e.dst, ids...)
	if c != nil && len(ids) <= len(c.ids) {
		c.size, c.n = uint16(len(word)), uint16(len(ids))
		copy(c.ids[:], ids)
		copy(c.word[:], word)
	}
}

// mergeWord is the ids of a word by merging. They are valid until the next call.
func (e *encoder) mergeWord(word string) []uint32 {
	t := e.t
	if t.ignoreMerges {
		if id := t.vocab.id(view(word)); id != none && t.mergeable(id) {
			e.ids = append(e.ids[:0], id)
			return e.ids
		}
	}
	if t.spm {
		e.symbolsSPM(word)
		e.merge()
		return e.ids
	}
	if len(word) > maxScanned || !e.mergeBytes(word) {
		e.symbolsBytes(word)
		e.merge()
	}
	return e.ids
}

// symbolsBytes starts a byte-level word: one symbol a byte.
func (e *encoder) symbolsBytes(word string) {
	e.ids = e.ids[:0]
	unknown := false
	for i := 0; i < len(word); i++ {
		id := e.t.byteID[word[i]]
		if id != none {
			e.ids = append(e.ids, id)
		} else if e.t.unknown != none && !(unknown && e.t.fuseUnknown) {
			e.ids = append(e.ids, e.t.unknown)
		}
		unknown = id == none
	}
}

func hashLong(word string) uint64 {
	h := uint64(len(word))
	i := 0
	for ; i+maxPacked <= len(word); i += maxPacked {
		h = packed{pack(word, i, i+maxPacked).hash(), h}.hash()
	}
	if i < len(word) {
		h = packed{pack(word, i, len(word)).hash(), h}.hash()
	}
	return h
}

// view is the bytes of s, to be read only.
func view(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// text is b as a string, valid while b is not written.
func text(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }
