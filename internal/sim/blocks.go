package sim

import (
	"encoding/binary"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// hashOf names the trace's block id. Ids are unique as hashes are: equal ids mean
// equal blocks behind equal prefixes.
func hashOf(id uint64) (h kv.Hash) {
	binary.LittleEndian.PutUint64(h[:8], mix(id))
	binary.LittleEndian.PutUint64(h[8:], mix(^id))
	return h
}

// ownHash names the block at position i of a request, holding its answer's
// tokens: nobody else's prompt has it.
func ownHash(request, i int) (h kv.Hash) {
	binary.LittleEndian.PutUint64(h[:8], mix(uint64(request)<<24|uint64(i)))
	binary.LittleEndian.PutUint64(h[8:], 1<<63|uint64(request))
	return h
}

// mix spreads the bits of x (SplitMix64).
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
