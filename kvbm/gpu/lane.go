package gpu

import (
	"context"
	"slices"
	"sync"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	priorities = int(policy.Offload) + 1
	// maxCalls is the most calls in flight at any pace.
	maxCalls = 4
)

// copier submits the calls of a lane to the GPU. Places are numbered 0 to
// maxCalls-1; each has at most one call at a time, and calls end in the order of
// their submission.
type copier interface {
	submit(place int, c *cuda.Copies, after cuda.Counter) error
	wait(place int, bytes int) error
	// plain is how many plain copies can be submitted while a call of the given
	// size moves.
	plain(bytes int) int
}

// lane is one direction of one GPU.
type lane struct {
	toDevice bool

	mu       sync.Mutex
	copier   copier
	pace     Pace
	queue    [priorities][]*request
	driving  bool
	calls    [maxCalls]call
	oldest   int // place of the call submitted first
	inFlight int
	quiet    *sync.Cond // a call or a request ended
}

// port is one engine's way into a lane.
type port struct {
	lane *lane
	// Guarded by lane.mu.
	layout   *Layout
	counter  uint64 // address of the engine's step counter; 0: none
	err      error  // set: takes no more
	requests int
}

// request is a caller's transfers. Guarded by lane.mu; transfers do not change.
type request struct {
	port      *port
	ctx       context.Context
	transfers []Transfer
	after     uint64
	at        cursor
	calls     int // in flight with pieces of it
	queued    bool
	done      bool
	err       error
	wake      chan struct{} // one token: look again
}

// call is what was submitted together.
type call struct {
	copies cuda.Copies
	owners []*request
}

func newLane(toDevice bool, c copier, p Pace) *lane {
	l := &lane{toDevice: toDevice, copier: c, pace: p}
	l.quiet = sync.NewCond(&l.mu)
	return l
}

func (l *lane) setPace(p Pace) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pace = p
}

// do moves the transfers and returns when they have been moved, or some could
// not be. With an error the targets hold anything.
func (p *port) do(ctx context.Context, prio policy.Priority, ts []Transfer, after uint64) error {
	if len(ts) == 0 {
		return nil
	}
	l := p.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	if err := p.layout.check(ts); err != nil {
		return err
	}
	r := &request{port: p, ctx: ctx, transfers: ts, after: after, queued: true, wake: make(chan struct{}, 1)}
	p.requests++
	l.queue[prio] = append(l.queue[prio], r)
	cancelled := ctx.Done()
	for !r.done {
		if !l.driving {
			l.drive(r)
			continue
		}
		l.mu.Unlock()
		select {
		case <-r.wake:
			l.mu.Lock()
		case <-cancelled:
			cancelled = nil
			l.mu.Lock()
			l.drop(r, ctx.Err())
		}
	}
	if next := l.next(); next != nil && !l.driving {
		next.signal()
	}
	return r.err
}

// drive works for all until r is done, and leaves the lane busy.
func (l *lane) drive(r *request) {
	l.driving = true
	for !r.done {
		if err := r.ctx.Err(); err != nil {
			l.drop(r, err)
		}
		l.fill()
		if l.inFlight > 0 {
			l.reap()
		}
	}
	l.fill()
	l.driving = false
}

// next is a request that is not done, if there is one.
func (l *lane) next() *request {
	for i := range l.inFlight {
		for _, r := range l.calls[(l.oldest+i)%maxCalls].owners {
			if !r.done {
				return r
			}
		}
	}
	for _, q := range l.queue {
		if len(q) > 0 {
			return q[0]
		}
	}
	return nil
}

// fill submits calls as the pace allows.
func (l *lane) fill() {
	for l.inFlight < l.pace.Calls {
		place := (l.oldest + l.inFlight) % maxCalls
		c := &l.calls[place]
		after := l.compose(c)
		if len(c.owners) == 0 {
			return
		}
		l.inFlight++
		l.mu.Unlock()
		err := l.copier.submit(place, &c.copies, after)
		l.mu.Lock()
		if err != nil {
			l.inFlight--
			l.end(c, err)
		}
	}
}

