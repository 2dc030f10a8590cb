package gateway

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// placement is a worker with the decision that chose it.
type placement struct {
	worker   *workers.Worker
	estimate router.Estimate
	// plan is set where the estimate is about known tokens: the engine must then
	// restore exactly the cut.
	plan bool
	// pulls are the workers that have what the estimate restores from peers.
	pulls []workers.PeerSource
	// idle is set when no prefill was ahead of this one; behindMS is the work that
	// joined behind it before its first token.
	idle     bool
	behindMS float64
	// split is set when the worker takes the prompt's KV over from another.
	split *split
	seat  *seat
	// company is how many requests the worker had, this one among them, when it was
	// booked or released: of those, whichever are more.
	company int
}

// booking is a request's load in the ledger. Law 4: it is made once and
// released once.
type booking struct {
	g      *Gateway
	id     string
	worker kv.WorkerID
	seat   *seat
	placed *placement
	once   sync.Once
	// taken is set unless the worker had no place for the request: then its end
	// leaves none.
	taken bool
	// assumed fires the first token of an answer that isn't a stream, when it is
	// predicted; nobody else would tell.
	assumed *time.Timer
}

// serving are the ready workers of a model that haven't been tried and could serve
// a request.
func (g *Gateway) serving(model string, tried map[kv.WorkerID]bool) []*workers.Worker {
	var ready []*workers.Worker
	for _, w := range g.c.Fleet.Workers() {
		if info := w.Known(); info.Model == model && answers(info) && w.Ready() && !tried[info.ID] {
			ready = append(ready, w)
		}
	}
	return ready
}

// answers reports whether a worker can serve a request alone. A prefill worker is
// not meant to, and does where nobody else is left, if it is one that can.
func answers(info *workers.Info) bool {
	return info.Role != kv.Prefill || info.Engine == "" || info.Engine == "vllm"
}

func (g *Gateway) noWorker(model string) error {
	var states []string
	for _, w := range g.c.Fleet.Workers() {
		if info := w.Info(); info.Model == model {
			states = append(states, fmt.Sprintf("%s is %s", info.ID, w.State()))
		}
	}
	if len(states) == 0 {
		states = []string{"none is known"}
	}
	return fail(CodeNoWorker, "", "no worker of the model %q is ready: %s", model, strings.Join(states, ", ")).after(defaultRetryAfter)
}

// place decides where x runs and books it there.
func (x *exchange) place() (*placement, *booking, error) {
	g := x.g
	ready, err := x.candidates()
	if err != nil {
		return nil, nil, err
	}
	_, span := g.span(x.ctx, "kvasir.decide", trace.SpanKindInternal)
	defer span.End()
	var p *placement
	var b *booking
	x.decide(ready, g.c.Policy, func(d *router.Decision, req *router.Request, cs []router.Candidate, now time.Time) {
		p, b = x.takeLocked(d, req, cs, ready, now)
	})
	x.endPass()
	if err := x.tooLate(p); err != nil {
		p.end()
		b.release()
		return nil, nil, err
	}
	if p.split != nil {
		if p.split.by, err = x.handover(p.split.first.worker); err != nil {
			p.end()
			b.release()
			x.whole = err.Error()
			return x.place()
		}
	}
	x.bypassed(p)
	if span.IsRecording() {
		span.SetAttributes(decisionAttributes(g.c.Policy.Name(), len(ready), &p.estimate)...)
	}
	g.metrics.decisions.WithLabelValues(x.q.model, string(p.estimate.Worker), g.c.Policy.Name()).Inc()
	if !x.q.stream {
		b.assumeFirstToken(p.estimate.TTFTMS)
	}
	return p, b, nil
}

// takeLocked books what was decided: at the worker that answers and, where the
// first leg is another's, there too.
func (x *exchange) takeLocked(d *router.Decision, req *router.Request, cs []router.Candidate, ready []*seat, now time.Time) (*placement, *booking) {
	g, at := x.g, d.Answers()
	known := x.prompt.tokens != nil && !x.prompt.batch
	p := &placement{worker: ready[at].worker, seat: ready[at], estimate: d.Estimates[d.Chosen], plan: known}
	p.idle = p.estimate.QueueMS == 0
	load, leg := p.estimate, d.PrefillLeg()
	if leg != nil {
		shared := *p.estimate.Split // the router's own is reused
		p.estimate.Split, p.plan = &shared, false
		load = p.estimate.DecodeLeg()
		from := ready[shared.Leg()]
		first := &placement{worker: from.worker, seat: from, estimate: *leg, plan: known, idle: leg.QueueMS == 0, pulls: pulls(req, shared.Leg(), leg, cs, ready)}
		p.split = &split{x: x, first: first, booked: g.bookLocked(x.id+"/prefill", first, leg, &cs[shared.Leg()], now)}
		from.sentLocked(x.prompt.hashes, now)
	} else {
		p.pulls = pulls(req, at, &p.estimate, cs, ready)
	}
	b := g.bookLocked(x.id, p, &load, &cs[at], now)
	ready[at].sentLocked(x.prompt.hashes, now)
	return p, b
}

