package kvbm

import (
	"errors"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/disk"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore"
)

// The jobs that read and write disk and Redis. All are called with mu held.

// loadToGPU copies cpu -> gpu. The flight holds the cpu block.
func (m *Manager) loadToGPU(l *link, j *job) outcome {
	if j.flight.forsaken() {
		return cancelled
	}
	j.flight.reserved = false // from here on the slot is the transfer's
	return m.copyInto(l, j, j.src, m.gpu, j.flight.slot)
}

// hostSlot gets a cpu slot for a load. It waits for one while offloads and
// other loads pass through.
func (m *Manager) hostSlot(f *flight) (s policy.Slot, how outcome) {
	if !m.waitForRoom(loadPatience, func() bool { return m.cpu.table.Available() > 0 || f.forsaken() }) {
		return 0, missed
	}
	if f.forsaken() {
		return 0, cancelled
	}
	m.unstage(f.block.Hash)
	slots, err := m.cpu.reserve(1)
	if err != nil {
		return 0, missed
	}
	return slots[0], moved
}

// unstage forgets what is left of a block's way down through a staging pool,
// or its way up would end at a duplicate.
func (m *Manager) unstage(h kv.Hash) {
	if s, ok := m.cpu.table.Find(h); ok && !m.cpu.advertise && m.cpu.table.Drop(s) {
		m.cpu.table.Evicted(s)
	}
}

// saveToDisk copies cpu -> disk.
func (m *Manager) saveToDisk(l *link, j *job) outcome {
	d := m.disk
	if d.table.Has(j.block.Hash) {
		return present
	}
	if !m.offloadSource(j) {
		return dropped
	}
	if !l.breaker.Allow(m.now()) {
		return dropped
	}
	err := m.freeDiskSlot()
	if err != nil {
		l.broke(err)
		return failed
	}
	s, ok := d.table.Fill(policy.AllParts)
	if !ok {
		l.breaker.Unknown()
		return dropped // readers hold every slot
	}
	err = l.timed(func() error { return d.store.Write(s, j.block, j.src.Bytes()) })
	if err != nil {
		d.table.Abort(s)
		l.broke(err)
		return failed
	}
	l.works()
	d.table.Commit(s, j.block)
	d.table.Unlease(s)
	m.stored(kv.Disk, j.block)
	return moved
}

// freeDiskSlot evicts a block from disk if no slot is free. Its tombstone is
// in the journal before the slot can be written again.
func (m *Manager) freeDiskSlot() error {
	d := m.disk
	if d.table.Counts().Free > 0 {
		return nil
	}
	s, b, ok := d.table.Evict(policy.AllParts)
	if !ok {
		return nil
	}
	m.evicted(kv.Disk, []kv.Hash{b.Hash})
	return m.bury(s)
}

// bury writes the tombstone of an evicting disk slot and frees it. If that
// fails, a restart may find the block again; the checksum then tells whether it
// is still there.
func (m *Manager) bury(s policy.Slot) error {
	m.mu.Unlock()
	err := m.disk.store.Tombstone(s)
	m.mu.Lock()
	m.disk.table.Evicted(s)
	return err
}

// loadFromDisk copies disk -> cpu. A block that cannot be read, or is not what
// was written, leaves the tier.
func (m *Manager) loadFromDisk(l *link, j *job) outcome {
	dst, how := m.hostSlot(j.flight)
	if how != moved {
		return how
	}
	d := m.disk
	s, ok := d.table.Find(j.block.Hash)
	if !ok || !l.breaker.Allow(m.now()) {
		m.cpu.abort(dst)
		return missed
	}
	b := d.table.Block(s)
	d.table.Lease(s)
	err := l.timed(func() error { return d.store.Read(s, m.cpu.mem.Slot(int(dst))) })
	d.table.Unlease(s)
	if err == nil {
		l.works()
		d.table.Hit(s)
		return m.land(j, m.cpu, dst, b)
	}
	m.cpu.abort(dst)
	if errors.Is(err, disk.ErrCorrupt) {
		l.works()
		m.corrupt(kv.Disk, b, err)
	} else {
		l.broke(err)
	}
	if d.table.Drop(s) {
		m.removed(kv.Disk, []kv.Hash{b.Hash})
		if err := m.bury(s); err != nil {
			l.broke(err)
		}
	}
	return failed
}

// saveToRedis copies cpu -> redis.
func (m *Manager) saveToRedis(l *link, j *job) outcome {
	r := m.redis
	if r.known.Has(j.block.Hash) {
		return present
	}
	if !m.offloadSource(j) {
		return dropped
	}
	if !l.breaker.Allow(m.now()) {
		return dropped
	}
	var there bool
	err := l.timed(func() (err error) {
		there, err = r.store.Put(m.ctx, j.block, j.src.Bytes())
		return err
	})
	if err != nil {
		m.redisFailed(l, err)
		return failed
	}
	l.works()
	m.inRedis(j.block)
	if there {
		return present
	}
	return moved
}

// loadFromRedis copies redis -> cpu. It asks for blocks that this manager knows
// nothing of too: another worker may have stored them.
func (m *Manager) loadFromRedis(l *link, j *job) outcome {
	dst, how := m.hostSlot(j.flight)
	if how != moved {
		return how
	}
	if !l.breaker.Allow(m.now()) {
		m.cpu.abort(dst)
		return missed
	}
	r, b := m.redis, j.block
	err := l.timed(func() (err error) {
		b, err = r.store.Get(j.flight.ctx, j.block.Hash, m.cpu.mem.Slot(int(dst)))
		return err
	})
	if err == nil {
		l.works()
		m.inRedis(b)
		return m.land(j, m.cpu, dst, b)
	}
	m.cpu.abort(dst)
	switch {
	case errors.Is(err, redisstore.ErrMiss):
		l.works()
		m.tiers[kv.Redis].misses++
		m.notInRedis(j.block.Hash)
		return missed
	case errors.Is(err, redisstore.ErrCorrupt):
		l.works()
		m.corrupt(kv.Redis, j.block, err)
		m.notInRedis(j.block.Hash)
		return failed
	case j.flight.forsaken():
		l.breaker.Unknown()
		return cancelled
	}
	m.redisFailed(l, err)
	return failed
}

func (m *Manager) redisFailed(l *link, err error) {
	if m.ctx.Err() != nil {
		l.breaker.Unknown()
		return
	}
	l.broke(err)
}

func (m *Manager) inRedis(b kv.Block) {
	added, forgotten := m.redis.known.Add(b, m.now())
	if added {
		m.stored(kv.Redis, b)
	}
	m.removed(kv.Redis, forgotten)
}

// notInRedis tells the index that a block is gone, even one this manager knew
// nothing of: whoever asked for it believed it was there.
func (m *Manager) notInRedis(h kv.Hash) {
	m.redis.known.Remove(h)
	m.removed(kv.Redis, []kv.Hash{h})
}

func (m *Manager) corrupt(t kv.Tier, b kv.Block, err error) {
	m.tiers[t].corrupt++
	m.log.Warn("a stored block is not what was written; it is dropped", "tier", t, "block", b.Hash, "err", err)
}
