package prefixindex

import (
	"math/rand/v2"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// FuzzEvents: no sequence of events, honest or not, breaks an invariant.
func FuzzEvents(f *testing.F) {
	f.Add([]byte{0x00, 0x12, 0x34, 0x56, 0x10, 0x65, 0x43, 0x21})
	f.Add([]byte{0x00, 0x11, 0x11, 0x11, 0x20, 0x12, 0x00, 0x00})
	f.Fuzz(lie)
}

// TestRandomLies is what FuzzEvents does, without a fuzzer.
func TestRandomLies(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	for range 2000 {
		ops := make([]byte, 4*(1+rng.IntN(60)))
		for i := range ops {
			ops[i] = byte(rng.Uint32())
		}
		lie(t, ops)
	}
}

// lie applies events made of four bytes each over sixteen hashes: chains that
// loop, repeat themselves and contradict each other.
func lie(t *testing.T, ops []byte) {
	x, m := New(Options{MaxBlocks: 12}), &Matches{}
	x.AddWorker("a", "s")
	x.AddWorker("b", "s")
	named := func(b byte) kv.Hash { return kv.Hash{b & 15, 7: b & 15, 15: b & 15} }
	for ; len(ops) >= 4; ops = ops[4:] {
		e := kv.Event{Kind: kv.EventKind(ops[0]&3 + 1), Tier: kv.Tier(ops[0] >> 2 & 7), Parent: named(ops[1] >> 4)}
		for _, b := range ops[1:4] {
			e.Hashes = append(e.Hashes, named(b), named(b>>4))
		}
		x.Apply([]kv.WorkerID{"a", "b", "c"}[ops[0]>>5%3], e)
		x.Match(m, e.Hashes)
		x.check(t)
	}
}
