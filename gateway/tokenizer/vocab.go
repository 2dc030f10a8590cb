package tokenizer

import (
	"hash/maphash"
	"math"
)

// none marks the absence of an id.
const none = math.MaxUint32

// vocab maps pieces to ids and back. Texts lie end to end in one string, so a
// vocabulary of 200,000 costs a handful of allocations. Ids may have holes.
type vocab struct {
	text  []byte
	spans []span   // by id; a hole is empty
	slots []uint64 // open addressing: high half of the piece's hash, id; or none
	count int
	seed  maphash.Seed
}

type span struct{ start, size uint32 }

func newVocab(capacity int) *vocab {
	v := &vocab{seed: maphash.MakeSeed(), spans: make([]span, 0, capacity), text: make([]byte, 0, 8*capacity)}
	v.grow(capacity)
	return v
}

// grow makes room for n pieces at a load of at most a half.
func (v *vocab) grow(n int) {
	size := 64
	for size < 2*n {
		size *= 2
	}
	v.slots = make([]uint64, size)
	for i := range v.slots {
		v.slots[i] = none
	}
	for id, s := range v.spans {
		if s.size > 0 {
			i, tag := v.slot(v.bytes(uint32(id)))
			v.slots[i] = tag | uint64(id)
		}
	}
}

// slot is where piece is, or where it would go, and the high half of its hash,
// which spares most looks at the text of other pieces.
func (v *vocab) slot(piece []byte) (i int, tag uint64) {
	mask := len(v.slots) - 1
	hash := maphash.Bytes(v.seed, piece)
	tag = hash &^ none
	for i = int(hash) & mask; ; i = (i + 1) & mask {
		s := v.slots[i]
		if uint32(s) == none || s&^none == tag && string(v.bytes(uint32(s))) == string(piece) {
			return i, tag
		}
	}
}

// add gives piece its id. A piece that is there already moves to the new id, as
// in a hash map that is filled in file order. Empty pieces are no pieces.
func (v *vocab) add(piece []byte, id uint32) {
	if len(piece) == 0 || id == none {
		return
	}
	for uint32(len(v.spans)) <= id {
		v.spans = append(v.spans, span{})
	}
	if v.count*2 >= len(v.slots) {
		v.grow(2 * v.count)
	}
	i, tag := v.slot(piece)
	if uint32(v.slots[i]) == none {
		v.count++
	}
	v.spans[id] = span{uint32(len(v.text)), uint32(len(piece))}
	v.text = append(v.text, piece...)
	v.slots[i] = tag | uint64(id)
}

// id finds a piece; none if it is not there.
func (v *vocab) id(piece []byte) uint32 {
	i, _ := v.slot(piece)
	return uint32(v.slots[i])
}

// bytes is the text of id, empty for a hole.
func (v *vocab) bytes(id uint32) []byte {
	if id >= uint32(len(v.spans)) {
		return nil
	}
	s := v.spans[id]
	return v.text[s.start : s.start+s.size : s.start+s.size]
}
