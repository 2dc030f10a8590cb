package tokenizer

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// An encoder is the scratch memory of one Encode call, and caches of words that
// its earlier calls met. It is held by one call at a time.
type encoder struct {
	t   *Tokenizer
	dst []uint32

	err       error // ErrTooCostly; then dst is worth nothing
	regexLeft int   // bytes of text that may still go to the regex engine

	short [1 << shortBits]shortEntry
	long  [1 << longBits]longEntry

	ids        []uint32 // symbols of the word being merged
	ranks      [maxScanned]uint32
	next, prev []uint32
	heap       []uint64
	buf        []byte // normalized text
	piece      []byte // a segment with its prefix
}

const (
	shortBits = 14
	longBits  = 12
)

// shortEntry caches the ids of a word of at most maxPacked bytes.
type shortEntry struct {
	key packed
	n   uint32
	ids [3]uint32
}

// longEntry caches the ids of a longer word, or of more ids.
type longEntry struct {
	size, n uint16
	ids     [15]uint32
	word    [64]byte
}

// words encodes the pieces of s that scan makes, as many as it can at the
// boundaries that bound finds, if there is one.
func (e *encoder) words(s string, scan splitter, bound bounder) {
	for i := 0; i < len(s); {
		if bound != nil {
			i = e.bounded(s, i, bound)
		}
		end := scan(s, i)
		if end-i > maxPacked {
			e.longWord(s[i:end])
		} else {
			e.word(s, i, end)
		}
		i = end
	}
}

// bounded encodes pieces from s[i] on and says where the one starts that is left
// to the scanner. This and shortWords are the hot loop: branches are few, for those
// that depend on the text cost more than all else a word that was met before does.
func (e *encoder) bounded(s string, i int, bound bounder) int {
	var m masks
	b := view(s)
	for i+window+16 <= len(b) && binary.LittleEndian.Uint64(b[i:])&topBits == 0 {
		m.classify(b[i : i+window])
		starts, hard := bound(&m)
		starts &^= 1
		if hard != 0 {
			starts &= hard&-hard<<1 - 1
		}
		from := i
		i = e.shortWords(s, i, starts)
		if hard != 0 || i == from {
			break
		}
	}
	return i
}

// shortWords encodes the words that lie between s[i] and the bits of starts, of
// which bit k is s[i+k], and says where the last of them ends. Behind every word
// at least 16 bytes can be read.
func (e *encoder) shortWords(s string, i int, starts uint64) int {
	b, dst, from := view(s), e.dst, i
	for ; starts != 0; starts &= starts - 1 {
		end := from + bits.TrailingZeros64(starts)
		n := end - i
		if n > maxPacked {
			e.dst = dst
			e.longWord(s[i:end])
			dst = e.dst
			i = end
			continue
		}
		w := b[i : i+16 : i+16]
		key := packed{binary.LittleEndian.Uint64(w) & lowMask[n&15], binary.LittleEndian.Uint64(w[8:])&highMask[n&15] | uint64(n)<<56}
		hash := key.hash()
		c := &e.short[hash>>(64-shortBits)]
		if c.key != key {
			e.dst = dst
			e.shortWord(s[i:end], key, hash, c)
			dst = e.dst
		} else if size := len(dst); cap(dst)-size >= len(c.ids) {
			*(*[len(c.ids)]uint32)(dst[size : size+len(c.ids)]) = c.ids
			dst = dst[:size+int(c.n)]
		} else {
			dst = append(dst, c.ids[:c.n]...)
		}
		i = end
	}
	e.dst = dst
	return i
}

// word appends the ids of s[i:j], a word that no merge crosses.
func (e *encoder) word(s string, i, j int) {
	if j-i > maxPacked {
		e.cachedWord(s[i:j], hashLong(s[i:j]))
		return
	}
	key := pack(s, i, j)
	hash := key.hash()
	c := &e.short[hash>>(64-shortBits)]
	if c.key == key {
		e.dst = append(e.dst, c.ids[:c.n]...)
		return
	}
	e.shortWord(s[i:j], key, hash, c)
}

