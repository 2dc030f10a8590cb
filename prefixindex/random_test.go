package prefixindex

import (
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// seed is KVASIR_SEED or a random one, which the log shows.
func seed(t testing.TB) uint64 {
	s := rand.Uint64()
	if v := os.Getenv("KVASIR_SEED"); v != "" {
		var err error
		if s, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("KVASIR_SEED: %v", err)
		}
	}
	t.Logf("KVASIR_SEED=%d", s)
	return s
}

// steps is n times KVASIR_STEPS, for long runs by hand.
func steps(n int) int {
	if k, err := strconv.Atoi(os.Getenv("KVASIR_STEPS")); err == nil {
		n *= k
	}
	return n
}

// world makes random events about a growing family of prompts.
type world struct {
	rng     *rand.Rand
	prompts [][]kv.Hash // each starts with its root
	workers []kv.WorkerID
	limit   int // prompts
	longest int // blocks added at once
}

func newWorld(seed uint64, workers, limit, longest int) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), limit: limit, longest: longest}
	for i := range workers {
		w.workers = append(w.workers, kv.WorkerID(fmt.Sprintf("w%d", i)))
	}
	w.prompt()
	return w
}

func (w *world) hash() kv.Hash { return hash{w.rng.Uint64(), w.rng.Uint64()}.bytes() }

// prompt is a known prompt, a branch of one, or a new one.
func (w *world) prompt() []kv.Hash {
	n := len(w.prompts)
	if n > 0 && (n >= w.limit || w.rng.IntN(3) > 0) {
		p := w.prompts[w.rng.IntN(n)]
		if n >= w.limit || w.rng.IntN(2) > 0 {
			return p
		}
		p = slices.Clone(p[:1+w.rng.IntN(len(p))])
		return w.lengthen(p)
	}
	if n > 0 && w.rng.IntN(2) > 0 {
		return w.lengthen([]kv.Hash{w.prompts[0][0]}) // the same root
	}
	return w.lengthen([]kv.Hash{w.hash()})
}

func (w *world) lengthen(p []kv.Hash) []kv.Hash {
	for range 1 + w.rng.IntN(w.longest) {
		p = append(p, w.hash())
	}
	w.prompts = append(w.prompts, p)
	return p
}

func (w *world) worker() kv.WorkerID { return w.workers[w.rng.IntN(len(w.workers))] }

// event is something that a worker may report: a chain from anywhere in a
// prompt, mostly from its start; or a removal of any part of one, mostly of its
// end; in any order, also of what was never stored.
func (w *world) event() kv.Event {
	p := w.prompt()
	tier := kv.Tier(w.rng.IntN(int(kv.NumTiers)))
	from := 1
	if w.rng.IntN(3) == 0 {
		from = 1 + w.rng.IntN(len(p)-1)
	}
	to := from + 1 + w.rng.IntN(len(p)-from)
	switch roll := w.rng.IntN(200); {
	case roll == 0:
		return kv.Event{Kind: kv.Cleared, Tier: tier}
	case roll < 110:
		return kv.Event{Kind: kv.Stored, Tier: tier, Parent: p[from-1], Hashes: p[from:to]}
	}
	if w.rng.IntN(2) == 0 {
		from, to = len(p)-(to-from), len(p)
	}
	gone := slices.Clone(p[from:to])
	switch w.rng.IntN(3) {
	case 0:
		slices.Reverse(gone)
	case 1:
		w.rng.Shuffle(len(gone), func(i, j int) { gone[i], gone[j] = gone[j], gone[i] })
	}
	return kv.Event{Kind: kv.Removed, Tier: tier, Hashes: gone}
}

// sink is what events go to: an Index or the naive one.
type sink interface {
	AddWorker(kv.WorkerID, string)
	RemoveWorker(kv.WorkerID)
	Apply(kv.WorkerID, kv.Event)
}

// step does one random thing to all sinks.
func (w *world) step(sinks ...sink) {
	switch roll := w.rng.IntN(400); roll {
	case 0:
		id := w.worker()
		for _, s := range sinks {
			s.RemoveWorker(id)
		}
	case 1, 2, 3:
		id, store := w.worker(), []string{"", "redis-a", "redis-b"}[w.rng.IntN(3)]
		for _, s := range sinks {
			s.AddWorker(id, store)
		}
	default:
		id, e := w.worker(), w.event()
		if id == w.workers[0] && w.rng.IntN(3) == 0 {
			e.Tier = kv.Resume
		}
		for _, s := range sinks {
			s.Apply(id, e)
		}
	}
}

