package gateway

import (
	"context"
	"errors"
	"math"
	"strconv"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/queue"
	"github.com/kvasir-ai/kvasir/router"
)

const (
	// headerDeadline is how long a client waits, in milliseconds from when its
	// request comes: for the start of a stream, for the whole of another answer.
	headerDeadline = "X-Kvasir-Deadline-Ms"
	// headerPriority is high, normal or low.
	headerPriority = "X-Kvasir-Priority"
	// assumedAnswer is what a request without max_tokens counts for its answer.
	assumedAnswer = 256
)

// errDeadline ends a request whose client does not wait any more.
var errDeadline = errors.New("the deadline that the request gave has passed")

// readUrgency reads how soon and how much before others the client wants its
// answer.
func (x *exchange) readUrgency() error {
	if s := x.r.Header.Get(headerDeadline); s != "" {
		ms, err := strconv.ParseInt(s, 10, 64)
		if err != nil || ms < 1 || ms > int64(24*time.Hour/time.Millisecond) {
			return fail(CodeInvalidValue, headerDeadline, "%s must be a number of milliseconds from 1 to a day", headerDeadline)
		}
		x.patience = time.Duration(ms) * time.Millisecond
	}
	most, asked := queue.High, queue.Normal
	if x.tenant != nil {
		most = x.tenant.Priority()
		asked = most
	}
	if x.q.fields.has(fieldPriority) {
		n, err := x.q.fields.count(fieldPriority, math.MinInt, 0)
		if err != nil {
			return err
		}
		asked = fromEngines(n)
	}
	if s := x.r.Header.Get(headerPriority); s != "" {
		p, ok := queue.Parse(s)
		if !ok {
			return fail(CodeInvalidValue, headerPriority, "%s must be high, normal or low", headerPriority)
		}
		asked = p
	}
	x.priority = min(asked, most)
	return nil
}

// fromEngines reads vLLM's priority: the lower the number, the sooner.
func fromEngines(n int) queue.Priority {
	switch {
	case n < 0:
		return queue.High
	case n > 0:
		return queue.Low
	}
	return queue.Normal
}

// watchDeadline ends the request when its client does not wait any more.
func (x *exchange) watchDeadline() (stop func()) {
	if x.patience == 0 {
		return func() {}
	}
	x.deadline = x.began.Add(x.patience)
	x.late = time.AfterFunc(x.deadline.Sub(x.g.c.Now()), func() { x.cancel(errDeadline) })
	return func() { x.late.Stop() }
}

// queue waits until a worker has time for the request.
func (x *exchange) queue() error {
	r := x.g.room(x.q.model)
	return x.wait(r, x.waiter(r))
}

func (x *exchange) wait(r *room, w *waiter) error {
	came := x.g.c.Now()
	if err := r.enter(w, came); err != nil {
		return err
	}
	select {
	case err := <-w.in:
		if err != nil {
			return err
		}
	case <-x.ctx.Done():
		r.leave(w)
		if context.Cause(x.ctx) == errSilent {
			return r.shed(&w.Ticket, shedWaited, 0, "no worker had time for the request within limits.first_byte")
		}
		return x.ended()
	}
	x.pass = r
	waited := x.g.c.Now().Sub(came)
	x.g.metrics.queued.WithLabelValues(x.q.model, x.priority.String()).Observe(waited.Seconds())
	if waited > 0 {
		x.latest = time.Time{} // it was promised a place
	}
	if waited >= time.Millisecond {
		x.entry.update(func(rec *Record) { rec.QueuedMS += milliseconds(waited) })
	}
	return nil
}

// hopeless refuses a request before its prompt is read when its wait alone would
// be too long: overload must not cost the gateway the work of tokenizing.
func (x *exchange) hopeless() error {
	limits := &x.g.c.Limits
	most := limits.FirstByte
	if limits.TTFT > 0 {
		most = min(most, limits.TTFT)
	}
	if x.patience > 0 {
		most = min(most, x.patience)
	}
	r := x.g.room(x.q.model)
	if r.crowd.Load() == 0 {
		return nil
	}
	t := queue.Ticket{Priority: x.priority, Weight: 1}
	t.Tenant, t.Weight = x.party()
	return r.hopeless(&t, x.began.Add(most), x.g.c.Now())
}

