package kvbm

import (
	"context"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// flightKey names a flight: a block and where it shall land.
type flightKey struct {
	hash kv.Hash
	to   kv.Tier
}

// flight is one block on its way up to one tier, shared by all who want it
// there. A flight to gpu waits for one to cpu first when the block is lower. All
// fields are guarded by Manager.mu.
type flight struct {
	m     *Manager
	block kv.Block
	to    kv.Tier
	from  kv.Tier // where the bytes come from, in the end
	// prio is that of the most urgent passenger.
	prio       policy.Priority
	passengers []*passenger
	link       *link      // the link of the current leg, nil while the first leg is another flight
	job        *job       // the job of the current leg
	first      *passenger // this flight's own seat on the flight to cpu
	tried      kv.TierSet
	peers      []string    // where else it may come from, best first; used up as they are tried
	slot       policy.Slot // reserved in gpu, if reserved
	reserved   bool
	over       bool
	ctx        context.Context // ends when the last passenger leaves
	cancel     context.CancelFunc
}

// passenger is one party that waits for a flight.
type passenger struct {
	flight *flight
	// deliver is called once, with mu held: with a lease of the passenger's own,
	// or nil for a miss.
	deliver func(l *Lease, from kv.Tier)
}

// fetch brings a block to a tier and calls deliver, maybe before it returns.
// The router named peers that have it. mu is held.
func (m *Manager) fetch(b kv.Block, to kv.Tier, prio policy.Priority, peers []string, deliver func(*Lease, kv.Tier)) *passenger {
	p := &passenger{deliver: deliver}
	key := flightKey{b.Hash, to}
	f := m.flights[key]
	if f != nil {
		p.flight = f
		f.passengers = append(f.passengers, p)
		f.boardPeers(peers)
		f.promote(prio)
		return p
	}
	f = &flight{m: m, block: b, to: to, prio: prio, passengers: []*passenger{p}, peers: peers}
	f.ctx, f.cancel = context.WithCancel(m.ctx)
	p.flight = f
	m.flights[key] = f
	f.depart()
	return p
}

// depart starts the next leg from the best source not tried yet: a peer, if the
// router found that to be the soonest, else the nearest tier. Without one the
// flight ends as a miss.
func (f *flight) depart() {
	if f.m.stopped {
		f.finish(nil)
		return
	}
	if f.to == kv.GPU {
		f.departForGPU()
		return
	}
	if from := f.nextPeer(); from != nil {
		f.queue(kv.Peer, nil, from)
		return
	}
	switch {
	case f.m.diskHas(f.block.Hash) && f.try(kv.Disk):
		f.queue(kv.Disk, nil, nil)
	case f.m.redisUsable(f.block.Hash) && f.try(kv.Redis):
		f.m.missedIn(kv.Disk)
		f.queue(kv.Redis, nil, nil)
	default:
		f.m.missedIn(kv.Disk)
		f.finish(nil)
	}
}

// departForGPU takes the slot to land in first. Blocks are asked for in the
// order of their prefix, so what fits in a nearly full pool is the beginning, and
// nothing is read that has no place to go.
func (f *flight) departForGPU() {
	if len(f.peers) == 0 && !f.m.mayHave(f.block.Hash) {
		f.m.missedIn(kv.CPU)
		f.finish(nil)
		return
	}
	slots, err := f.m.gpu.reserve(1)
	if err != nil {
		f.finish(nil)
		return
	}
	f.slot, f.reserved = slots[0], true
	if s, ok := f.m.hostSource(f.block.Hash); ok {
		f.m.cpu.table.Hit(s)
		f.queue(kv.CPU, f.m.cpu.lease(s), nil)
		return
	}
	f.m.missedIn(kv.CPU)
	f.first = f.m.fetch(f.block, kv.CPU, f.prio, f.peers, func(l *Lease, from kv.Tier) {
		if l == nil {
			f.finish(nil)
			return
		}
		f.queue(kv.CPU, l, nil)
		f.from = from
	})
}

// queue puts the flight on the link from a tier; src is its lease there, or
// peer the one that has it.
func (f *flight) queue(from kv.Tier, src *Lease, peer *remote) {
	f.from = from
	f.link = f.m.link(from, f.to)
	f.job = &job{block: f.block, src: src, flight: f, peer: peer}
	f.link.push(f.job, f.prio)
}

func (f *flight) try(t kv.Tier) bool {
	fresh := !f.tried.Has(t)
	f.tried = f.tried.With(t)
	return fresh
}

// arrived gives each passenger a lease of its own.
func (f *flight) arrived(l *Lease) { f.finish(l) }

// legEnded is told how the current leg's job ended. After a failure another
// source may do.
func (f *flight) legEnded(how outcome) {
	switch {
	case f.over:
	case how == cancelled || f.forsaken() || f.to == kv.GPU:
		f.finish(nil)
	default:
		f.depart()
	}
}

func (f *flight) finish(l *Lease) {
	if f.over {
		return
	}
	f.over = true
	f.cancel()
	if f.reserved {
		f.m.gpu.abort(f.slot)
	}
	f.unlist()
	// A block from below cpu is a hit there once, on its first leg.
	if l != nil && len(f.passengers) > 0 && f.first == nil {
		f.m.tiers[f.from].hits++
	}
	for _, p := range f.passengers {
		if l == nil {
			p.deliver(nil, 0)
		} else {
			p.deliver(l.pool.lease(l.slot), f.from)
		}
	}
	f.passengers = nil
}

// leave gives up a seat; false when the passenger was served already. When it
// was the last one, the flight is called off: at once if it has not departed,
// else when its transfer notices.
func (p *passenger) leave() bool {
	f := p.flight
	if f.over {
		return false
	}
	for i, other := range f.passengers {
		if other == p {
			f.passengers = append(f.passengers[:i], f.passengers[i+1:]...)
			break
		}
	}
	if len(f.passengers) > 0 {
		return true
	}
	f.cancel()
	f.unlist()
	switch {
	case f.job != nil:
		if f.link.queue.Remove(&f.job.Item) {
			f.link.settle(f.job, cancelled)
		}
	case f.first != nil:
		f.first.leave()
		f.finish(nil)
	}
	f.m.room.Broadcast() // its transfer may be waiting for a slot
	return true
}

// unlist lets no more passengers board.
func (f *flight) unlist() {
	if key := (flightKey{f.block.Hash, f.to}); f.m.flights[key] == f {
		delete(f.m.flights, key)
	}
}

// forsaken reports whether nobody waits any more.
func (f *flight) forsaken() bool { return f.ctx.Err() != nil }

func (f *flight) promote(prio policy.Priority) {
	if prio >= f.prio {
		return
	}
	f.prio = prio
	if f.job != nil {
		f.link.queue.Promote(&f.job.Item, prio)
	} else if f.first != nil {
		f.first.flight.promote(prio)
	}
}

func (m *Manager) diskHas(h kv.Hash) bool {
	return m.disk != nil && m.disk.has(h, m.now())
}

// mayHave reports whether it is worth looking for a block below gpu. Redis may
// have any.
func (m *Manager) mayHave(h kv.Hash) bool {
	return m.cpu != nil && (m.cpu.table.Has(h) || m.diskHas(h) || m.redisUsable(h))
}

// hostSource is the cpu slot to load a block from. A staging pool is a source
// only for what no store has, yet or at this time.
func (m *Manager) hostSource(h kv.Hash) (policy.Slot, bool) {
	s, ok := m.cpu.table.Find(h)
	if ok && !m.cpu.advertise && (m.diskHas(h) || m.redisUsable(h) && m.redis.known.Has(h)) {
		return 0, false
	}
	return s, ok
}

func (m *Manager) missedIn(t kv.Tier) {
	if m.tableOf(t) != nil {
		m.tiers[t].misses++
	}
}
