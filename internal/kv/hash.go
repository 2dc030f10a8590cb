package kv

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
)

// Hash names one block of tokens and everything before it. It is the first
// 128 bits of a SHA-256, because a collision would serve one user another's
// KV. The same hash names the block in the index, in every tier, in Redis keys
// and on the wire; an engine's own hashes never leave its adapter.
type Hash [16]byte

// domain separates block hashes from every other use of SHA-256, and versions
// the construction: change it whenever the bytes hashed below change.
const domain = "kvasir/block/1\x00"

// RootSpec is everything besides tokens that a block's KV depends on. Prompts
// with different roots never share a block.
type RootSpec struct {
	// Model is the fingerprint of the model: its served name, unless the
	// operator gives a more precise one.
	Model string
	// LoRA is the adapter's name, empty for the base model.
	LoRA string
	// Salt isolates tenants (the request's cache_salt).
	Salt string
	// BlockSize is in tokens.
	BlockSize int
}

// Hash is the parent of a prompt's first block.
func (s RootSpec) Hash() Hash {
	b := make([]byte, 0, 128)
	b = append(b, "kvasir/root/1\x00"...)
	for _, f := range [...]string{s.Model, s.LoRA, s.Salt} {
		// Length-prefixed, so that no two specs flatten to the same bytes.
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f)))
		b = append(b, f...)
	}
	b = binary.LittleEndian.AppendUint32(b, uint32(s.BlockSize))
	sum := sha256.Sum256(b)
	return Hash(sum[:16])
}

// Child is the hash of the block that holds tokens and follows parent.
func (h Hash) Child(tokens []uint32) Hash {
	var stack [hashStack]byte
	return h.child(append(stack[:0], domain...), tokens)
}

// hashStack is room for the input of blocks of up to 120 tokens.
const hashStack = 512

// child hashes a block in the memory of prefix, which holds the domain.
func (h Hash) child(prefix []byte, tokens []uint32) Hash {
	b := append(prefix, h[:]...)
	n := len(b)
	b = slices.Grow(b, 4*len(tokens))[:n+4*len(tokens)]
	for i, t := range tokens {
		binary.LittleEndian.PutUint32(b[n+4*i:], t)
	}
	sum := sha256.Sum256(b)
	return Hash(sum[:16])
}

// Chain appends to dst the hashes of the full blocks of tokens, in order,
// starting after root. Tokens that do not fill a block have no hash. With
// enough capacity in dst and block sizes up to 100 it does not allocate.
func Chain(dst []Hash, root Hash, tokens []uint32, blockSize int) []Hash {
	if blockSize <= 0 {
		return dst
	}
	if done, ok := chainQuickly(dst, root, tokens, blockSize); ok {
		return done
	}
	return chainPortably(dst, root, tokens, blockSize)
}

func chainPortably(dst []Hash, root Hash, tokens []uint32, blockSize int) []Hash {
	var stack [hashStack]byte
	prefix := append(stack[:0], domain...)
	for ; len(tokens) >= blockSize; tokens = tokens[blockSize:] {
		root = root.child(prefix, tokens[:blockSize])
		dst = append(dst, root)
	}
	return dst
}

// String is 32 lower-case hex digits.
func (h Hash) String() string { return hex.EncodeToString(h[:]) }

// ParseHash reads what String wrote.
func ParseHash(s string) (Hash, error) {
	var h Hash
	if len(s) != 2*len(h) {
		return h, fmt.Errorf("kv: block hash %q: want %d hex digits", s, 2*len(h))
	}
	if _, err := hex.Decode(h[:], []byte(s)); err != nil {
		return Hash{}, fmt.Errorf("kv: block hash %q: %w", s, err)
	}
	return h, nil
}

// Block is a block's name together with the name of the one before it. The
// parent of a prompt's first block is its root (RootSpec.Hash).
type Block struct {
	Hash, Parent Hash
}

// Blocks appends hashes to dst as a chain that starts after root.
func Blocks(dst []Block, root Hash, hashes []Hash) []Block {
	for _, h := range hashes {
		dst = append(dst, Block{Hash: h, Parent: root})
		root = h
	}
	return dst
}