// party is who shares with others, and its share.
func (x *exchange) party() (name string, weight float64) {
	if x.tenant == nil {
		return "", 1
	}
	return x.tenant.Name(), x.tenant.Weight()
}

func (x *exchange) waiter(r *room) *waiter {
	answer := x.q.maxTokens
	if answer == 0 {
		answer = assumedAnswer
	}
	w := &waiter{in: make(chan error, 1)}
	wanted, latest := x.mustBegin(r)
	// It may wait at its worker too.
	ahead := min(max(0, x.g.c.Limits.QueueAhead), wanted.Sub(x.began)/2)
	x.latest, w.wanted = wanted, wanted.Add(-ahead)
	w.Ticket = queue.Ticket{Priority: x.priority, Cost: float64(x.prompt.total + answer), Bytes: int64(len(x.q.body)), Latest: latest.Add(-ahead), Owner: w}
	w.Tenant, w.Weight = x.party()
	return w
}

// mustBegin is when a worker should turn to the request, and until when that is of
// any use: a client's deadline is both, but who waits for no more than an
// objective is rather served a little late than refused after a wait. Whatever was
// asked for, nobody waits longer than limits.first_byte.
func (x *exchange) mustBegin(r *room) (wanted, latest time.Time) {
	latest = x.began.Add(x.g.c.Limits.FirstByte)
	slo := x.g.c.Limits.TTFT
	if x.patience == 0 && slo == 0 {
		return latest, latest
	}
	own := time.Duration(0)
	if r.crowd.Load() > 0 {
		own = x.ownTime()
	}
	if x.patience > 0 {
		latest = earlier(latest, x.began.Add(x.patience-own))
	}
	wanted = latest
	if slo > 0 {
		// A prompt that alone takes longer than the objective would be refused for
		// ever: half of the objective is for waiting, whatever the prompt.
		wanted = earlier(wanted, x.began.Add(slo-min(own, slo/2)))
		latest = earlier(latest, x.began.Add(slo+slo/4))
	}
	return wanted, latest
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// ownTime is what the request's own restore and prefill take where they take
// least.
func (x *exchange) ownTime() time.Duration {
	ready, err := x.candidates()
	if err != nil {
		return 0 // the dispatch will say so
	}
	g := x.g
	blockSize := ready[0].worker.Known().BlockSize
	x.prompt.chain(x.q.model, x.q.salt, blockSize)
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	g.c.Index.Match(&ws.matches, x.prompt.hashes)
	req := router.Request{ID: x.id, Tokens: x.prompt.total, BlockSize: blockSize, MaxTokens: x.q.maxTokens, Session: x.session()}
	g.placing.Lock()
	policy := g.c.Policy.Fork()
	g.placing.Unlock()
	g.choose(ws, &req, x.prompt.hashes, ready, policy, nil)
	least := ws.decision.Estimates[0].TTFTMS - ws.decision.Estimates[0].QueueMS
	for i := range ws.decision.Estimates {
		e := &ws.decision.Estimates[i]
		least = min(least, e.TTFTMS-e.QueueMS)
	}
	return time.Duration(least * float64(time.Millisecond))
}

// tooLate refuses the worker that was chosen when its queue is longer than the
// request can wait. At an idle one it is tried in any case: nothing else could
// show that a prediction is wrong.
func (x *exchange) tooLate(p *placement) error {
	if p.idle || x.latest.IsZero() || x.carry != nil || len(x.tried) > 0 {
		return nil
	}
	begins := x.g.c.Now().Add(time.Duration(p.estimate.QueueMS * float64(time.Millisecond)))
	if !begins.After(x.latest) {
		return nil
	}
	x.entry.update(func(r *Record) { r.Chosen = "" }) // it was not sent there
	t := queue.Ticket{Priority: x.priority}
	return x.g.room(x.q.model).shed(&t, shedBusy, begins.Sub(x.latest), "the answer would begin too late: every worker is busy")
}

// endPass tells the room that the request is in the books, or never will be.
func (x *exchange) endPass() {
	if x.pass != nil {
		x.pass.booked()
		x.pass = nil
	}
}
