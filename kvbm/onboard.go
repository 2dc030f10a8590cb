package kvbm

import (
	"context"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	// windowBytes of one onboarding are on their way at a time: enough to keep
	// every link of the pipeline busy, not so much that one request takes all
	// host slots.
	windowBytes = 32 << 20
	minWindow   = 4
	maxWindow   = 256
)

// OnboardRequest asks for the leading blocks of a prompt.
type OnboardRequest struct {
	// ID is the request's id: who asks again under it gets the same Onboarding,
	// which joins the router's call with the engine's. Empty: nobody will.
	ID string
	// Blocks is the chain to bring into the target tier.
	Blocks []kv.Block
	// Hold is how long the blocks stay leased after the last has landed, waiting
	// for the engine. 0 means 30 s.
	Hold time.Duration
	// Deadline ends the onboarding with what has landed; zero: none.
	Deadline time.Time
	// Prefetch yields to onboardings that a request waits for.
	Prefetch bool
	// Peers have blocks that are to be pulled from them.
	Peers []PeerSource
	// AwaitPlan says that the router calls under the same ID and may name peers
	// that this caller does not know. Blocks that are nowhere here wait for that
	// call, but not long.
	AwaitPlan bool
}

// PeerSource is a run of blocks of a prompt that a peer has in cpu.
type PeerSource struct {
	Address      string
	First, Count int
}

// peersOf are the peers that have block i, in the router's order.
func (r *OnboardRequest) peersOf(i int) (addresses []string) {
	for _, p := range r.Peers {
		if i >= p.First && i-p.First < p.Count {
			addresses = append(addresses, p.Address)
		}
	}
	return addresses
}

// OnboardResult says what an onboarding came to.
type OnboardResult struct {
	// Blocks counts the leading blocks that are in the target tier now, by the
	// tier they were in: under the target tier itself those that needed no move.
	Blocks [kv.NumTiers]int
	// Missed is the number of blocks after those. They have to be computed.
	Missed int
	// Bytes were moved for the leading blocks, each counted once.
	Bytes int64
	// Elapsed is the time from the call to the end.
	Elapsed time.Duration
	// LinkElapsed is, per tier that blocks came from, the time from asking for
	// the first of them to the landing of the last. Links overlap.
	LinkElapsed [kv.NumTiers]time.Duration
}

// Onboarding is an OnboardRequest under way or, once Done is closed, holding
// the blocks it brought. It has no goroutine: it moves on when a block lands,
// when one is missed and when its context ends.
type Onboarding struct {
	m        *Manager
	req      OnboardRequest
	target   kv.Tier
	priority policy.Priority
	window   int
	started  time.Time
	cancel   context.CancelFunc
	done     chan struct{}

	// Guarded by Manager.mu.
	seats     []*passenger // by block, nil when none
	landed    []arrival    // by block
	next, end int          // blocks from next on were not asked for, those from end on are given up
	moving    int          // were asked for and have not landed
	advancing bool
	waiting   bool        // for the router's call
	unwatch   func() bool // of the context
	result    OnboardResult
	leases    []*Lease
	finished  bool
	released  bool
	holdUntil time.Time
}

// arrival is how a block came out.
type arrival struct {
	lease *Lease // nil: missed
	from  kv.Tier
	asked time.Time
	at    time.Time
}

// Onboard brings r.Blocks into the gpu pool if the manager owns it, else into
// cpu, and returns at once. The blocks stay leased until Release or for r.Hold.
// The end of ctx ends the onboarding with what has landed. For an ID that is
// running or held it returns that Onboarding, and for one that is settled what
// its onboarding came to.
func (m *Manager) Onboard(ctx context.Context, r OnboardRequest) *Onboarding {
	m.mu.Lock()
	defer m.mu.Unlock()
	if o, ok := m.plans[r.ID]; ok && r.ID != "" {
		o.planned(&r)
		return o
	}
	if r.Hold == 0 {
		r.Hold = defaultHold
	}
	n := len(r.Blocks)
	o := &Onboarding{
		m: m, req: r, target: kv.CPU, priority: policy.Demand, started: m.now(),
		done: make(chan struct{}), seats: make([]*passenger, n), landed: make([]arrival, n), end: n,
	}
	if m.gpu != nil {
		o.target = kv.GPU
	}
	if r.Prefetch {
		o.priority = policy.Prefetch
	}
	o.window = min(max(windowBytes/m.blockBytes, minWindow), maxWindow)
	if m.cpu != nil {
		o.window = min(o.window, max(1, m.cpu.Capacity()/2))
	}
	if r, ok := m.settled.results[r.ID]; ok {
		o.result, o.finished = r, true
		close(o.done)
		return o
	}
	if m.closing || m.poolOf(o.target) == nil {
		o.result.Missed = len(r.Blocks)
		o.finished = true
		close(o.done)
		return o
	}
	m.onboardings[o] = struct{}{}
	if r.ID != "" {
		m.plans[r.ID] = o
	}
	var cancel context.CancelFunc
	if r.Deadline.IsZero() {
		ctx, cancel = context.WithCancel(ctx)
	} else {
		ctx, cancel = context.WithTimeout(ctx, r.Deadline.Sub(o.started))
	}
	o.cancel = cancel
	if ctx.Err() != nil {
		o.end = 0
	}
	o.unwatch = context.AfterFunc(ctx, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		o.endAt(0)
		o.advance()
	})
	o.awaitPlan()
	o.advance()
	return o
}

