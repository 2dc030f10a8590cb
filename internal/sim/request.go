package sim

import (
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trace"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// instant is virtual time in nanoseconds since the run began.
type instant int64

const millisecond = instant(1e6)

func (t instant) ms() float64 { return float64(t) / float64(millisecond) }

// request is one request of the trace on its way.
type request struct {
	*trace.Request
	id      string
	number  int
	gateway *gateway
	engine  *engine

	arrived, firstToken, ended instant

	predictedMS float64 // TTFT
	idle        bool    // nothing was queued ahead, as far as the gateway knew
	cut         int     // leading blocks that the decision wants reused

	// On the engine.
	target    int // tokens to have in the KV cache before the next token
	computed  int // tokens in the KV cache
	generated int // tokens of the answer
	joined    int // the engine's step in which it began to decode
	decoding  bool
	epoch     int // counts preemptions
	slots     []held
	restore   *restore

	// cached are the prompt's tokens that were not computed, by tier; what its
	// first admission found.
	cached [kv.NumTiers]int
}

// held is a KV slot of a request: shared ones are committed and leased, others
// are its own until it ends.
type held struct {
	slot   policy.Slot
	shared bool
}

// block is the i-th block of the request's sequence.
func (r *request) block(i, blockSize int) kv.Block {
	parent := root
	if i > 0 {
		parent = r.hash(i-1, blockSize)
	}
	return kv.Block{Hash: r.hash(i, blockSize), Parent: parent}
}

func (r *request) hash(i, blockSize int) kv.Hash {
	if i < r.Input/blockSize {
		return hashOf(r.Blocks[i])
	}
	return ownHash(r.number, i)
}
