package events

import (
	"encoding/binary"

	"github.com/zeebo/xxh3"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// EngineHash is an engine's own name of a block, good only within one engine
// process. Engines that send integers, signed or not, have no more bits.
type EngineHash uint64

// IntHash is an engine hash that travels as an integer.
func IntHash(v uint64) EngineHash { return EngineHash(v) }

// BytesHash is an engine hash that travels as a byte string of any length.
func BytesHash(b []byte) EngineHash { return EngineHash(xxh3.Hash(b)) }

// HashOf is the name under which an engine that uses our hashes publishes a
// block: the last 64 bits, as vLLM shortens its digests.
func HashOf(h kv.Hash) EngineHash { return IntHash(binary.BigEndian.Uint64(h[8:])) }

// The media that engines name.
const (
	MediumGPU = "GPU"
	MediumCPU = "CPU"
)

// Batch is what one engine step did to blocks.
type Batch struct {
	Time   float64 // seconds since 1970
	Rank   int     // data-parallel rank
	Events []Event

	memory arena // what Events point to, when they were decoded
}

// arena is memory that one batch's events share and the next batch reuses.
type arena struct {
	tokens          []uint32
	hashes, parents []EngineHash
}

func (a arena) emptied() arena {
	return arena{a.tokens[:0], a.hashes[:0], a.parents[:0]}
}

// Event is one KV event in an engine's terms.
type Event struct {
	Kind   kv.EventKind
	Hashes []EngineHash
	// Parent is the block before Hashes[0], nil at the start of a prompt.
	Parent *EngineHash
	// Tokens are those of the blocks stored. There may be more blocks of them
	// than Hashes (sliding windows): then the Hashes are the last ones.
	Tokens    []uint32
	BlockSize int
	Medium    string // "" and GPU: the engine's own pages
	LoRA      string
	// Salt is the cache_salt of a prompt's first block.
	Salt string
	// Group is the KV cache group of a hybrid model.
	Group int

	// The rest is only decoded, never published.

	extra    extraKeys
	odd      int  // the first block that holds more than tokens; len(Hashes): none
	rootless bool // it is not known what the first block's hash began with
	window   bool // the group does not hold whole prefixes (sliding window, Mamba, ...)
	reused   bool // nothing was stored: a prompt reuses what is held
	// windowTokens is the sliding window, 0: none or not known.
	windowTokens int
	remote       bool // held by another machine
	unknown      bool // of a kind that this version does not know
}

// extraKeys is what, besides tokens, went into the blocks' hashes.
type extraKeys struct {
	known bool         // the event said so, if only that there is nothing
	n     int          // entries, one a block
	per   []blockExtra // nil when no entry says anything
}

type blockExtra struct {
	names []string // adapter, cache_salt
	odd   bool     // something that our hashes do not cover: images, prompt embeddings
}
