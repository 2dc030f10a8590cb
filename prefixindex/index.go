package prefixindex

import (
	"sync"
	"sync/atomic"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// DefaultMaxBlocks bounds an Index that was given no bound.
const DefaultMaxBlocks = 16 << 20

// Options configure an Index.
type Options struct {
	// MaxBlocks bounds the distinct blocks held; 0 means DefaultMaxBlocks. When
	// full the index drops blocks from the end of the least recently used leaf,
	// whoever holds them, and counts them as evicted.
	MaxBlocks int
}

// Index knows which worker holds which prefix, in which tier. It is safe for
// concurrent use: changes wait for each other, Match waits for nobody.
type Index struct {
	maxBlocks int
	core      atomic.Pointer[core]
	fleet     atomic.Pointer[fleet]

	mu      sync.Mutex // held by changes, and by readers of the whole
	ignored uint64
	unknown uint64
	// expected are the blocks announced and not stored yet, by whomever.
	expected int
}

// New makes an empty Index.
func New(o Options) *Index {
	if o.MaxBlocks <= 0 {
		o.MaxBlocks = DefaultMaxBlocks
	}
	x := &Index{maxBlocks: o.MaxBlocks}
	x.core.Store(newCore())
	x.fleet.Store(newFleet())
	return x
}

// AddWorker makes id known, with nothing in it yet. Workers with the same
// sharedStore see each other's blocks in the Redis tier; "" means that id shares
// none. Adding a worker again only changes its store.
func (x *Index) AddWorker(id kv.WorkerID, sharedStore string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.fleet.Load()
	x.fleet.Store(f.with(id, sharedStore))
	if w, ok := f.workers[id]; ok && sharedStore != "" {
		// What it held in a store of its own is not in this one.
		own := keyOf(w, kv.Redis)
		x.core.Load().purge(func(k key) bool { return k == own })
		x.settle()
	}
}

// RemoveWorker forgets id and what it alone holds. What is in a shared store
// stays, also after the last worker that shares it.
func (x *Index) RemoveWorker(id kv.WorkerID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.fleet.Load()
	w, ok := f.workers[id]
	if !ok {
		return
	}
	x.fleet.Store(f.without(id))
	x.core.Load().purge(func(k key) bool { return k.holder() == w })
	x.settle()
}

// Expect makes room for so many blocks more, within the bound: an index that
// grows bit by bit moves everything several times. Room that is not used costs
// memory only.
func (x *Index) Expect(blocks int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.expected += blocks
	c := x.core.Load()
	c.table.reserve(min(c.counts.blocks+x.expected, x.maxBlocks))
}

// Apply enters one event of worker id. Storing what is held already and removing
// what is not changes nothing. Events of workers that were not added are
// ignored, and counted.
func (x *Index) Apply(id kv.WorkerID, e kv.Event) {
	x.core.Load().table.warm(e.Hashes)
	x.mu.Lock()
	defer x.mu.Unlock()
	f := x.fleet.Load()
	w, ok := f.workers[id]
	if !ok || e.Tier >= kv.NumMarks {
		x.ignored++
		return
	}
	if e.Tier == kv.Resume && e.Kind != kv.Cleared && !f.holders[w].resumes {
		f = f.resuming(w)
		x.fleet.Store(f)
	}
	c := x.core.Load()
	c.tick.Add(1)
	switch k := f.keyOf(w, e.Tier); e.Kind {
	case kv.Stored:
		x.expected = max(0, x.expected-len(e.Hashes))
		c.store(k, e.Parent, e.Hashes)
	case kv.Removed:
		x.unknown += uint64(c.remove(k, e.Hashes))
	case kv.Cleared:
		c.purge(func(other key) bool { return other == k })
	default:
		x.ignored++
	}
	x.settle()
}

// settle keeps the bound, and gives memory back when most of it is free.
func (x *Index) settle() {
	c := x.core.Load()
	if over := c.counts.blocks + c.counts.ghosts - x.maxBlocks; over > 0 {
		c.evict(over)
	}
	if c.sparse() {
		x.core.Store(c.rebuilt())
	}
}

// Stats describes an Index.
type Stats struct {
	Workers int `json:"workers"` // added and not removed
	Blocks  int `json:"blocks"`  // distinct, held by somebody
	Runs    int `json:"runs"`    // edges of the tree
	// Orphans are the distinct parents that held blocks name and nobody holds.
	// The roots of prompts are among them, since a root is not a block.
	Orphans     int              `json:"orphans"`
	Memberships int              `json:"memberships"` // blocks by holder and tier; a shared store is one holder
	Tiers       [kv.NumTiers]int `json:"tiers"`       // memberships by tier
	Bytes       int64            `json:"bytes"`       // memory of the index

	Evicted   uint64 `json:"evicted"`   // blocks dropped because the index was full
	Unknown   uint64 `json:"unknown"`   // blocks removed by somebody who did not hold them
	Conflicts uint64 `json:"conflicts"` // blocks stored behind a parent that is not theirs
	Crowded   uint64 `json:"crowded"`   // memberships dropped because too many shared one run
	Ignored   uint64 `json:"ignored"`   // events of unknown workers, kinds and tiers
}

// Stats describes the index now.
func (x *Index) Stats() Stats {
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.core.Load()
	n := &c.counts
	return Stats{
		Workers: len(x.fleet.Load().workers),
		Blocks:  n.blocks, Runs: n.runs, Orphans: n.ghosts, Memberships: n.memberships,
		Tiers: [kv.NumTiers]int(n.tiers[:]), Bytes: c.bytes(),
		Evicted: n.evicted, Unknown: x.unknown, Conflicts: n.conflicts, Crowded: n.crowded, Ignored: x.ignored,
	}
}
