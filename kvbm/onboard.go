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
// the blocks it brought.
type Onboarding struct {
	m        *Manager
	req      OnboardRequest
	target   kv.Tier
	priority policy.Priority
	window   int
	started  time.Time
	cancel   context.CancelFunc
	done     chan struct{}
	arrivals chan arrival // one place per block in the window

	// Guarded by Manager.mu.
	seats     []*passenger // by block, nil when none
	result    OnboardResult
	leases    []*Lease
	finished  bool
	released  bool
	holdUntil time.Time
}

type arrival struct {
	block int
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
		return o
	}
	if r.Hold == 0 {
		r.Hold = defaultHold
	}
	o := &Onboarding{
		m: m, req: r, target: kv.CPU, priority: policy.Demand, started: m.now(),
		done: make(chan struct{}), seats: make([]*passenger, len(r.Blocks)),
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
	o.arrivals = make(chan arrival, o.window)
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
	m.wg.Go(func() { o.run(ctx) })
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
		o.cancel()
	}
}

// letGo ends the leases of a finished onboarding. mu is held.
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

// run keeps a window of blocks moving until all have landed, one is missed, or
// ctx ends. Blocks land in any order; only the leading ones count.
func (o *Onboarding) run(ctx context.Context) {
	defer o.cancel()
	n := len(o.req.Blocks)
	landed := make([]arrival, n)
	moving, next, end := 0, 0, n // end: blocks from here on are given up
	for {
		if ctx.Err() != nil {
			end = 0
		}
		for ; next < end && moving < o.window; next++ {
			o.ask(next)
			moving++
		}
		if moving == 0 || end == 0 {
			break
		}
		select {
		case a := <-o.arrivals:
			moving--
			landed[a.block] = a
			if a.lease == nil {
				end = min(end, a.block)
				o.giveUp(end)
			}
		case <-ctx.Done():
		}
	}
	o.giveUp(0)
	for ; moving > 0; moving-- {
		a := <-o.arrivals
		landed[a.block] = a
	}
	o.finish(landed)
}

// ask starts to bring one block up.
func (o *Onboarding) ask(i int) {
	m := o.m
	m.mu.Lock()
	defer m.mu.Unlock()
	b, pool, asked := o.req.Blocks[i], m.poolOf(o.target), m.now()
	if s, ok := pool.table.Find(b.Hash); ok && (o.target == kv.GPU || pool.advertise) {
		pool.table.Hit(s)
		m.tiers[o.target].hits++
		o.arrivals <- arrival{i, pool.lease(s), o.target, asked, asked}
		return
	}
	m.tiers[o.target].misses++
	o.seats[i] = m.fetch(b, o.target, o.priority, func(l *Lease, from kv.Tier) {
		o.arrivals <- arrival{i, l, from, asked, m.now()}
	})
}

// giveUp leaves the flights of all blocks from the given one on. Those that
// have not landed arrive as missed.
func (o *Onboarding) giveUp(from int) {
	o.m.mu.Lock()
	defer o.m.mu.Unlock()
	for i := from; i < len(o.seats); i++ {
		if p := o.seats[i]; p != nil && p.leave() {
			o.arrivals <- arrival{block: i}
		}
		o.seats[i] = nil
	}
}

// finish keeps the leases of the leading blocks and lets the others go.
func (o *Onboarding) finish(landed []arrival) {
	m := o.m
	m.mu.Lock()
	defer m.mu.Unlock()
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
	close(o.done)
	if o.released {
		o.letGo()
	}
}