func (w *world) start(sinks ...sink) {
	for i, id := range w.workers {
		for _, s := range sinks {
			s.AddWorker(id, []string{"", "redis-a"}[i%2])
		}
	}
}

// agree compares the answers for a prompt, and for it with a stranger's end.
func (w *world) agree(t testing.TB, x *Index, n *naive, m *Matches, p []kv.Hash) {
	t.Helper()
	hashes := slices.Clone(p[1 : 1+w.rng.IntN(len(p))])
	if w.rng.IntN(2) == 0 {
		hashes = append(hashes, w.hash())
	}
	x.Match(m, hashes)
	for _, id := range w.workers {
		got, want := m.Spans(id), n.spans(id, hashes)
		if !slices.Equal(got, want) {
			t.Fatalf("worker %s, prompt of %d blocks: spans %v, want %v", id, len(hashes), got, want)
		}
	}
}

// TestRandom: whatever happens, in whatever order, the index answers as plain
// sets would, its invariants hold, and a snapshot makes the same index (law 3).
func TestRandom(t *testing.T) {
	s := seed(t)
	for name, c := range map[string]struct{ workers, limit, longest, steps int }{
		"few short prompts": {3, 12, 6, 15_000},
		"long prompts":      {5, 60, 80, 10_000},
		"many prompts":      {12, 2000, 30, 15_000},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(s, c.workers, c.limit, c.longest)
			x, n, m := New(Options{}), newNaive(), &Matches{}
			w.start(x, n)
			watched := watch(t, x)
			for i := range steps(c.steps) {
				w.step(x, n)
				if i%64 == 0 {
					select {
					case watched <- slices.Clone(w.prompts):
					default: // the readers are busy
					}
				}
				w.agree(t, x, n, m, w.prompts[w.rng.IntN(len(w.prompts))])
				if i%997 == 0 {
					x.check(t)
				}
				if i%4999 == 0 {
					w.compareSnapshot(t, x, n)
				}
			}
			x.check(t)
			stats := x.Stats()
			if blocks, tiers := n.sizes(); stats.Blocks != blocks || stats.Tiers != [kv.NumTiers]int(tiers[:]) || stats.Conflicts != 0 {
				t.Fatalf("stats %+v, want %d blocks, tiers %v, no conflict", stats, blocks, tiers)
			}
		})
	}
}

// watch reads the prompts that it is handed while the test goes on. What such
// readers see may be true no more; it must hold together.
func watch(t *testing.T, x *Index) chan<- [][]kv.Hash {
	prompts := make(chan [][]kv.Hash, 2)
	var readers sync.WaitGroup
	for i := range uint64(2) {
		readers.Go(func() {
			rng, m := rand.New(rand.NewPCG(i, 0)), &Matches{}
			for known := range prompts {
				for range 32 {
					p := known[rng.IntN(len(known))]
					x.Match(m, p[1:])
					for _, id := range []kv.WorkerID{"w0", "w1"} {
						coherent(t, m.Spans(id), len(p)-1)
					}
				}
			}
		})
	}
	t.Cleanup(func() { close(prompts); readers.Wait() })
	return prompts
}

// coherent insists that spans could be an answer about a prompt of n blocks.
func coherent(t *testing.T, spans []kv.Span, n int) {
	before, blocks := kv.TierSet(0), 0
	for _, s := range spans {
		if blocks += s.Blocks; s.Blocks < 1 || s.Tiers == before || s.Tiers == 0 || s.Tiers.Has(kv.Resume) || blocks > n {
			t.Errorf("a reader saw the spans %v of a prompt of %d blocks", spans, n)
		}
		before = s.Tiers
	}
}

// compareSnapshot: law 3.
func (w *world) compareSnapshot(t *testing.T, x *Index, n *naive) {
	t.Helper()
	for _, id := range w.workers {
		y, m := New(Options{}), &Matches{}
		y.AddWorker(id, n.workers[id])
		events := x.Snapshot(id)
		for _, e := range events {
			y.Apply(id, e)
		}
		for _, p := range w.prompts {
			y.Match(m, p[1:])
			if got, want := m.Spans(id), n.spans(id, p[1:]); !slices.Equal(got, want) {
				t.Fatalf("worker %s from its snapshot: spans %v, want %v", id, got, want)
			}
		}
		y.check(t)
	}
}