// Done is closed when the onboarding has ended.
func (o *Onboarding) Done() <-chan struct{} { return o.done }

// Result waits for the end of the onboarding and says what it came to.
func (o *Onboarding) Result() OnboardResult {
	<-o.done
	return o.result
}

// Release gives the blocks up, and what is still on its way. Again it does
// nothing.
func (o *Onboarding) Release() {
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	o.abandon()
}

// abandon is Release with mu held.
func (o *Onboarding) abandon() {
	o.released = true
	if o.finished {
		o.letGo()
	} else {
		o.endAt(0)
		o.advance()
	}
}

// letGo ends the leases of a finished onboarding.
func (o *Onboarding) letGo() {
	for _, l := range o.leases {
		l.release()
	}
	o.leases = nil
	delete(o.m.onboardings, o)
	if o.m.plans[o.req.ID] == o {
		delete(o.m.plans, o.req.ID)
	}
}

// The methods below are called with mu held.

// advance keeps a window of blocks moving until all have landed, one is missed,
// or the context ends. Blocks land in any order; only the leading ones count.
func (o *Onboarding) advance() {
	if o.advancing || o.finished || o.waiting && o.end > 0 {
		return
	}
	o.advancing = true // ask may bring a block at once, and arrive calls advance
	for o.next < o.end && o.moving < o.window {
		o.moving++
		o.next++
		o.ask(o.next - 1)
	}
	o.advancing = false
	if o.moving == 0 {
		o.finish()
	}
}

// ask starts to bring one block up.
func (o *Onboarding) ask(i int) {
	m := o.m
	b, pool, asked := o.req.Blocks[i], m.poolOf(o.target), m.now()
	if s, ok := pool.table.Find(b.Hash); ok && (o.target == kv.GPU || pool.advertise) {
		pool.table.Hit(s)
		m.tiers[o.target].hits++
		o.arrive(i, arrival{pool.lease(s), o.target, asked, asked})
		return
	}
	m.tiers[o.target].misses++
	p := m.fetch(b, o.target, o.priority, o.req.peersOf(i), func(l *Lease, from kv.Tier) {
		o.arrive(i, arrival{l, from, asked, m.now()})
	})
	if !p.flight.over {
		o.seats[i] = p
	}
}

func (o *Onboarding) arrive(i int, a arrival) {
	o.moving--
	o.landed[i], o.seats[i] = a, nil
	if a.lease == nil {
		o.endAt(i)
	}
	o.advance()
}

// endAt gives up the blocks from the given one on. Those that have not landed
// arrive as missed.
func (o *Onboarding) endAt(end int) {
	if end >= o.end || o.finished {
		return
	}
	o.end = end
	for i := end; i < o.next; i++ {
		if p := o.seats[i]; p != nil && p.leave() {
			o.seats[i] = nil
			o.moving--
		}
	}
}

// finish keeps the leases of the leading blocks and lets the others go.
func (o *Onboarding) finish() {
	m, landed := o.m, o.landed
	o.unwatch()
	o.cancel()
	now := m.now()
	r := &o.result
	lead := 0
	var first, last [kv.NumTiers]time.Time
	for ; lead < len(landed) && landed[lead].lease != nil; lead++ {
		a := landed[lead]
		r.Blocks[a.from]++
		o.leases = append(o.leases, a.lease)
		if a.from != o.target {
			r.Bytes += int64(m.blockBytes)
			if first[a.from].IsZero() {
				first[a.from] = a.asked // blocks are asked for in their order
			}
			if a.at.After(last[a.from]) {
				last[a.from] = a.at
			}
			r.LinkElapsed[a.from] = last[a.from].Sub(first[a.from])
		}
	}
	for _, a := range landed[lead:] {
		if a.lease != nil {
			a.lease.release()
		}
	}
	r.Missed = len(landed) - lead
	r.Elapsed = now.Sub(o.started)
	o.finished = true
	o.holdUntil = now.Add(o.req.Hold)
	o.seats, o.landed = nil, nil
	close(o.done)
	if o.released {
		o.letGo()
	}
}
