package sim

import (
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// root is the parent of every prompt's first block: one model, one tenant.
var root = kv.Hash{'r', 'o', 'o', 't'}

// pool is one tier of one worker: the engine's KV cache, or host or disk blocks
// of its block manager. What comes and goes is told as events.
type pool struct {
	*policy.Table
	tier kv.Tier
	tell func(kv.Event)

	// Events under way: blocks gone since the last one told, and a run of blocks
	// that came, in chain order.
	gone   []kv.Hash
	come   []kv.Hash
	parent kv.Hash
	last   kv.Hash
}

func newPool(tier kv.Tier, blocks int, tell func(kv.Event)) *pool {
	return &pool{Table: policy.NewTable(policy.LRU, blocks), tier: tier, tell: tell}
}

// take is a slot to fill, at the price of the least recently used block if need
// be; false when every slot is in use.
func (p *pool) take() (policy.Slot, bool) {
	if s, ok := p.Fill(policy.AllParts); ok {
		return s, true
	}
	s, b, ok := p.Evict(policy.AllParts)
	if !ok {
		return 0, false
	}
	p.flushCome()
	p.gone = append(p.gone, b.Hash)
	p.Evicted(s)
	return p.Fill(policy.AllParts)
}

// keep commits a filled slot as b, leased; false when b is held already.
func (p *pool) keep(s policy.Slot, b kv.Block) bool {
	if !p.Commit(s, b) {
		return false
	}
	p.flushGone()
	if len(p.come) > 0 && p.last != b.Parent {
		p.flushCome()
	}
	if len(p.come) == 0 {
		p.parent = b.Parent
	}
	p.come = append(p.come, b.Hash)
	p.last = b.Hash
	return true
}

// put stores b for later, unleased; false when it is held already or there is no
// room.
func (p *pool) put(b kv.Block) bool {
	if s, ok := p.Find(b.Hash); ok {
		p.Touch(s)
		return false
	}
	s, ok := p.take()
	if !ok || !p.keep(s, b) {
		return false
	}
	p.Unlease(s)
	return true
}

// drop gives a slot back that was taken and not kept.
func (p *pool) drop(s policy.Slot) { p.Abort(s) }

// flush tells what is under way.
func (p *pool) flush() {
	p.flushGone()
	p.flushCome()
}

func (p *pool) flushGone() {
	if len(p.gone) > 0 {
		p.tell(kv.Event{Kind: kv.Removed, Tier: p.tier, Hashes: p.gone})
		p.gone = p.gone[:0]
	}
}

func (p *pool) flushCome() {
	if len(p.come) > 0 {
		p.tell(kv.Event{Kind: kv.Stored, Tier: p.tier, Parent: p.parent, Hashes: p.come})
		p.come = p.come[:0]
	}
}

// usage is the share of the slots that are in use.
func (p *pool) usage() float64 { return 1 - float64(p.Available())/float64(p.Capacity()) }
