package kvbm

import (
	"time"

	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// scanSlots bounds how many slots one step of a catch-up looks at.
const scanSlots = 1 << 15

// catchUp is the second chance of offloads from cpu that were dropped or failed:
// once the store works and the link is idle, the whole cpu tier is gone through
// and what the store lacks is offered again. Without other traffic that is also
// what finds out that the store works.
type catchUp struct {
	due   bool // something was lost since the pass under way began
	under bool // a pass is under way
	at    policy.Slot
}

// step goes on with the pass if the link has nothing else to do. mu is held.
func (m *Manager) stepCatchUp(l *link, now time.Time) {
	c := &l.catchUp
	if !c.under && c.due {
		*c = catchUp{under: true}
	}
	if !c.under || m.closing || l.queue.Len() > 0 || !l.store.usable(now) {
		return
	}
	budget := m.offloadBudget() / 2
	end := min(c.at+scanSlots, policy.Slot(m.cpu.Capacity()))
	for ; c.at < end && l.queue.Bytes() < budget && l.store.usable(now); c.at++ {
		if m.cpu.table.State(c.at) != policy.Committed {
			continue
		}
		b := m.cpu.table.Block(c.at)
		if m.holds(l.to, b.Hash) || l.pending[b.Hash] != nil || m.turnedAway(l, b.Hash) {
			continue
		}
		lease := m.cpu.lease(c.at)
		m.offerTo(l, lease)
		lease.release()
	}
	c.under = c.at < policy.Slot(m.cpu.Capacity())
}
