package policy

import (
	"fmt"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Check recounts everything that the table keeps incrementally and compares:
// law 1, the findability of exactly the committed slots, and the eviction
// order. It reads every slot, so production never calls it.
func (t *Table) Check() error {
	var counts [numStates]int
	var listed [numClasses]int
	leased, inOrder := 0, 0
	heirs := map[kv.Hash]int32{}
	for i := range t.slots {
		e := &t.slots[i]
		counts[e.state]++
		if e.leases > 0 {
			leased++
		}
		if e.state != Committed && e.leases != 0 {
			return fmt.Errorf("slot %d is %s with %d leases", i, e.state, e.leases)
		}
		if e.state == Committed {
			listed[e.class]++
			if s, ok := t.byHash[e.block.Hash]; !ok || s != Slot(i) {
				return fmt.Errorf("slot %d is committed but %s leads to slot %d", i, e.block.Hash, s)
			}
			if e.leases == 0 && e.block.Parent != e.block.Hash {
				heirs[e.block.Parent]++
			}
		}
	}
	if counts != t.counts || leased != t.leased || listed != t.listed {
		return fmt.Errorf("counted %v slots, %d leased, %v by list; kept %v, %d, %v", counts, leased, listed, t.counts, t.leased, t.listed)
	}
	if sum := counts[Free] + counts[Filling] + counts[Committed] + counts[Evicting]; sum != len(t.slots) {
		return fmt.Errorf("law 1: %d slots in states, capacity %d", sum, len(t.slots))
	}
	free, order := 0, 0
	for part := range t.free {
		free += len(t.free[part])
		order += len(t.order[part][recent]) + len(t.order[part][frequent])
	}
	if len(t.byHash) != counts[Committed] || free != counts[Free] || len(heirs) != len(t.heirs) {
		return fmt.Errorf("index of %d, free list of %d, %d parents; want %d, %d, %d",
			len(t.byHash), free, len(t.heirs), counts[Committed], counts[Free], len(heirs))
	}
	for i := range t.slots {
		e := &t.slots[i]
		leaf := e.state == Committed && e.leases == 0 && heirs[e.block.Hash] == 0
		if leaf != (e.rank >= 0) {
			return fmt.Errorf("slot %d: leaf %v, rank %d", i, leaf, e.rank)
		}
		if !leaf {
			continue
		}
		inOrder++
		if heap := *t.heapOf(Slot(i)); heap[e.rank] != Slot(i) || e.rank > 0 && t.older(Slot(i), heap[(e.rank-1)/2]) {
			return fmt.Errorf("slot %d: the eviction order is broken at rank %d", i, e.rank)
		}
	}
	if inOrder != order {
		return fmt.Errorf("%d leaves in the order, want %d", order, inOrder)
	}
	return nil
}
