package redisstore

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

const (
	headerBytes = 64
	magic       = "KVSRblk1"
)

// header is the value of a block's header key. On the wire, little-endian:
//
//	0 magic, 8 hash, 24 parent, 40 length, 48 sum of the bytes, 56 sum of 0..55
//
// Both sums are xxh3. The second one makes the parent as trustworthy as the
// bytes.
type header struct {
	block  kv.Block
	length uint64
	sum    uint64
}

func (h header) encode() []byte {
	b := make([]byte, 0, headerBytes)
	b = append(b, magic...)
	b = append(b, h.block.Hash[:]...)
	b = append(b, h.block.Parent[:]...)
	b = binary.LittleEndian.AppendUint64(b, h.length)
	b = binary.LittleEndian.AppendUint64(b, h.sum)
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b))
}

// parseHeader reads what encode wrote; false for anything else.
func parseHeader(b []byte) (h header, ok bool) {
	if len(b) != headerBytes || string(b[:8]) != magic || xxh3.Hash(b[:56]) != binary.LittleEndian.Uint64(b[56:]) {
		return h, false
	}
	return header{
		block:  kv.Block{Hash: kv.Hash(b[8:24]), Parent: kv.Hash(b[24:40])},
		length: binary.LittleEndian.Uint64(b[40:]),
		sum:    binary.LittleEndian.Uint64(b[48:]),
	}, true
}