// compose takes the next call's work from the most urgent requests. Less
// urgent ones do not ride along: they would make it longer.
func (l *lane) compose(c *call) (after cuda.Counter) {
	c.copies.Reset()
	c.owners = c.owners[:0]
	plain := 0 // nothing moves while a call that is alone is submitted
	if l.pace.Calls > 1 {
		plain = l.copier.plain(l.pace.CallBytes)
	}
	for prio := range l.queue {
		for len(l.queue[prio]) > 0 && c.copies.Bytes < l.pace.CallBytes {
			r := l.queue[prio][0]
			if err := r.ctx.Err(); err != nil {
				l.drop(r, err)
				continue
			}
			counter := cuda.Counter{Addr: r.port.counter, AtLeast: r.after}
			if r.after == 0 {
				counter = cuda.Counter{}
			}
			if len(c.owners) > 0 && counter.Addr != 0 && after.Addr != 0 && counter.Addr != after.Addr {
				return after // two engines' counters: one call each
			}
			if counter.AtLeast > after.AtLeast {
				after = counter
			}
			before := c.copies.Bytes
			r.port.layout.add(&c.copies, l.toDevice, r.transfers, &r.at, l.pace.CallBytes, plain)
			if c.copies.Bytes == before {
				return after // the next piece is too large for what is left
			}
			c.owners = append(c.owners, r)
			r.calls++
			if r.at.transfer == len(r.transfers) {
				l.queue[prio] = l.queue[prio][1:]
				r.queued = false
			}
		}
		if len(c.owners) > 0 {
			return after
		}
	}
	return after
}

// reap waits for the oldest call.
func (l *lane) reap() {
	place := l.oldest
	c := &l.calls[place]
	l.mu.Unlock()
	err := l.copier.wait(place, c.copies.Bytes)
	l.mu.Lock()
	l.oldest = (l.oldest + 1) % maxCalls
	l.inFlight--
	l.end(c, err)
}

// end tells a call's owners.
func (l *lane) end(c *call, err error) {
	for _, r := range c.owners {
		r.calls--
		if err != nil {
			l.drop(r, err)
		} else if r.calls == 0 && !r.queued {
			l.finish(r)
		}
	}
	l.quiet.Broadcast()
}

// drop takes a request out of the queue. It is done when none of its bytes is
// on its way.
func (l *lane) drop(r *request, err error) {
	if r.done {
		return
	}
	if r.err == nil {
		r.err = err
	}
	if r.queued {
		r.queued = false
		for prio := range l.queue {
			l.queue[prio] = slices.DeleteFunc(l.queue[prio], func(q *request) bool { return q == r })
		}
	}
	if r.calls == 0 {
		l.finish(r)
	}
}

func (l *lane) finish(r *request) {
	r.done = true
	r.port.requests--
	r.signal()
	l.quiet.Broadcast()
}

func (r *request) signal() {
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// refuse makes the port take no more. What is queued fails.
func (p *port) refuse(err error) {
	l := p.lane
	l.mu.Lock()
	defer l.mu.Unlock()
	p.err = err
	for prio := range l.queue {
		for _, r := range slices.Clone(l.queue[prio]) {
			if r.port == p {
				l.drop(r, err)
			}
		}
	}
}

// drain waits until nothing of the port is under way.
func (p *port) drain() {
	p.lane.mu.Lock()
	defer p.lane.mu.Unlock()
	for p.requests > 0 {
		p.lane.quiet.Wait()
	}
}

// open lets the port be used, from now on or again.
func (p *port) open(layout *Layout, counter uint64) {
	p.lane.mu.Lock()
	defer p.lane.mu.Unlock()
	p.layout, p.counter, p.err = layout, counter, nil
}
