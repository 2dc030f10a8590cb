package prefixindex

import (
	"encoding/binary"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// hash is a kv.Hash as two words. Block hashes come from SHA-256, so any of
// their bits are as good as any others.
type hash struct{ a, b uint64 }

func wordsOf(h *kv.Hash) hash {
	return hash{binary.LittleEndian.Uint64(h[:8]), binary.LittleEndian.Uint64(h[8:])}
}

func (h hash) bytes() (out kv.Hash) {
	binary.LittleEndian.PutUint64(out[:8], h.a)
	binary.LittleEndian.PutUint64(out[8:], h.b)
	return out
}

// segment, home and tag use different bits.
func (h hash) segment() int   { return int(h.b >> 56) }
func (h hash) home(n int) int { hi, _ := bits.Mul64(h.a, uint64(n)); return int(hi) }
func (h hash) tag() uint64    { return max(1, h.b&0xff) }

// table finds the slot of a block by its hash. It holds slots only, 5 bytes and
// the free room each; the hash itself is read from the slot. There is one
// writer; readers need no lock.
//
// It is cut into segments that grow one at a time, so that no insertion waits
// for long. A segment is an array of buckets of one cache line. A block that
// finds its home bucket full goes to the next one with room, and every bucket
// passed counts it; so deleting needs no tombstones, and looking up a hash that
// is not there mostly ends in its home bucket.
type table struct {
	segments [256]atomic.Pointer[segment]
	blocks   *slab[granule] // where slots are
}

type segment struct {
	buckets []bucket
	count   int // writer only
}

const (
	bucketSlots = 12
	// A segment doubles when more than segmentLoad of it is full.
	segmentLoad = 0.875
)

// larger is how many buckets segment i has after n. Each segment has sizes of
// its own, a little larger than those of the one before it, so that the table as
// a whole is always about equally full.
func larger(i, n int) int {
	own := float64(i) / 256
	step := math.Ceil(math.Log2(float64(n+1)) - own)
	return max(n+1, int(math.Ceil(math.Exp2(step+own))))
}

// bucket is one cache line. Byte i of tags belongs to slots[i], 0 meaning free;
// the upper half of tags[1] counts the blocks that passed a full bucket.
type bucket struct {
	tags  [2]atomic.Uint64
	slots [bucketSlots]atomic.Uint32
}

const (
	passedOne = 1 << 32
	lowBits   = 0x0101010101010101
	highBits  = 0x8080808080808080
)

// zeroBytes has the high bit set of each byte of w that is zero, and possibly
// of bytes above one that is.
func zeroBytes(w uint64) uint64 { return (w - lowBits) &^ w & highBits }

// candidates has a bit set for every slot of b that may hold a block with the
// given tag; free slots have tag 0.
func (b *bucket) candidates(tag uint64) uint64 {
	pattern := tag * lowBits
	lo := zeroBytes(b.tags[0].Load() ^ pattern)
	hi := zeroBytes(b.tags[1].Load()^pattern) & 0x80808080
	// One bit per byte, those of the second word above those of the first.
	return lo>>7 | hi>>3
}

// slotOf is the slot number of the lowest bit of a candidates mask.
func slotOf(mask uint64) int {
	i := bits.TrailingZeros64(mask)
	if i%8 == 0 {
		return i / 8
	}
	return 8 + i/8
}

func (t *table) init(blocks *slab[granule]) {
	t.blocks = blocks
	for i := range t.segments {
		t.segments[i].Store(&segment{buckets: make([]bucket, 1)})
	}
}

// find is the slot of h, 0 if it has none.
func (t *table) find(h hash) uint32 {
	s := t.segments[h.segment()].Load()
	tag := h.tag()
	i := h.home(len(s.buckets))
	for range s.buckets {
		b := &s.buckets[i]
		for m := b.candidates(tag); m != 0; m &= m - 1 {
			if slot := b.slots[slotOf(m)].Load(); slot != 0 && blockAt(t.blocks, slot) == h {
				return slot
			}
		}
		if b.tags[1].Load() < passedOne {
			return 0
		}
		if i++; i == len(s.buckets) {
			i = 0
		}
	}
	return 0
}

// warm brings what find would read of the given hashes into the cache. The loads
// do not depend on each other, so the processor overlaps their misses, as it
// cannot when each is followed by a decision. It returns something of all, to
// keep the compiler from leaving them out.
func (t *table) warm(hashes []kv.Hash) (any uint64) {
	for i := range hashes {
		h := wordsOf(&hashes[i])
		s := t.segments[h.segment()].Load()
		any |= s.buckets[h.home(len(s.buckets))].tags[0].Load()
	}
	return any
}

// insert adds h, which is not there, at slot.
func (t *table) insert(h hash, slot uint32) {
	s := t.segments[h.segment()].Load()
	if float64(s.count+1) > segmentLoad*bucketSlots*float64(len(s.buckets)) {
		s = t.grow(h.segment())
	}
	s.insert(h, slot)
}

func (s *segment) insert(h hash, slot uint32) {
	for i := h.home(len(s.buckets)); ; {
		b := &s.buckets[i]
		if m := b.candidates(0); m != 0 {
			c := slotOf(m)
			b.slots[c].Store(slot)
			w := &b.tags[c/8]
			w.Store(w.Load() | h.tag()<<(c%8*8))
			s.count++
			return
		}
		b.tags[1].Store(b.tags[1].Load() + passedOne)
		if i++; i == len(s.buckets) {
			i = 0
		}
	}
}

// locate is the bucket and cell that hold slot for h.
func (s *segment) locate(h hash, slot uint32) (*bucket, int) {
	for i := h.home(len(s.buckets)); ; {
		b := &s.buckets[i]
		for m := b.candidates(h.tag()); m != 0; m &= m - 1 {
			if c := slotOf(m); b.slots[c].Load() == slot {
				return b, c
			}
		}
		if i++; i == len(s.buckets) {
			i = 0
		}
	}
}

// move changes h's slot from one to another.
func (t *table) move(h hash, from, to uint32) {
	b, c := t.segments[h.segment()].Load().locate(h, from)
	b.slots[c].Store(to)
}

// remove takes out h, which is there at slot.
func (t *table) remove(h hash, slot uint32) {
	s := t.segments[h.segment()].Load()
	b, c := s.locate(h, slot)
	w := &b.tags[c/8]
	w.Store(w.Load() &^ (0xff << (c % 8 * 8)))
	b.slots[c].Store(0)
	s.count--
	for i := h.home(len(s.buckets)); &s.buckets[i] != b; {
		p := &s.buckets[i]
		p.tags[1].Store(p.tags[1].Load() - passedOne)
		if i++; i == len(s.buckets) {
			i = 0
		}
	}
}

// grow replaces a segment by a larger one. Readers of the old one still find
// what was in it.
func (t *table) grow(i int) *segment {
	return t.resize(i, larger(i, len(t.segments[i].Load().buckets)))
}

// reserve grows all segments so that n blocks fit.
func (t *table) reserve(n int) {
	for i := range t.segments {
		now := len(t.segments[i].Load().buckets)
		size := now
		for segmentLoad*bucketSlots*float64(size) < float64(n)/float64(len(t.segments)) {
			size = larger(i, size)
		}
		if size > now {
			t.resize(i, size)
		}
	}
}

func (t *table) resize(i, buckets int) *segment {
	old := t.segments[i].Load()
	s := &segment{buckets: make([]bucket, buckets)}
	for j := range old.buckets {
		// All hashes of a bucket before any is entered, so that their cache misses
		// overlap. Slot 0 may be read like any other.
		b := &old.buckets[j]
		var hashes [bucketSlots]hash
		for c := range b.slots {
			hashes[c] = blockAt(t.blocks, b.slots[c].Load())
		}
		for c := range b.slots {
			if slot := b.slots[c].Load(); slot != 0 {
				s.insert(hashes[c], slot)
			}
		}
	}
	t.segments[i].Store(s)
	return s
}

// bytes is the memory of the buckets.
func (t *table) bytes() (n int64) {
	for i := range t.segments {
		n += int64(len(t.segments[i].Load().buckets)) * 64
	}
	return n
}
