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

// wordTable finds the pieces that a word becomes without any merging.
type wordTable struct {
	slots []wordSlot
	shift uint
	count int
}

// wordSlot is empty if its length, and so key.hi, is zero.
type wordSlot struct {
	key packed
	id  uint32
}

func newWordTable(capacity int) *wordTable {
	size := bits.Len(uint(max(capacity, 64)*3/2 - 1))
	return &wordTable{slots: make([]wordSlot, 1<<size), shift: uint(64 - size)}
}

func (w *wordTable) add(key packed, id uint32) {
	mask := uint64(len(w.slots) - 1)
	for i := key.hash() >> w.shift; ; i = (i + 1) & mask {
		if slot := &w.slots[i]; slot.key.hi == 0 {
			*slot = wordSlot{key, id}
			w.count++
			return
		}
	}
}

func (w *wordTable) find(key packed, hash uint64) uint32 {
	mask := uint64(len(w.slots) - 1)
	for i := hash >> w.shift; ; i = (i + 1) & mask {
		slot := &w.slots[i&mask]
		if slot.key == key {
			return slot.id
		}
		if slot.key.hi == 0 {
			return none
		}
	}
}
