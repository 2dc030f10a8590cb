package kvbm

import (
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// offer hands a block that was just committed, or found again, to the tiers
// below. It is called with mu held and never waits.
func (m *Manager) offer(l *Lease) {
	switch l.pool.tier {
	case kv.GPU:
		m.offerTo(m.link(kv.GPU, kv.CPU), l)
	case kv.CPU:
		m.offerTo(m.link(kv.CPU, kv.Disk), l)
		m.offerTo(m.link(kv.CPU, kv.Redis), l)
	}
}

// offerTo queues one offload. One from the gpu pool takes its lease only when
// it is being copied, so that the queue never stands in the engine's way. One
// from cpu takes it at once, or a burst would evict blocks before they reached
// the disk; but such leases take at most half of the pool, the rest is for
// loads, and an offload beyond that takes its chance like one from gpu.
func (m *Manager) offerTo(l *link, from *Lease) {
	if l == nil || m.closing && from.pool.tier == kv.GPU {
		return
	}
	b := from.block
	switch {
	case m.holds(l.to, b.Hash) || l.pending[b.Hash] != nil:
		l.offered++
		l.ended[present]++
		return
	case l.breaker != nil && !l.breaker.Usable(m.now()):
		l.offered++
		l.ended[dropped]++
		return
	}
	j := &job{block: b}
	if l.from == kv.CPU && m.offloadLeases < m.maxOffloadLeases() {
		m.leaseOffload(j, from.slot)
	}
	if l.push(j, policy.Offload) {
		l.pending[b.Hash] = j
	}
}

func (m *Manager) leaseOffload(j *job, s policy.Slot) {
	m.offloadLeases++
	j.src = m.cpu.lease(s)
}

// offloadSource makes sure that an offload from cpu has its lease; false when
// the block was evicted before its turn came.
func (m *Manager) offloadSource(j *job) bool {
	if j.src != nil {
		return true
	}
	s, ok := m.cpu.table.Find(j.block.Hash)
	if ok {
		m.leaseOffload(j, s)
	}
	return ok
}

func (m *Manager) maxOffloadLeases() int { return max(1, m.cpu.Capacity()/2) }

// holds reports whether a tier has the block, advertised or not.
func (m *Manager) holds(t kv.Tier, h kv.Hash) bool {
	if t == kv.Redis {
		return m.redis.known.Has(h)
	}
	return m.tableOf(t).Has(h)
}

// saveToHost copies gpu -> cpu.
func (m *Manager) saveToHost(l *link, j *job) outcome {
	if s, ok := m.cpu.table.Find(j.block.Hash); ok {
		m.cpu.table.Touch(s)
		found := m.cpu.lease(s)
		m.offer(found) // what was dropped before gets another chance
		found.release()
		return present
	}
	// Stores that lag behind are worth waiting for: a block copied into a pool
	// full of blocks on their way down would push one out before it got there.
	// If they do not catch up, a cpu tier of its own still takes the block.
	caughtUp := m.waitForRoom(offloadPatience, func() bool { return m.offloadLeases < m.maxOffloadLeases() })
	if !caughtUp && !m.cpu.advertise {
		return dropped
	}
	for m.gpu.starved > 0 {
		m.room.Wait()
	}
	s, ok := m.gpu.table.Find(j.block.Hash)
	if !ok {
		return dropped // evicted before its turn came
	}
	slots, err := m.cpu.reserve(1)
	if err != nil {
		return dropped
	}
	src := m.gpu.lease(s)
	m.gpu.copying++
	defer func() {
		m.gpu.copying--
		src.release()
	}()
	return m.copyInto(l, j, src, m.cpu, slots[0])
}

// copyInto copies a leased block into a slot of another memory.
func (m *Manager) copyInto(l *link, j *job, src *Lease, to *Pool, s policy.Slot) outcome {
	_ = l.timed(func() error { copy(to.mem.Slot(int(s)), src.Bytes()); return nil })
	return m.land(j, to, s, src.block)
}

// land commits a slot that a transfer has filled.
func (m *Manager) land(j *job, to *Pool, s policy.Slot, b kv.Block) outcome {
	lease, ok := to.commit(s, b)
	if !ok { // the engine, or another transfer, was faster
		to.abort(s)
		s, _ = to.table.Find(b.Hash)
		lease = to.lease(s)
	}
	if j.flight != nil {
		j.flight.arrived(lease)
	}
	lease.release()
	if !ok {
		return present
	}
	return moved
}
