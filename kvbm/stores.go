package kvbm

import (
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// What the jobs that read stores have in common. All are called with mu held.

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

func (m *Manager) corrupt(t kv.Tier, b kv.Block, err error) {
	m.tiers[t].corrupt++
	m.log.Warn("a stored block is not what was written; it is dropped", "tier", t, "block", b.Hash, "err", err)
}
