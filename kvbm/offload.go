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
		l.turnAway(present)
		return
	case l.store != nil && !l.store.usable(m.now()):
		l.turnAway(dropped)
		return
	case !m.admitted(l, b.Hash):
		l.turnAway(declined)
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

// turnAway books an offer that makes no job.
func (l *link) turnAway(how outcome) {
	l.offered++
	l.count(how)
}

// saveRoom is how many blocks one call may bring down into cpu: no more than
// the stores below can lease, or blocks would be evicted before they got there.
func (m *Manager) saveRoom() int {
	n := m.callBlocks()
	if m.disk != nil || m.redis != nil {
		n = min(n, (m.maxOffloadLeases()-m.offloadLeases)/2)
	}
	return max(1, n)
}

// saveToHost copies gpu -> cpu.
func (m *Manager) saveToHost(l *link, jobs []*job) {
	// Stores that lag behind are worth waiting for: a block copied into a pool
	// full of blocks on their way down would push one out before it got there.
	// If they do not catch up, a cpu tier of its own still takes the block.
	caughtUp := m.waitForRoom(offloadPatience, func() bool { return m.offloadLeases < m.maxOffloadLeases() })
	for m.gpu.starved > 0 {
		m.room.Wait()
	}
	var calls []legwork
	for _, j := range jobs {
		if s, ok := m.cpu.table.Find(j.block.Hash); ok {
			m.cpu.table.Touch(s)
			found := m.cpu.lease(s)
			m.offer(found) // what was dropped before gets another chance
			found.release()
			l.settle(j, present)
			continue
		}
		s, there := m.gpu.table.Find(j.block.Hash)
		if !there || !caughtUp && !m.cpu.advertise { // evicted before its turn came, or nowhere to go on to
			l.settle(j, dropped)
			continue
		}
		slots, err := m.cpu.reserve(1)
		if err != nil {
			l.settle(j, dropped)
			continue
		}
		calls = append(calls, legwork{j, m.gpu.lease(s), slots[0]})
	}
	m.gpu.copying += len(calls)
	m.copyBlocks(l, calls, m.cpu)
	m.gpu.copying -= len(calls)
	for _, c := range calls {
		how := m.land(c.job, m.cpu, c.dst, c.src.block)
		c.src.release()
		l.settle(c.job, how)
	}
}

// loadToGPU copies cpu -> gpu. The flights hold the cpu blocks.
func (m *Manager) loadToGPU(l *link, jobs []*job) {
	var calls []legwork
	for _, j := range jobs {
		if j.flight.forsaken() {
			l.settle(j, cancelled)
			continue
		}
		j.flight.reserved = false // from here on the slot is the transfer's
		calls = append(calls, legwork{j, j.src, j.flight.slot})
	}
	m.copyBlocks(l, calls, m.gpu)
	for _, c := range calls {
		l.settle(c.job, m.land(c.job, m.gpu, c.dst, c.src.block))
	}
}

// legwork is one block of a call between memories.
type legwork struct {
	job *job
	src *Lease
	dst policy.Slot
}

func (m *Manager) copyBlocks(l *link, calls []legwork, to *Pool) {
	if len(calls) == 0 {
		return
	}
	_ = l.timed(len(calls), func() error {
		for _, c := range calls {
			copy(to.mem.Slot(int(c.dst)), c.src.Bytes())
		}
		return nil
	})
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
