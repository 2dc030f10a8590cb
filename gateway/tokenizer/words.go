package tokenizer

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// A word of at most maxPacked bytes is compared and hashed as two integers: its
// bytes, zero-padded, with its length in the top byte.
const maxPacked = 15

type packed struct{ lo, hi uint64 }

// lowMask and highMask keep the first n bytes of a 16-byte load.
var lowMask, highMask [maxPacked + 1]uint64

func init() {
	for n := range lowMask {
		lowMask[n], highMask[n] = 1<<(8*min(n, 8))-1, 1<<(8*max(n-8, 0))-1
		if n >= 8 {
			lowMask[n] = 1<<64 - 1
		}
	}
}

// pack packs s[i:j], which has 1 to maxPacked bytes.
func pack(s string, i, j int) packed {
	b := unsafe.Slice(unsafe.StringData(s), len(s))
	n := j - i
	if i+16 <= len(b) {
		return packed{
			binary.LittleEndian.Uint64(b[i:]) & lowMask[n&15],
			binary.LittleEndian.Uint64(b[i+8:])&highMask[n&15] | uint64(n)<<56,
		}
	}
	var pad [16]byte
	copy(pad[:], b[i:j])
	return packed{binary.LittleEndian.Uint64(pad[:]), binary.LittleEndian.Uint64(pad[8:]) | uint64(n)<<56}
}

func (p packed) hash() uint64 {
	hi, lo := bits.Mul64(p.lo^0x9E3779B97F4A7C15, p.hi^0xD6E8FEB86659FD93)
	return hi ^ lo
}

// wordTable finds the pieces that a word becomes without any merging. Most words
// that are asked for are common pieces, which have low ids, or none: keys lie in
// the order of ids, and tags tell most of those that are none apart without a
// look at keys, so that few lookups leave the processor's cache.
type wordTable struct {
	tags  []uint32 // open addressing: a part of the hash, and the id; or none
	keys  []packed // by id
	shift uint
	count int
}

const idBits = 21 // of maxID

func newWordTable(capacity, ids int) *wordTable {
	size := bits.Len(uint(max(capacity, 64)*3/2 - 1))
	w := &wordTable{tags: make([]uint32, 1<<size), keys: make([]packed, ids), shift: uint(64 - size)}
	for i := range w.tags {
		w.tags[i] = none
	}
	return w
}

func (w *wordTable) add(key packed, id uint32) {
	hash := key.hash()
	w.keys[id] = key
	w.count++
	for i := hash >> w.shift; ; i++ {
		if tag := &w.tags[i&uint64(len(w.tags)-1)]; *tag == none {
			*tag = uint32(hash)<<idBits | id
			return
		}
	}
}

func (w *wordTable) find(key packed, hash uint64) uint32 {
	for i := hash >> w.shift; ; i++ {
		tag := w.tags[i&uint64(len(w.tags)-1)]
		if tag == none {
			return none
		}
		if (tag^uint32(hash)<<idBits)>>idBits == 0 && w.keys[tag&(maxID-1)] == key {
			return tag & (maxID - 1)
		}
	}
}
