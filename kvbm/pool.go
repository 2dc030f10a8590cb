package kvbm

import (
	"errors"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// ErrFull means that leases and unfinished fills take so many slots of a pool
// that the wanted number cannot be freed.
var ErrFull = errors.New("kvbm: no slot can be freed: all are leased or being filled")

// Pool is the slots of one memory tier. Its methods are safe for concurrent
// use, those of one Filling or Lease are not.
type Pool struct {
	m         *Manager
	tier      kv.Tier
	mem       *host.Memory
	table     *policy.Table
	advertise bool // false for a staging pool
	copying   int  // leases that offloads hold while they copy a block out
	starved   int  // callers of Reserve that wait for one of those
}

// Filling is a slot with one writer: its holder. It ends with a Commit that
// succeeds, or with Abort.
type Filling struct {
	pool *Pool
	slot policy.Slot
	done bool
}

// Lease keeps one committed block from being evicted. Whoever holds it may read
// the bytes and must not write them.
type Lease struct {
	pool  *Pool
	slot  policy.Slot
	block kv.Block
	done  bool
}

func newPool(m *Manager, tier kv.Tier, slots int, advertise bool, c Config) (*Pool, error) {
	mem, err := host.Map(slots, m.blockBytes)
	if err != nil {
		return nil, err
	}
	return &Pool{m: m, tier: tier, mem: mem, table: policy.NewTable(c.eviction(), slots), advertise: advertise}, nil
}

// Capacity is the number of slots.
func (p *Pool) Capacity() int { return p.table.Capacity() }

// Available is the number of slots that Reserve can get now: free ones and
// those whose blocks it may evict.
func (p *Pool) Available() int {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	return p.table.Available()
}

// Reserve gets n slots to fill, or none and ErrFull. To free slots it evicts
// the least recently used unleased blocks, suffix before prefix. It waits only
// where the block that an offload is copying right now makes the difference, and
// then no further offload begins before it has its slots.
func (p *Pool) Reserve(n int) ([]*Filling, error) {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	for p.copying > 0 && n > p.table.Available() && n <= p.table.Available()+p.copying {
		p.starved++
		p.m.room.Wait()
		p.starved--
		p.m.room.Broadcast() // offloads may go on
	}
	slots, err := p.reserve(n)
	if err != nil {
		return nil, err
	}
	fs := make([]*Filling, len(slots))
	for i, s := range slots {
		fs[i] = &Filling{pool: p, slot: s}
	}
	return fs, nil
}

// Acquire leases the leading committed blocks of hashes, up to the first that
// is not in the pool.
func (p *Pool) Acquire(hashes []kv.Hash) []*Lease {
	p.m.mu.Lock()
	defer p.m.mu.Unlock()
	var leases []*Lease
	for _, h := range hashes {
		s, ok := p.table.Find(h)
		if !ok {
			break
		}
		p.table.Hit(s)
		leases = append(leases, p.lease(s))
	}
	p.m.tiers[p.tier].hits += uint64(len(leases))
	p.m.tiers[p.tier].misses += uint64(len(hashes) - len(leases))
	return leases
}

// Bytes is the slot's memory: 4 KiB-aligned, BlockBytes long, the holder's
// alone until Commit. What it held before is undefined. After the end of the
// Filling the slot is others', and asking for it is a bug.
func (f *Filling) Bytes() []byte {
	if f.done {
		panic("kvbm: the bytes of a Filling were asked for after it ended")
	}
	return f.pool.mem.Slot(int(f.slot))
}

// Commit makes the filled block findable and returns a lease on it. When
// another slot holds the same block it returns false and the Filling stays as it
// is: a private page, to be given up with Abort.
func (f *Filling) Commit(b kv.Block) (*Lease, bool) {
	f.pool.m.mu.Lock()
	defer f.pool.m.mu.Unlock()
	if f.done {
		panic("kvbm: a Filling was committed after it ended")
	}
	l, ok := f.pool.commit(f.slot, b)
	f.done = ok
	return l, ok
}

// Abort gives the slot back. After the end of the Filling it does nothing.
func (f *Filling) Abort() {
	f.pool.m.mu.Lock()
	defer f.pool.m.mu.Unlock()
	if !f.done {
		f.done = true
		f.pool.abort(f.slot)
	}
}

// Bytes is the block, to be read only. After Release another block may be
// there, and asking for it is a bug.
func (l *Lease) Bytes() []byte {
	if l.done {
		panic("kvbm: the bytes of a Lease were asked for after its release")
	}
	return l.pool.mem.Slot(int(l.slot))
}

// Block names what is leased.
func (l *Lease) Block() kv.Block { return l.block }

// Release ends the lease and counts as a use of the block. Again it does
// nothing.
func (l *Lease) Release() {
	l.pool.m.mu.Lock()
	defer l.pool.m.mu.Unlock()
	if !l.done {
		l.pool.table.Touch(l.slot)
		l.release()
	}
}

// The methods below are called with Manager.mu held.

func (p *Pool) reserve(n int) ([]policy.Slot, error) {
	if n > p.table.Available() {
		return nil, ErrFull
	}
	slots := make([]policy.Slot, 0, max(n, 0))
	var gone []kv.Hash
	for len(slots) < n {
		s, ok := p.table.Fill(policy.AllParts)
		if !ok {
			victim, b, ok := p.table.Evict(policy.AllParts)
			if !ok {
				break
			}
			p.table.Evicted(victim)
			gone = append(gone, b.Hash)
			continue
		}
		slots = append(slots, s)
	}
	p.m.evicted(p.tier, gone)
	if len(slots) < n { // only blocks that claim to be their own ancestors get us here
		for _, s := range slots {
			p.abort(s)
		}
		return nil, ErrFull
	}
	return slots, nil
}

func (p *Pool) commit(s policy.Slot, b kv.Block) (*Lease, bool) {
	if !p.table.Commit(s, b) {
		return nil, false
	}
	p.m.stored(p.tier, b)
	l := &Lease{pool: p, slot: s, block: b}
	p.m.offer(l)
	return l, true
}

func (p *Pool) abort(s policy.Slot) {
	p.table.Abort(s)
	p.m.room.Broadcast()
}

func (p *Pool) lease(s policy.Slot) *Lease {
	p.table.Lease(s)
	return &Lease{pool: p, slot: s, block: p.table.Block(s)}
}

func (l *Lease) release() {
	if l.done {
		return
	}
	l.done = true
	l.pool.table.Unlease(l.slot)
	l.pool.m.room.Broadcast()
}
