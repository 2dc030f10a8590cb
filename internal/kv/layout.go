package kv

import (
	"crypto/sha256"
	"fmt"
)

// Layout is everything that a stored block's bytes depend on besides the
// tokens. Its fingerprint namespaces stored blocks: those of another layout are
// invisible, not errors.
type Layout struct {
	// Model identifies the weights, not just their name: two models that
	// compute different KV must differ here.
	Model     string
	DType     string
	Layers    int
	BlockSize int // tokens
	// BlockBytes is the size of one block, all layers, as stored.
	BlockBytes int
	TPRank     int
	TPSize     int
	// Version is that of the byte order inside a block.
	Version int
}

// Fingerprint names the layout.
func (l Layout) Fingerprint() Hash {
	sum := sha256.Sum256(fmt.Appendf(nil, "kvasir/layout/1\x00%q %q %d %d %d %d %d %d",
		l.Model, l.DType, l.Layers, l.BlockSize, l.BlockBytes, l.TPRank, l.TPSize, l.Version))
	return Hash(sum[:16])
}
