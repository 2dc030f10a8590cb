package disk

import (
	"encoding/binary"
	"hash/crc32"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// headerBytes is the length of a header; in the slab it is padded to a page.
const headerBytes = 64

var (
	slabMagic    = [8]byte{'K', 'V', 'S', 'R', 's', 'l', 'a', 'b'}
	journalMagic = [8]byte{'K', 'V', 'S', 'R', 'j', 'r', 'n', 'l'}
)

const formatVersion = 1

// header begins the slab (its superblock) and the journal. On disk,
// little-endian:
//
//	0 magic, 8 version, 12 block bytes, 16 layout fingerprint, 32 slab id,
//	40 epoch (journal) or pre-written slots (slab), 48 zero, 60 crc32c
type header struct {
	blockBytes  uint32
	fingerprint kv.Hash
	slabID      uint64 // random; ties the journal to its slab
	counter     uint64
}

func (h header) encode(magic [8]byte) []byte {
	b := make([]byte, headerBytes)
	copy(b, magic[:])
	binary.LittleEndian.PutUint32(b[8:], formatVersion)
	binary.LittleEndian.PutUint32(b[12:], h.blockBytes)
	copy(b[16:], h.fingerprint[:])
	binary.LittleEndian.PutUint64(b[32:], h.slabID)
	binary.LittleEndian.PutUint64(b[40:], h.counter)
	binary.LittleEndian.PutUint32(b[60:], crc32.Checksum(b[:60], castagnoli))
	return b
}

// parseHeader reads what encode wrote with the same magic; false for anything
// else.
func parseHeader(b []byte, magic [8]byte) (h header, ok bool) {
	if len(b) < headerBytes || [8]byte(b[:8]) != magic ||
		binary.LittleEndian.Uint32(b[8:]) != formatVersion ||
		crc32.Checksum(b[:60], castagnoli) != binary.LittleEndian.Uint32(b[60:]) {
		return h, false
	}
	return header{
		blockBytes:  binary.LittleEndian.Uint32(b[12:]),
		fingerprint: kv.Hash(b[16:32]),
		slabID:      binary.LittleEndian.Uint64(b[32:]),
		counter:     binary.LittleEndian.Uint64(b[40:]),
	}, true
}

// seed starts the checksums of a journal's records.
func (h header) seed() uint32 { return crc32.Checksum(h.encode(journalMagic), castagnoli) }
