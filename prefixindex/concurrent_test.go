package prefixindex

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// TestReadersDuringChanges: what is held throughout is found throughout, and
// nobody is ever said to hold what he never held, while branches come and go
// around it, runs split and merge, memory is reused and the core is rebuilt.
//
// Worker "rock" has whole prompts on its gpu and keeps them. Each "sand" worker
// has one tier of its own, of which it stores and removes parts of the same
// prompts and branches of them.
func TestReadersDuringChanges(t *testing.T) {
	s := seed(t)
	w := newWorld(s, 0, 40, 60)
	for len(w.prompts) < w.limit {
		w.prompt()
	}
	solid := slices.Clone(w.prompts)
	w.limit = 400
	for len(w.prompts) < w.limit {
		w.prompt()
	}
	x := New(Options{})
	x.AddWorker("rock", "")
	for _, p := range solid {
		x.Apply("rock", kv.Event{Kind: kv.Stored, Parent: p[0], Hashes: p[1:]})
	}
	sand := []kv.WorkerID{"gpu", "cpu", "disk"}
	for _, id := range sand {
		x.AddWorker(id, "")
	}

	var changes, readers sync.WaitGroup
	var over atomic.Bool
	var failed atomic.Pointer[string]
	fail := func(what string) { failed.CompareAndSwap(nil, &what) }
	for i, id := range sand {
		changes.Go(func() {
			// The world is read only from here on, but for its dice.
			w := *w
			w.rng = rand.New(rand.NewPCG(s, uint64(i)))
			for range 2000 {
				e := w.event()
				e.Tier = kv.Tier(i)
				if x.Apply(id, e); w.rng.IntN(500) == 0 {
					x.RemoveWorker(id)
					x.AddWorker(id, "")
				}
			}
		})
	}
	for i := range 3 {
		readers.Go(func() {
			rng := rand.New(rand.NewPCG(s, uint64(100+i)))
			var m Matches
			for !over.Load() {
				p := w.prompts[rng.IntN(len(w.prompts))][1:]
				x.Match(&m, p)
				for i, id := range sand {
					for _, span := range m.Spans(id) {
						if span.Tiers != kv.Tiers(kv.Tier(i)) {
							fail(string(id) + " is said to hold blocks in " + span.Tiers.String())
						}
					}
				}
				p = solid[rng.IntN(len(solid))][1:]
				x.Match(&m, p)
				if got := m.Spans("rock"); len(got) != 1 || got[0] != (kv.Span{Blocks: len(p), Tiers: kv.Tiers(kv.GPU)}) {
					fail("a prompt that is held throughout was not found")
				}
			}
		})
	}
	changes.Wait()
	over.Store(true)
	readers.Wait()
	if what := failed.Load(); what != nil {
		t.Fatal(*what)
	}
	x.check(t)
}

// TestRebuildUnderReaders: the same while the core is rebuilt over and over.
func TestRebuildUnderReaders(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	x := New(Options{})
	x.AddWorker("rock", "")
	x.AddWorker("sand", "")
	kept := randomChain(rng, 200)
	x.Apply("rock", kv.Event{Kind: kv.Stored, Parent: kept[0], Hashes: kept[1:]})

	var over atomic.Bool
	var missed atomic.Int64
	var readers sync.WaitGroup
	readers.Go(func() {
		var m Matches
		for !over.Load() {
			x.Match(&m, kept[1:])
			if s := m.Spans("rock"); len(s) != 1 || s[0].Blocks != len(kept)-1 {
				missed.Add(1)
			}
		}
	})
	rebuilt := 0
	for range 2 {
		for range 2 * sparseGranules * granuleBlocks / 2000 {
			c := randomChain(rng, 1200)
			x.Apply("sand", kv.Event{Kind: kv.Stored, Parent: kept[1+rng.IntN(199)], Hashes: c})
		}
		full := x.Stats().Bytes
		x.Apply("sand", kv.Event{Kind: kv.Cleared})
		if x.Stats().Bytes < full/4 {
			rebuilt++
		}
		x.check(t)
	}
	over.Store(true)
	readers.Wait()
	if missed.Load() > 0 || rebuilt != 2 {
		t.Fatalf("%d lookups missed what is held; memory was given back %d times of 2", missed.Load(), rebuilt)
	}
}
