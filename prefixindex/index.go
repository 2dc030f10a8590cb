package prefixindex

import (
	"sync"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Options configure an Index.
type Options struct {
	// MaxBlocks bounds the distinct blocks held; 0 means DefaultMaxBlocks.
	MaxBlocks int
}

// Index is the prefix index of a fleet. It is safe for concurrent use.
type Index struct {
	mu      sync.RWMutex
	workers map[kv.WorkerID]string
	held    map[holder]map[kv.Hash]kv.Hash // hash -> parent
}

type holder struct {
	name  string
	store bool
	tier  kv.Tier
}

// Stats describes an Index.
type Stats struct {
	Workers int              // workers added and not removed
	Blocks  int              // distinct blocks held by somebody
	Orphans int              // distinct parents named by held blocks and held by nobody; prompt roots are among them
	Bytes   int64            // memory of the index
	Tiers   [kv.NumTiers]int // block memberships by tier; a shared store's count once
}

// New makes an empty Index.
func New(o Options) *Index {
	return &Index{workers: map[kv.WorkerID]string{}, held: map[holder]map[kv.Hash]kv.Hash{}}
}

func (x *Index) holder(id kv.WorkerID, t kv.Tier) holder {
	if s := x.workers[id]; t == kv.Redis && s != "" {
		return holder{s, true, t}
	}
	return holder{string(id), false, t}
}

// AddWorker makes id known; sharedStore names the store its Redis tier is in.
func (x *Index) AddWorker(id kv.WorkerID, sharedStore string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.workers[id] = sharedStore
}

// RemoveWorker forgets id and all it holds; a shared store's blocks stay.
func (x *Index) RemoveWorker(id kv.WorkerID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.workers, id)
	for t := range kv.NumTiers {
		delete(x.held, holder{string(id), false, t})
	}
}

// Apply enters one event of worker id.
func (x *Index) Apply(id kv.WorkerID, e kv.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if _, ok := x.workers[id]; !ok {
		return
	}
	h := x.holder(id, e.Tier)
	switch e.Kind {
	case kv.Stored:
		if x.held[h] == nil {
			x.held[h] = map[kv.Hash]kv.Hash{}
		}
		p := e.Parent
		for _, b := range e.Hashes {
			x.held[h][b], p = p, b
		}
	case kv.Removed:
		for _, b := range e.Hashes {
			delete(x.held[h], b)
		}
	case kv.Cleared:
		delete(x.held, h)
	}
}

// Matches is the answer of Match, reusable.
type Matches struct{ spans map[kv.WorkerID][]kv.Span }

// Spans is what worker id holds of the prompt, from its first block on.
func (m *Matches) Spans(id kv.WorkerID) []kv.Span { return m.spans[id] }

// Match fills m with what each worker holds of the prompt's blocks.
func (x *Index) Match(m *Matches, hashes []kv.Hash) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	m.spans = map[kv.WorkerID][]kv.Span{}
	for id := range x.workers {
		var spans []kv.Span
		for _, b := range hashes {
			var set kv.TierSet
			for t := range kv.NumTiers {
				if _, ok := x.held[x.holder(id, t)][b]; ok {
					set = set.With(t)
				}
			}
			if set == 0 {
				break
			}
			if n := len(spans); n > 0 && spans[n-1].Tiers == set {
				spans[n-1].Blocks++
			} else {
				spans = append(spans, kv.Span{Blocks: 1, Tiers: set})
			}
		}
		if spans != nil {
			m.spans[id] = spans
		}
	}
}

// Snapshot is worker id's holdings as events.
func (x *Index) Snapshot(id kv.WorkerID) []kv.Event {
	x.mu.RLock()
	defer x.mu.RUnlock()
	var out []kv.Event
	for t := range kv.NumTiers {
		for b, p := range x.held[x.holder(id, t)] {
			out = append(out, kv.Event{Kind: kv.Stored, Tier: t, Parent: p, Hashes: []kv.Hash{b}})
		}
	}
	return out
}

// Stats describes the index now.
func (x *Index) Stats() Stats {
	x.mu.RLock()
	defer x.mu.RUnlock()
	s := Stats{Workers: len(x.workers)}
	for h, m := range x.held {
		s.Tiers[h.tier] += len(m)
	}
	return s
}
