package kvbm

import (
	"errors"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore"
)

// The jobs that read and write Redis, and what those of disk share with them. All are called with mu held.

// hostSlot gets a cpu slot for a load. It waits for one while offloads and
// other loads pass through.
func (m *Manager) hostSlot(l *link, f *flight) (s policy.Slot, how outcome) {
	room := func() bool { return m.cpu.table.Available() > 0 || f.forsaken() }
	if !room() {
		l.stuck++
		l.yield()
		m.waitForRoom(loadPatience, room)
		l.stuck--
	}
	if !room() {
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

// saveToRedis copies cpu -> redis.
func (m *Manager) saveToRedis(l *link, j *job) outcome {
	r := m.redis
	if r.known.Has(j.block.Hash) {
		return present
	}
	if !m.offloadSource(j) {
		return dropped
	}
	if !r.Allow(m.now()) {
		return dropped
	}
	var there bool
	err := l.timed(1, func() (err error) {
		there, err = r.store.Put(m.ctx, j.block, j.src.Bytes())
		return err
	})
	if err != nil {
		r.failed(m, err)
		return failed
	}
	r.works()
	m.inRedis(j.block)
	if there {
		return present
	}
	return moved
}

// loadFromRedis copies redis -> cpu. It asks for blocks that this manager knows
// nothing of too: another worker may have stored them.
func (m *Manager) loadFromRedis(l *link, j *job) outcome {
	dst, how := m.hostSlot(l, j.flight)
	if how != moved {
		return how
	}
	r, b := m.redis, j.block
	if !r.Allow(m.now()) {
		m.cpu.abort(dst)
		return missed
	}
	err := l.timed(1, func() (err error) {
		b, err = r.store.Get(j.flight.ctx, j.block.Hash, m.cpu.mem.Slot(int(dst)))
		return err
	})
	if err == nil {
		r.works()
		m.inRedis(b)
		return m.land(j, m.cpu, dst, b)
	}
	m.cpu.abort(dst)
	switch {
	case errors.Is(err, redisstore.ErrMiss):
		r.works()
		m.tiers[kv.Redis].misses++
		m.notInRedis(j.block.Hash)
		return missed
	case errors.Is(err, redisstore.ErrCorrupt):
		r.works()
		m.corrupt(kv.Redis, j.block, err)
		m.notInRedis(j.block.Hash)
		return failed
	case j.flight.forsaken():
		r.Unknown()
		return cancelled
	}
	r.failed(m, err)
	return failed
}

func (r *redisTier) failed(m *Manager, err error) {
	if m.ctx.Err() != nil {
		r.Unknown()
		return
	}
	r.broke(err)
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
