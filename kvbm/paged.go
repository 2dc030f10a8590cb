package kvbm

import (
	"context"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/gpu"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// Pages is the memory of an engine that keeps its own pages and says which
// block is where. gpu.Engine is that of an engine on a GPU, in another process.
type Pages interface {
	// Save copies pages to host memory, after the engine's step if that is not 0.
	Save(ctx context.Context, ts []gpu.Transfer, step uint64) error
	// Load copies host memory to pages.
	Load(ctx context.Context, p policy.Priority, ts []gpu.Transfer) error
}

// Paged is a block and the engine's page for it.
type Paged struct {
	Block kv.Block
	Page  int
}

// HostSlots is the memory that Pages are saved to and loaded from, and the room
// that a slot takes in it. It is for gpu.Device.Pin. It is nil without a tier
// below gpu.
func (m *Manager) HostSlots() (mem []byte, slotBytes int) {
	if m.cpu == nil {
		return nil, 0
	}
	return m.cpu.mem.All(), cap(m.cpu.mem.Slot(0))
}

// SavePages copies an engine's full pages into cpu, and from there they go
// further down as all blocks do. It returns how many of the blocks are in cpu
// then. A block for which there is no room is left out: nobody waits for it. The
// engine must not write the pages before SavePages returns.
func (m *Manager) SavePages(ctx context.Context, from Pages, blocks []Paged, step uint64) (saved int, err error) {
	for len(blocks) > 0 && err == nil {
		n := min(len(blocks), m.callBlocks())
		var got int
		got, err = m.savePages(ctx, from, blocks[:n], step)
		saved, blocks = saved+got, blocks[n:]
	}
	return saved, err
}

// savePages makes one call of the blocks that cpu does not have.
func (m *Manager) savePages(ctx context.Context, from Pages, blocks []Paged, step uint64) (saved int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.cpu == nil || m.closing {
		return 0, nil
	}
	var ts []gpu.Transfer
	var slots []policy.Slot
	var saving []kv.Block
	for _, b := range blocks {
		if s, ok := m.cpu.table.Find(b.Block.Hash); ok {
			m.cpu.table.Touch(s)
			saved++
			continue
		}
		got, err := m.cpu.reserve(1)
		if err != nil {
			continue
		}
		ts = append(ts, gpu.Transfer{Page: b.Page, Host: m.cpu.mem.Slot(int(got[0]))})
		slots, saving = append(slots, got[0]), append(saving, b.Block)
	}
	if len(ts) == 0 {
		return saved, nil
	}
	m.wg.Add(1) // Close waits with unmapping
	defer m.wg.Done()
	m.mu.Unlock()
	err = from.Save(ctx, ts, step)
	m.mu.Lock()
	for i, s := range slots {
		if err != nil {
			m.cpu.abort(s)
			continue
		}
		if l, ok := m.cpu.commit(s, saving[i]); ok {
			l.release()
		} else { // another was faster
			m.cpu.abort(s)
		}
		saved++
	}
	return saved, err
}

// loadAhead is how many calls of an onboarding are brought to cpu while the
// first of them goes on to the engine's pages.
const loadAhead = 4

// LoadPages brings the leading blocks of r from whatever tier has them to the
// engine's pages, call by call: while one goes up to the pages, the next come to
// cpu. It returns how many blocks are on their pages, counting from the first,
// when the last of these is. The ID and the Hold of r are not used.
func (m *Manager) LoadPages(ctx context.Context, to Pages, r OnboardRequest, pages []int) (loaded int, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	prio := policy.Demand
	if r.Prefetch {
		prio = policy.Prefetch
	}
	r.ID = ""
	left := r.Blocks[:min(len(r.Blocks), len(pages))]
	var coming []*Onboarding
	defer func() {
		for _, o := range coming {
			o.Release()
		}
	}()
	for {
		for len(left) > 0 && len(coming) < loadAhead {
			n := min(len(left), m.callBlocks())
			r.Blocks, left = left[:n], left[n:]
			coming = append(coming, m.Onboard(ctx, r))
		}
		if len(coming) == 0 {
			return loaded, nil
		}
		o := coming[0]
		n, err := o.toPages(ctx, to, prio, pages[loaded:])
		loaded += n
		if err != nil || n < len(o.req.Blocks) {
			return loaded, err
		}
		o.Release()
		coming = coming[1:]
	}
}

// toPages waits for the onboarding and copies what it brought to cpu. It takes
// the leases over, so that no hold ends while they are copied.
func (o *Onboarding) toPages(ctx context.Context, to Pages, prio policy.Priority, pages []int) (n int, err error) {
	<-o.done
	m := o.m
	m.mu.Lock()
	defer m.mu.Unlock()
	leases := o.leases
	o.leases = nil
	defer func() {
		for _, l := range leases {
			l.release()
		}
	}()
	var ts []gpu.Transfer
	for i, l := range leases {
		ts = append(ts, gpu.Transfer{Page: pages[i], Host: l.Bytes()})
	}
	if len(ts) == 0 {
		return 0, nil
	}
	m.mu.Unlock()
	err = to.Load(ctx, prio, ts)
	m.mu.Lock()
	if err != nil {
		return 0, err
	}
	return len(ts), nil
}