// computes is the placement of the worker that computes the prompt.
func (p *placement) computes() *placement {
	if p.split != nil {
		return p.split.first
	}
	return p
}

// end ends what there is besides the worker's own part.
func (p *placement) end() {
	if p.split != nil {
		p.split.end()
	}
}

// candidates are the workers to choose from: ready, untried, and with a context
// that holds the prompt. Prefill workers are among them where they can pass the
// prompt's KV on, and alone where nobody else is left.
func (x *exchange) candidates() ([]*seat, error) {
	seats := x.g.seats()
	longest, anyone, fit := 0, false, make([]*seat, 0, len(seats))
	now := x.g.c.Now()
	var full []*seat
	var firsts []*seat
	var takes string // how the decode workers have KV handed over
	for _, s := range seats {
		info := s.worker.Known()
		if info.Model != x.q.model || !s.worker.Ready() || x.tried[s.id] {
			continue
		}
		anyone = anyone || answers(info)
		n := s.longest(x.ctx, x.g.contexts)
		longest = max(longest, n)
		switch {
		case n > 0 && len(x.prompt.tokens) > n:
		case s.isFull(now) && info.Role != kv.Prefill:
			full = append(full, s)
		case info.Role == kv.Prefill:
			firsts = append(firsts, s)
		default:
			fit = append(fit, s)
			if info.Role == kv.Decode {
				takes = handoverKind(info)
			}
		}
	}
	if len(fit) == 0 {
		fit = full
	}
	if len(firsts) > 0 && takes != "" && x.unsplittable() == "" {
		for _, s := range firsts {
			if handoverKind(s.worker.Known()) == takes {
				fit = append(fit, s)
			}
		}
	}
	if len(fit) == 0 {
		for _, s := range firsts {
			if answers(s.worker.Known()) {
				fit = append(fit, s)
			}
		}
	}
	if len(fit) > 0 {
		return fit, nil
	}
	if !anyone {
		return nil, x.g.noWorker(x.q.model)
	}
	param := "messages"
	if x.endpoint == endpointCompletion {
		param = "prompt"
	}
	return nil, fail(CodeContextLength, param, "the prompt has %d tokens; the model's context is %d tokens", len(x.prompt.tokens), longest)
}

// headerSession names a conversation, for policies that go by it.
const headerSession = "X-Session-Id"

// session is the conversation that the client says the request is part of.
func (x *exchange) session() string {
	if s := x.r.Header.Get(headerSession); saneID(s) {
		return s
	}
	return ""
}

// workspace is the memory of a decision. It is good until the decision is
// recorded.
type workspace struct {
	matches    prefixindex.Matches
	candidates []router.Candidate
	peers      router.Peers
	decision   router.Decision
}

var workspaces = sync.Pool{New: func() any { return new(workspace) }}

// booker takes note of a decision before another one can be made.
type booker func(*router.Decision, *router.Request, []router.Candidate, time.Time)

// decide prices the workers, lets the policy choose, calls book, if any, before
// another decision can be made, and records it all.
func (x *exchange) decide(ready []*seat, policy router.Policy, book booker) {
	g := x.g
	began := g.c.Now()
	blockSize := ready[0].worker.Known().BlockSize
	x.prompt.chain(x.q.model, x.q.salt, blockSize)
	ws := workspaces.Get().(*workspace)
	defer workspaces.Put(ws)
	g.c.Index.Match(&ws.matches, x.prompt.hashes)
	req := router.Request{ID: x.id, Tokens: x.prompt.total, BlockSize: blockSize, MaxTokens: x.q.maxTokens, Session: x.session()}
	g.choose(ws, &req, x.prompt.hashes, ready, policy, book)
	g.metrics.decide.Observe(g.c.Now().Sub(began).Seconds())
	whole := g.records.whole(len(ready))
	x.entry.update(func(r *Record) { r.decided(&req, ws.candidates, &ws.decision, whole) })
}