// shortWord appends the ids of a word that its cache entry c does not hold.
func (e *encoder) shortWord(word string, key packed, hash uint64, c *shortEntry) {
	// Asked for now, so that it comes while the table is searched.
	long := &e.long[hash>>(64-longBits)]
	longSize := int(long.size)
	if id := e.t.words.find(key, hash); id != none {
		*c = shortEntry{key, 1, [3]uint32{id}}
		e.dst = append(e.dst, id)
		return
	}
	if longSize == len(word) && string(long.word[:longSize]) == word {
		e.dst = append(e.dst, long.ids[:long.n]...)
		return
	}
	ids := e.mergeWord(word)
	e.dst = append(e.dst, ids...)
	if len(ids) <= len(c.ids) {
		c.key, c.n = key, uint32(len(ids))
		copy(c.ids[:], ids)
		return
	}
	long.keep(word, ids)
}

// longWord appends the ids of a piece of more than maxPacked bytes.
func (e *encoder) longWord(s string) {
	c, ok := e.cached(s, hashLong(s))
	if ok {
		return
	}
	start := len(e.dst)
	if id := e.t.whole(s); id != none {
		e.dst = append(e.dst, id)
	} else {
		e.cutWord(s)
	}
	c.keep(s, e.dst[start:])
}

// cutWord appends the ids of a piece by merging, cut where that is proven exact.
func (e *encoder) cutWord(s string) {
	start := 0
	if e.t.cuts != nil && !e.t.drops(s) {
		last, i := runeAt(s, 0)
		for i < len(s) {
			r, n := runeAt(s, i)
			if !e.t.cuts.joined(last, r, s[i-1], s[i]) {
				e.part(s, start, i)
				start = i
			}
			last = r
			i += n
		}
	}
	if start == 0 {
		e.mergeSymbols(s)
		e.dst = append(e.dst, e.ids...)
		return
	}
	e.part(s, start, len(s))
}

// part appends the ids of s[i:j], a part of a word.
func (e *encoder) part(s string, i, j int) {
	start := len(e.dst)
	e.word(s, i, j)
	if e.t.ignoreMerges && len(e.dst) == start+1 && e.t.unproven[e.dst[start]] {
		// Looked up as what only a whole word is.
		e.mergeSymbols(s[i:j])
		e.dst = append(e.dst[:start], e.ids...)
	}
}

// cachedWord appends the ids of a word of any length.
func (e *encoder) cachedWord(word string, hash uint64) {
	c, ok := e.cached(word, hash)
	if ok {
		return
	}
	ids := e.mergeWord(word)
	e.dst = append(e.dst, ids...)
	c.keep(word, ids)
}

// cached appends the ids of a word that was kept; otherwise it says where they
// may be, nil if the word is too long for that.
func (e *encoder) cached(word string, hash uint64) (*longEntry, bool) {
	if len(word) > len(longEntry{}.word) {
		return nil, false
	}
	c := &e.long[hash>>(64-longBits)]
	if int(c.size) == len(word) && string(c.word[:len(word)]) == word {
		e.dst = append(e.dst, c.ids[:c.n]...)
		return nil, true
	}
	return c, false
}

func (c *longEntry) keep(word string, ids []uint32) {
	if c != nil && len(ids) <= len(c.ids) {
		c.size, c.n = uint16(len(word)), uint16(len(ids))
		copy(c.ids[:], ids)
		copy(c.word[:], word)
	}
}

// mergeWord is the ids of a word by merging. They are valid until the next call.
func (e *encoder) mergeWord(word string) []uint32 {
	if len(word) > maxPacked { // t.words has the shorter ones
		if id := e.t.whole(word); id != none {
			e.ids = append(e.ids[:0], id)
			return e.ids
		}
	}
	e.mergeSymbols(word)
	return e.ids
}

// whole is the piece that a word is without any merging, none if it is none.
func (t *Tokenizer) whole(word string) uint32 {
	if !t.ignoreMerges {
		return none
	}
	return t.findMergeable(view(word))
}

// mergeSymbols merges a word from its single bytes or runes into e.ids.
func (e *encoder) mergeSymbols(word string) {
	if e.t.spm {
		e.symbolsSPM(word)
		e.merge()
		return
	}
	if len(word) <= maxScanned {
		if e.t.runes != nil && !isASCII(word) && e.mergeRunes(word) || e.mergeBytes(word) {
			return
		}
	}
	e.symbolsBytes(word)
	e.merge()
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

// drops says whether s holds bytes that the vocabulary lacks and that no unknown
// piece stands for. They vanish, and what was around them may merge.
func (t *Tokenizer) drops(s string) bool {
	if !t.lacksBytes {
		return false
	}
	for i := 0; i < len(s); i++ {
		if t.byteID[s[i]] == none {
			return true
		}
	}
	return false
}

func isASCII(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
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
