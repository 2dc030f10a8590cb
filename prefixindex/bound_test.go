package prefixindex

import (
	"math/rand/v2"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// TestBound: a full index drops the ends of the prompts that were not used for
// longest, and never exceeds its bound between two events.
func TestBound(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	const bound = 10_000
	x := New(Options{MaxBlocks: bound})
	x.AddWorker("w", "")
	m := &Matches{}
	system := randomChain(rng, 50)
	var prompts [][]kv.Hash
	longest := func(p []kv.Hash) (n int) {
		x.Match(m, p)
		for _, s := range m.Spans("w") {
			n += s.Blocks
		}
		return n
	}
	x.Apply("w", kv.Event{Kind: kv.Stored, Parent: system[0], Hashes: system[1:]})
	for range 1000 {
		own := randomChain(rng, 1+rng.IntN(100))
		x.Apply("w", kv.Event{Kind: kv.Stored, Tier: kv.CPU, Parent: system[49], Hashes: own})
		prompts = append(prompts, append(system[1:50:50], own...))
		longest(prompts[0]) // the first is used all the time
		if n := x.Stats(); n.Blocks+n.Orphans > bound {
			t.Fatalf("%d blocks and %d orphans, more than %d", n.Blocks, n.Orphans, bound)
		}
	}
	x.check(t)
	if n := longest(prompts[0]); n != len(prompts[0]) {
		t.Errorf("%d of %d blocks are left of the prompt that was used all the time", n, len(prompts[0]))
	}
	if n := longest(prompts[1]); n != 49 {
		t.Errorf("%d blocks are left of a prompt that was not used for long, want the 49 it shares", n)
	}
	if n := longest(prompts[999]); n != len(prompts[999]) {
		t.Errorf("%d of %d blocks are left of the newest prompt", n, len(prompts[999]))
	}
	if x.Stats().Evicted == 0 {
		t.Error("nothing is counted as evicted")
	}
}

// TestRandomBounded: the bound holds and the invariants with it under the same
// random events as in TestRandom; what is answered is true, if not all of it.
func TestRandomBounded(t *testing.T) {
	w := newWorld(seed(t), 4, 200, 40)
	x, n, m := New(Options{MaxBlocks: 500}), newNaive(), &Matches{}
	w.start(x, n)
	for i := range 20_000 {
		w.step(x, n)
		p := w.prompts[w.rng.IntN(len(w.prompts))]
		x.Match(m, p[1:])
		for _, id := range w.workers {
			if got, want := blocksOf(m.Spans(id)), blocksOf(n.spans(id, p[1:])); got > want {
				t.Fatalf("worker %s is said to hold %d blocks, it has %d", id, got, want)
			}
		}
		if i%997 == 0 {
			x.check(t)
		}
	}
	if s := x.Stats(); s.Blocks+s.Orphans > 500 || s.Evicted == 0 {
		t.Fatalf("%+v", s)
	}
}

func blocksOf(spans []kv.Span) (n int) {
	for _, s := range spans {
		n += s.Blocks
	}
	return n
}

// TestMatchAllocates nothing when its answer is reused.
func TestMatchAllocates(t *testing.T) {
	w := newWorld(1, 8, 50, 100)
	x, m := New(Options{}), &Matches{}
	w.start(x)
	for range 2000 {
		x.Apply(w.worker(), w.event())
	}
	for _, p := range w.prompts {
		x.Match(m, p[1:])
	}
	i := 0
	if n := testing.AllocsPerRun(1000, func() {
		x.Match(m, w.prompts[i%len(w.prompts)][1:])
		i++
	}); n != 0 {
		t.Fatalf("%v allocations a lookup", n)
	}
}