// choose is the part of a decision that must see those before it: it reads
// loads and rates, decides and books under one lock.
func (g *Gateway) choose(ws *workspace, req *router.Request, hashes []kv.Hash, ready []*seat, policy router.Policy, book booker) {
	ws.candidates = slices.Grow(ws.candidates[:0], len(ready))[:len(ready)]
	g.placing.Lock()
	defer g.placing.Unlock()
	g.forgetLeftLocked()
	req.Now = g.c.Now()
	peering := 0
	alone := !slices.ContainsFunc(ready, func(s *seat) bool { return s.worker.Known().Role != kv.Prefill })
	for i, s := range ready {
		c, info := &ws.candidates[i], s.worker.Known()
		c.Worker, c.Role, c.Spans, c.Predicted = s.id, info.Role, nil, 0
		if alone { // they do it all
			c.Role = kv.Aggregated
		}
		s.fillLocked(c, g.loads, req.Now)
		if info.BlockSize == req.BlockSize { // else its blocks are others than those hashed
			c.Spans = ws.matches.Spans(s.id)
			s.predictLocked(c, hashes, req.Now)
		}
		if c.Rates.Links[kv.Peer].BytesPerMS > 0 {
			peering++
		}
	}
	if peering > 1 {
		ws.peers.Add(req, ws.candidates)
	}
	d := &ws.decision
	policy.DecideInto(d, req, ws.candidates)
	if book != nil {
		book(d, req, ws.candidates, req.Now)
	}
}

// forgetLeftLocked drops what is known of workers that are long gone, once they
// outnumber the fleet. A worker that comes back soon keeps its rates.
func (g *Gateway) forgetLeftLocked() {
	fleet := g.c.Fleet.Workers()
	if g.loads.Len() <= 2*len(fleet)+64 {
		return
	}
	g.loads.Forget(func(id kv.WorkerID) bool {
		gone := g.c.Fleet.Worker(id) == nil
		if gone {
			g.c.Calibration.Forget(id)
			g.ledger.Forget(id)
			g.contexts.forget(id)
		}
		return gone
	})
}

// bookLocked enters a load at p's worker; chosen is that worker as the router saw
// it.
func (g *Gateway) bookLocked(id string, p *placement, load *router.Estimate, chosen *router.Candidate, now time.Time) *booking {
	w := p.worker.ID()
	g.ledger.Add(id, w, *load, now)
	g.ledger.Account(w).Plan(&p.estimate, &chosen.Rates, now)
	g.loads.Note(w, g.ledger, now)
	p.seat.noteLocked(now)
	p.accompaniedLocked(now)
	return &booking{g: g, id: id, worker: w, seat: p.seat, placed: p}
}

// assumeFirstToken moves the request from waiting to running when its first
// token is predicted, because an answer that isn't a stream doesn't show it.
func (b *booking) assumeFirstToken(ms float64) {
	b.assumed = time.AfterFunc(time.Duration(ms*float64(time.Millisecond)), b.firstToken)
}

// firstToken releases the prefill's share of the load.
func (b *booking) firstToken() {
	defer b.g.stir(b.seat.worker.Known().Model) // once nothing is locked
	b.g.placing.Lock()
	defer b.g.placing.Unlock()
	now := b.g.c.Now()
	b.g.loads.Note(b.worker, b.g.ledger, now)
	b.placed.behindMS = b.g.ledger.FirstToken(b.id, now)
	b.seat.noteLocked(now)
}

func (p *placement) accompaniedLocked(now time.Time) {
	load := p.seat.account.Load(now)
	p.company = max(p.company, load.Running+load.Waiting)
}

// release takes the load out of the books; only the first call does anything.
func (b *booking) release() {
	b.once.Do(func() {
		if b.assumed != nil {
			b.assumed.Stop()
		}
		defer b.g.stir(b.seat.worker.Known().Model)
		b.g.placing.Lock()
		defer b.g.placing.Unlock()
		if b.taken {
			b.seat.fullUntil.Store(0)
		}
		now := b.g.c.Now()
		b.g.loads.Note(b.worker, b.g.ledger, now)
		b.placed.accompaniedLocked(now)
		b.g.ledger.Done(b.id, now)
		b.seat.noteLocked(now)
	})
}
