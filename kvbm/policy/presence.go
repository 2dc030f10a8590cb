package policy

import (
	"container/list"
	"iter"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Presence is what this worker believes to be in a store whose slots it does
// not manage. Belief is bounded in number, and ends when the store's own time
// to live does.
type Presence struct {
	limit  int
	ttl    time.Duration // 0: the store keeps blocks for ever
	byHash map[kv.Hash]*list.Element
	order  *list.List // by confirmation, oldest first
}

// Belief is one block that is thought to be in the store until then.
type Belief struct {
	Block kv.Block
	Until time.Time
}

// NewPresence believes nothing yet.
func NewPresence(limit int, ttl time.Duration) *Presence {
	return &Presence{limit: limit, ttl: ttl, byHash: make(map[kv.Hash]*list.Element), order: list.New()}
}

// Add notes that the store has the block, with a fresh time to live. It
// reports whether that is news, and what was forgotten to stay in bounds.
func (p *Presence) Add(b kv.Block, now time.Time) (added bool, forgotten []kv.Hash) {
	if e, ok := p.byHash[b.Hash]; ok {
		e.Value.(*Belief).Until = now.Add(p.ttl)
		p.order.MoveToBack(e)
		return false, nil
	}
	p.byHash[b.Hash] = p.order.PushBack(&Belief{b, now.Add(p.ttl)})
	for len(p.byHash) > p.limit {
		forgotten = append(forgotten, p.forgetOldest())
	}
	return true, forgotten
}

// Oldest are the n beliefs that were not confirmed for the longest time.
func (p *Presence) Oldest(n int) (bs []Belief) {
	for e := p.order.Front(); e != nil && len(bs) < n; e = e.Next() {
		bs = append(bs, *e.Value.(*Belief))
	}
	return bs
}

// Confirm notes until when the store says that it keeps a block; its turn in
// Oldest comes last now.
func (p *Presence) Confirm(b Belief, until time.Time) {
	if e := p.unchanged(b); e != nil {
		e.Value.(*Belief).Until = until
		p.order.MoveToBack(e)
	}
}

// Gone notes that the store said it does not have a block; false when the block
// was stored again since the store was asked, or was known to be gone.
func (p *Presence) Gone(b Belief) bool { return p.unchanged(b) != nil && p.Remove(b.Block.Hash) }

func (p *Presence) unchanged(b Belief) *list.Element {
	if e := p.byHash[b.Block.Hash]; e != nil && *e.Value.(*Belief) == b {
		return e
	}
	return nil
}

// Remove notes that the store does not have the block; false when that was
// known.
func (p *Presence) Remove(h kv.Hash) bool {
	e, ok := p.byHash[h]
	if ok {
		p.order.Remove(e)
		delete(p.byHash, h)
	}
	return ok
}

// Expire forgets what the store has let go by now, at the latest once all
// beliefs confirmed before have ended too.
func (p *Presence) Expire(now time.Time) (forgotten []kv.Hash) {
	for p.ttl > 0 && p.order.Len() > 0 && !now.Before(p.order.Front().Value.(*Belief).Until) {
		forgotten = append(forgotten, p.forgetOldest())
	}
	return forgotten
}

func (p *Presence) forgetOldest() kv.Hash {
	h := p.order.Front().Value.(*Belief).Block.Hash
	p.Remove(h)
	return h
}

// Has reports whether the block is believed to be there.
func (p *Presence) Has(h kv.Hash) bool {
	_, ok := p.byHash[h]
	return ok
}

// Len is the number of blocks believed to be there.
func (p *Presence) Len() int { return len(p.byHash) }

// All yields the blocks, longest believed first.
func (p *Presence) All() iter.Seq[kv.Block] {
	return func(yield func(kv.Block) bool) {
		for e := p.order.Front(); e != nil; e = e.Next() {
			if !yield(e.Value.(*Belief).Block) {
				return
			}
		}
	}
}
