package prefixindex

import (
	"math/rand/v2"
	"runtime"
	"slices"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// TestMemoryIsFlatUnderChurn: workers whose caches are full store prompts and
// evict others, some whole, some from the end, in pieces and out of order. What
// the index takes does not grow. KVASIR_STEPS=50 makes it 10^8 block events.
func TestMemoryIsFlatUnderChurn(t *testing.T) {
	const holders, live = 8, 20_000 / raceSlowdown // blocks of each
	rng := rand.New(rand.NewPCG(seed(t), 1))
	x := New(Options{})
	systems := make([][]kv.Hash, 16)
	for i := range systems {
		systems[i] = randomChain(rng, 65)
	}
	type cache struct {
		id     kv.WorkerID
		chains [][]kv.Hash
		blocks int
	}
	caches := make([]*cache, holders)
	for i := range caches {
		caches[i] = &cache{id: kv.WorkerID([]byte{'w', byte('0' + i)})}
		x.AddWorker(caches[i].id, "")
	}
	events := 0
	churn := func(until int) {
		for events < until {
			c := caches[rng.IntN(holders)]
			system := systems[rng.IntN(len(systems))]
			own := randomChain(rng, 10+rng.IntN(491))
			x.Apply(c.id, kv.Event{Kind: kv.Stored, Parent: system[0], Hashes: system[1:]})
			x.Apply(c.id, kv.Event{Kind: kv.Stored, Parent: system[64], Hashes: own})
			events += len(own)
			c.chains, c.blocks = append(c.chains, own), c.blocks+len(own)
			for c.blocks > live {
				i := rng.IntN(len(c.chains))
				gone := c.chains[i]
				n := len(gone) - rng.IntN(len(gone))
				if rng.IntN(4) == 0 { // from the front: what follows is cut off, and stays
					gone, c.chains[i] = gone[:n], slices.Clone(gone[n:])
				} else {
					gone, c.chains[i] = gone[len(gone)-n:], slices.Clone(gone[:len(gone)-n])
				}
				x.Apply(c.id, kv.Event{Kind: kv.Removed, Hashes: gone})
				events += n
				c.blocks -= n
				if len(c.chains[i]) == 0 {
					c.chains[i] = c.chains[len(c.chains)-1]
					c.chains = c.chains[:len(c.chains)-1]
				}
			}
		}
	}
	heap := func() float64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	total := 2_000_000 / raceSlowdown * steps(1)
	churn(total / 2) // the caches are full, and as mixed as they will be
	bytes, heapThen, at := float64(x.Stats().Bytes), heap(), events
	churn(total)
	s := x.Stats()
	grown, heapGrown := float64(s.Bytes)/bytes-1, heap()/heapThen-1
	t.Logf("%d memberships; from %d to %d block events the index grew by %.2f %% (%.1f bytes a membership), the heap by %.2f %%",
		s.Memberships, at, events, 100*grown, float64(s.Bytes)/float64(s.Memberships), 100*heapGrown)
	if grown > 0.05 || heapGrown > 0.05 {
		t.Errorf("the index grew by %.1f %%, the heap by %.1f %%", 100*grown, 100*heapGrown)
	}
	runtime.KeepAlive(caches)
	x.check(t)
}
