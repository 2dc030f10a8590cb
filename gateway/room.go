package gateway

import (
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/queue"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
)

// room is where a model's requests wait while its fleet is saturated. Waiting
// here, and not in an engine, keeps the order theirs to choose: an engine serves
// first come, first served, and nothing that waits there can be taken back.
type room struct {
	g     *Gateway
	model string
	crowd atomic.Int64 // those who wait; read by those who need not look further

	mu     sync.Mutex
	queue  *queue.Queue
	passes int         // let in and not booked at a worker yet
	again  *time.Timer // looks again: a worker's queue also drains by time alone
}

const (
	// lookAgain is how often a room looks for space when nobody tells it.
	lookAgain = 10 * time.Millisecond
	// fewWaiting may wait at a worker whatever its pace, which needs some to be
	// known at all.
	fewWaiting = 2
)

// waiter is a request in a room.
type waiter struct {
	queue.Ticket
	// wanted is when it should be let in, zero if it is not asked; Ticket.Latest is
	// when it is of no use any more.
	wanted time.Time
	in     chan error // capacity 1: nil lets it in
}

func (g *Gateway) room(model string) *room {
	if r, ok := g.rooms.Load(model); ok {
		return r.(*room)
	}
	fresh := &room{g: g, model: model, queue: queue.New(g.c.Limits.Queue, g.c.Limits.QueueBytes)}
	r, _ := g.rooms.LoadOrStore(model, fresh)
	return r.(*room)
}

// stir has a model's room look for space, if anybody waits there. Call it with
// no lock held.
func (g *Gateway) stir(model string) {
	if r, ok := g.rooms.Load(model); ok && r.(*room).crowd.Load() > 0 {
		r := r.(*room)
		r.mu.Lock()
		defer r.mu.Unlock()
		r.admitLocked(g.c.Now())
	}
}

// enter lets w in at once, or has it wait, or refuses it: as late when it would
// be let in later than it wants, as full when there is no room.
func (r *room) enter(w *waiter, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := r.hopelessLocked(&w.Ticket, w.wanted, now); err != nil {
		return err
	}
	out, ok := r.queue.Push(&w.Ticket, now)
	for _, t := range out {
		t.Owner.(*waiter).in <- r.shedLocked(t, shedEvicted, now, "the queue is full, and others have a better claim to a place in it")
	}
	if !ok {
		return r.shedLocked(&w.Ticket, shedFull, now, "%d requests wait for a worker, the most that this gateway keeps", r.queue.Len())
	}
	r.admitLocked(now)
	return nil
}

// waitMargin is the part of a predicted wait by which it may be longer: who waits
// in vain has had a worse answer than who is refused at once.
const waitMargin = 4

// hopeless refuses a request that would be let in later than it wants.
func (r *room) hopeless(t *queue.Ticket, wanted, now time.Time) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.hopelessLocked(t, wanted, now)
}

func (r *room) hopelessLocked(t *queue.Ticket, wanted, now time.Time) error {
	if r.queue.Len() == 0 || wanted.IsZero() {
		return nil
	}
	wait := r.queue.Wait(t, now, r.guess())
	begins := now.Add(wait + wait/waitMargin)
	if !begins.After(wanted) {
		return nil
	}
	return r.shed(t, shedLate, begins.Sub(wanted), "the answer would begin too late: %d requests wait for a worker", r.queue.Len())
}

// leave takes w out, whether it still waits or was let in already.
func (r *room) leave(w *waiter) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.queue.Remove(&w.Ticket) {
		select {
		case err := <-w.in:
			if err == nil {
				r.passes--
			}
		default:
		}
	}
	r.admitLocked(r.g.c.Now())
}

// booked ends a pass: its request is in the books, or will never be.
func (r *room) booked() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.passes--
	if r.queue.Len() > 0 {
		r.admitLocked(r.g.c.Now())
	}
}

