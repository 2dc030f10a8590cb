package disk

import (
	"context"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	// prewriteRate is slow enough that neither the worker nor its neighbours on
	// the disk notice, in bytes a second.
	prewriteRate  = 64 << 20
	prewriteBatch = 1 << 20
)

// prewriter writes zeros to slots that were never used. A slot belongs to it
// only while it holds mu and the slot is not claimed.
type prewriter struct {
	s    *Store
	head header // of the slab; its counter is the number of slots that are pre-written
	mu   sync.Mutex
	used []bool
}

// claim takes a slot away from the prewriter, for good.
func (p *prewriter) claim(slot policy.Slot) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.used[slot] = true
}

// run pre-writes the rest of the slab and notes in the superblock that it did.
// It stops at the first error: the slots are as usable without it.
func (p *prewriter) run(ctx context.Context) {
	capacity := uint64(len(p.used))
	if p.head.counter >= capacity {
		return
	}
	zeros := host.Aligned(p.s.stride)
	tick := time.NewTicker(time.Second * prewriteBatch / prewriteRate)
	defer tick.Stop()
	batch := 0
	for slot := p.head.counter; slot < capacity; slot++ {
		if batch += p.s.stride; batch >= prewriteBatch {
			// A stride may be several batches; the pace is that of the bytes.
			for ; batch >= prewriteBatch; batch -= prewriteBatch {
				select {
				case <-ctx.Done():
					return
				case <-tick.C:
				}
			}
		}
		if err := p.zero(policy.Slot(slot), zeros); err != nil {
			p.s.log.Info("disk tier: pre-writing stopped", "err", err)
			return
		}
	}
	p.head.counter = capacity
	if err := p.s.writeSuperblock(p.head); err != nil {
		p.s.log.Info("disk tier: pre-writing is done but could not be noted", "err", err)
	}
}

func (p *prewriter) zero(slot policy.Slot, zeros []byte) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used[slot] {
		return nil
	}
	_, err := p.s.slab.WriteAt(zeros, p.s.offset(slot))
	return err
}
