package disk

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

const (
	recordBytes = 64

	kindCommit    = 1
	kindTombstone = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// record is one entry of the journal. On disk, little-endian:
//
//	0 kind, 4 slot, 8 seq, 16 hash, 32 parent, 48 sum, 56 length, 60 crc32c
//
// The checksum also covers the journal's identity, so a record of an earlier
// journal in the same disk blocks never passes for one of this.
type record struct {
	kind   byte
	slot   uint32
	seq    uint64 // rises with every record, also across checkpoints
	block  kv.Block
	sum    uint64 // xxh3 of the block's bytes
	length uint32 // of the block
}

func (r record) append(dst []byte, seed uint32) []byte {
	at := len(dst)
	dst = append(dst, r.kind, 0, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, r.slot)
	dst = binary.LittleEndian.AppendUint64(dst, r.seq)
	dst = append(dst, r.block.Hash[:]...)
	dst = append(dst, r.block.Parent[:]...)
	dst = binary.LittleEndian.AppendUint64(dst, r.sum)
	dst = binary.LittleEndian.AppendUint32(dst, r.length)
	return binary.LittleEndian.AppendUint32(dst, crc32.Update(seed, castagnoli, dst[at:]))
}

// parseRecord reads what append wrote; false for anything else.
func parseRecord(b []byte, seed uint32) (r record, ok bool) {
	if len(b) < recordBytes {
		return r, false
	}
	b = b[:recordBytes]
	if crc32.Update(seed, castagnoli, b[:60]) != binary.LittleEndian.Uint32(b[60:]) {
		return r, false
	}
	r = record{
		kind:   b[0],
		slot:   binary.LittleEndian.Uint32(b[4:]),
		seq:    binary.LittleEndian.Uint64(b[8:]),
		block:  kv.Block{Hash: kv.Hash(b[16:32]), Parent: kv.Hash(b[32:48])},
		sum:    binary.LittleEndian.Uint64(b[48:]),
		length: binary.LittleEndian.Uint32(b[56:]),
	}
	known := r.kind == kindCommit || r.kind == kindTombstone
	return r, known && b[1]|b[2]|b[3] == 0 && r.seq > 0
}