// admitLocked lets in those who are next, as many as there is space for, and
// sends those away for whom it is too late.
func (r *room) admitLocked(now time.Time) {
	for _, t := range r.queue.Expired(now) {
		t.Owner.(*waiter).in <- r.shedLocked(t, shedWaited, now, "no worker had time for the request within its own")
	}
	for r.queue.Len() > 0 && r.g.space(r.model, r.passes, now) {
		r.passes++
		r.queue.Pop(now).Owner.(*waiter).in <- nil
	}
	r.crowd.Store(int64(r.queue.Len()))
	switch {
	case r.queue.Len() == 0:
		if r.again != nil {
			r.again.Stop()
			r.again = nil
		}
	case r.again == nil:
		r.again = time.AfterFunc(lookAgain, func() {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.again = nil
			r.admitLocked(r.g.c.Now())
		})
	}
}

// The reasons for which a request is sent away.
const (
	shedLate    = "late"    // it would have been let in too late
	shedFull    = "full"    // there was no place in the queue
	shedEvicted = "evicted" // its place went to another
	shedWaited  = "waited"  // it waited in vain
	shedBusy    = "busy"    // the worker chosen for it has too much ahead
)

// shed is the answer to one who is sent away.
func (r *room) shed(t *queue.Ticket, reason string, after time.Duration, why string, args ...any) *Error {
	r.g.metrics.shed.WithLabelValues(r.model, t.Priority.String(), reason).Inc()
	return fail(CodeOverloaded, "", why, args...).after(min(max(after, defaultRetryAfter), longestRetryAfter))
}

// shedLocked asks the client to come back when what is ahead of it has drained.
func (r *room) shedLocked(t *queue.Ticket, reason string, now time.Time, why string, args ...any) *Error {
	return r.shed(t, reason, r.queue.Wait(t, now, r.guess()), why, args...)
}

// longestRetryAfter bounds what a client is asked to wait: a prediction further
// ahead is worth nothing.
const longestRetryAfter = time.Minute

// guess is what is assumed of the tokens that the model's workers take on in a
// second, before it has been seen: that prefills are all they do.
func (r *room) guess() (tokens float64) {
	g := r.g
	seats := g.seats()
	g.placing.Lock()
	defer g.placing.Unlock()
	for _, s := range seats {
		if s.serves(r.model) {
			if rates := s.speeds.Rates(); rates.PrefillPerTokenMS > 0 {
				tokens += 1000 / rates.PrefillPerTokenMS
			}
		}
	}
	return tokens
}

// serves reports whether requests for a model may be sent to the worker.
func (s *seat) serves(model string) bool {
	info := s.worker.Known()
	return info.Model == model && info.Role != kv.Prefill && s.worker.Ready()
}

// space reports whether more workers than there are passes have time for another
// request. A model without workers has: that is for the dispatch to say.
func (g *Gateway) space(model string, passes int, now time.Time) bool {
	most := milliseconds(g.c.Limits.QueueAhead)
	seats := g.seats()
	if len(seats) == 0 {
		return true
	}
	g.placing.Lock()
	defer g.placing.Unlock()
	free, serving := 0, 0
	g.looked++
	for i := range seats {
		// From another one each time: the first with time ends the search.
		s := seats[(g.looked+i)%len(seats)]
		if !s.serves(model) {
			continue
		}
		if serving++; s.isFull(now) || most >= 0 && s.waitLocked(g.loads, now) > most {
			continue
		}
		if free++; free > passes || most < 0 {
			return true
		}
	}
	return serving == 0
}

// waitLocked is how long one more request would wait at the worker, in
// milliseconds: for the prefills ahead of it, or, where those who wait are held
// by something else, at the pace that they go.
func (s *seat) waitLocked(loads *router.Loads, now time.Time) float64 {
	var c router.Candidate
	s.fillLocked(&c, loads, now)
	if c.Load.Waiting < fewWaiting {
		return c.Load.QueuedPrefillMS
	}
	return math.Max(c.Load.QueuedPrefillMS, s.pace.WaitMS(now))
}

// noteLocked keeps the worker's pace. Call it whenever its account has changed.
func (s *seat) noteLocked(now time.Time) { s.pace.Note(s.account.Load(now).Waiting, now) }
