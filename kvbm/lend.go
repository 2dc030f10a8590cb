package kvbm

import "github.com/kvasir-ai/kvasir/internal/kv"

// What an engine's plug-in needs, which shares the host pool's memory and names
// slots by number.

// Host is the pool of the cpu tier, or the staging pool that stands in for it;
// nil without a tier below gpu.
func (m *Manager) Host() *Pool { return m.cpu }

// Slot is the number of the slot in the pool's memory.
func (f *Filling) Slot() int { return int(f.slot) }

// Slots waits for the end of the onboarding and names the slots of the blocks
// that it holds, from the first on: none once they were let go.
func (o *Onboarding) Slots() []int {
	<-o.done
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	slots := make([]int, len(o.leases))
	for i, l := range o.leases {
		slots[i] = int(l.slot)
	}
	return slots
}

// Held counts the leading blocks that are in some tier, as far as it is known.
func (m *Manager) Held(blocks []kv.Block) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for n < len(blocks) && m.tiersOf(blocks[n].Hash) != 0 {
		n++
	}
	return n
}
