package prefixindex

import (
	"maps"
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// fleet numbers the holders: workers, and the stores that workers share. It
// does not change once it is published; number 0 is nobody.
type fleet struct {
	holders []holder
	workers map[kv.WorkerID]uint32
	stores  map[string]uint32
}

type holder struct {
	worker kv.WorkerID // "" for a store or a free number
	store  uint32      // the store a worker's redis tier is in, 0 if its own
	// resumes is set for a worker that marks the blocks at which a prefix can be
	// resumed: others are no use to it as the last one.
	resumes bool
}

func newFleet() *fleet {
	return &fleet{holders: make([]holder, 1), workers: map[kv.WorkerID]uint32{}, stores: map[string]uint32{}}
}

func (f *fleet) clone() *fleet {
	return &fleet{slices.Clone(f.holders), maps.Clone(f.workers), maps.Clone(f.stores)}
}

// with is the fleet and worker id, or id with another store.
func (f *fleet) with(id kv.WorkerID, store string) *fleet {
	n := f.clone()
	w, ok := n.workers[id]
	if !ok {
		w = n.number()
		n.workers[id] = w
	}
	n.holders[w] = holder{worker: id, resumes: ok && n.holders[w].resumes}
	if store != "" {
		s, ok := n.stores[store]
		if !ok {
			s = uint32(len(n.holders))
			n.holders = append(n.holders, holder{})
			n.stores[store] = s
		}
		n.holders[w].store = s
	}
	return n
}

// number is one that no worker or store has.
func (f *fleet) number() uint32 {
	taken := make([]bool, len(f.holders)+1)
	taken[0] = true
	for _, w := range f.workers {
		taken[w] = true
	}
	for _, s := range f.stores {
		taken[s] = true
	}
	n := slices.Index(taken, false)
	if n == len(f.holders) {
		f.holders = append(f.holders, holder{})
	}
	return uint32(n)
}

// without is the fleet less worker id.
func (f *fleet) without(id kv.WorkerID) *fleet {
	n := f.clone()
	n.holders[n.workers[id]] = holder{}
	delete(n.workers, id)
	return n
}

// resuming is the fleet with worker w known to mark blocks.
func (f *fleet) resuming(w uint32) *fleet {
	n := f.clone()
	n.holders[w].resumes = true
	return n
}

// keyOf is what holds worker w's blocks in a tier.
func (f *fleet) keyOf(w uint32, t kv.Tier) key {
	if s := f.holders[w].store; t == kv.Redis && s != 0 {
		return keyOf(s, t)
	}
	return keyOf(w, t)
}
