package prefixindex

import (
	"maps"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// naive is the index as plain sets: what every answer is compared with.
type naive struct {
	workers map[kv.WorkerID]string // to shared store
	held    map[owner]map[kv.Hash]bool
	marks   map[kv.WorkerID]bool // workers that ever marked a block
}

type owner struct {
	name  string
	store bool
	tier  kv.Tier
}

func newNaive() *naive {
	return &naive{map[kv.WorkerID]string{}, map[owner]map[kv.Hash]bool{}, map[kv.WorkerID]bool{}}
}

func (n *naive) owner(id kv.WorkerID, t kv.Tier) owner {
	if s := n.workers[id]; t == kv.Redis && s != "" {
		return owner{s, true, t}
	}
	return owner{string(id), false, t}
}

func (n *naive) AddWorker(id kv.WorkerID, store string) {
	n.workers[id] = store
	if store != "" {
		delete(n.held, owner{string(id), false, kv.Redis})
	}
}

func (n *naive) RemoveWorker(id kv.WorkerID) {
	delete(n.workers, id)
	delete(n.marks, id)
	maps.DeleteFunc(n.held, func(o owner, _ map[kv.Hash]bool) bool { return !o.store && o.name == string(id) })
}

func (n *naive) Apply(id kv.WorkerID, e kv.Event) {
	if _, ok := n.workers[id]; !ok {
		return
	}
	o := n.owner(id, e.Tier)
	if e.Tier == kv.Resume && e.Kind != kv.Cleared {
		n.marks[id] = true
	}
	if n.held[o] == nil {
		n.held[o] = map[kv.Hash]bool{}
	}
	for _, h := range e.Hashes {
		if e.Kind == kv.Stored {
			n.held[o][h] = true
		} else {
			delete(n.held[o], h)
		}
	}
	if e.Kind == kv.Cleared {
		delete(n.held, o)
	}
}

// spans is what id holds of hashes, from the first one on.
func (n *naive) spans(id kv.WorkerID, hashes []kv.Hash) (spans []kv.Span) {
	if _, ok := n.workers[id]; !ok {
		return nil
	}
	usable := 0 // spans
	for _, h := range hashes {
		var set kv.TierSet
		for t := range kv.NumMarks {
			if n.held[n.owner(id, t)][h] {
				set = set.With(t)
			}
		}
		if set.Without(kv.Resume) == 0 {
			break
		}
		mark := set.Has(kv.Resume)
		set = set.Without(kv.Resume)
		if k := len(spans); k > 0 && spans[k-1].Tiers == set {
			spans[k-1].Blocks++
		} else {
			spans = append(spans, kv.Span{Blocks: 1, Tiers: set})
		}
		if mark {
			usable = sumBlocks(spans)
		}
	}
	if n.marks[id] {
		return first(spans, usable)
	}
	return spans
}

func sumBlocks(spans []kv.Span) (n int) {
	for _, s := range spans {
		n += s.Blocks
	}
	return n
}

// first is the spans of the first n blocks.
func first(spans []kv.Span, n int) (out []kv.Span) {
	for _, s := range spans {
		if s.Blocks = min(s.Blocks, n); s.Blocks > 0 {
			out = append(out, s)
		}
		n -= s.Blocks
	}
	return out
}

// sizes are the distinct blocks held and the memberships by tier.
func (n *naive) sizes() (blocks int, tiers [kv.NumMarks]int) {
	all := map[kv.Hash]bool{}
	for o, held := range n.held {
		tiers[o.tier] += len(held)
		maps.Copy(all, held)
	}
	return len(all), tiers
}
