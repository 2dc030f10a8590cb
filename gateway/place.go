package gateway

import (
	"fmt"
	"strings"
	"sync"
	"time"

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
	// idle is set when no prefill was ahead of this one.
	idle bool
}

// booking is a request's load in the ledger. Law 4: it is made once and
// released once.
type booking struct {
	g      *Gateway
	id     string
	worker kv.WorkerID
	once   sync.Once
	// assumed fires the first token of an answer that isn't a stream, when it is
	// predicted; nobody else would tell.
	assumed *time.Timer
}

// serving are the ready workers of a model that haven't been tried.
func (g *Gateway) serving(model string, tried map[kv.WorkerID]bool) []*workers.Worker {
	var ready []*workers.Worker
	for _, w := range g.c.Fleet.Workers() {
		if info := w.Info(); info.Model == model && info.Role == kv.Aggregated && w.Ready() && !tried[info.ID] {
			ready = append(ready, w)
		}
	}
	return ready
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
	_, span := g.c.Tracer.Start(x.ctx, "kvasir.decide")
	defer span.End()
	var p *placement
	var b *booking
	d := x.decide(ready, func(d *router.Decision, now time.Time) {
		p = &placement{worker: ready[d.Chosen], estimate: d.Estimates[d.Chosen], plan: x.prompt.tokens != nil && !x.prompt.batch}
		p.idle = p.estimate.QueueMS == 0
		b = g.bookLocked(x.id, p, now)
	})
	span.SetAttributes(decisionAttributes(&d)...)
	g.metrics.decisions.WithLabelValues(x.q.model, string(d.Worker()), d.Policy).Inc()
	if !x.q.stream {
		b.assumeFirstToken(p.estimate.TTFTMS)
	}
	return p, b, nil
}

// candidates are the workers to choose from: ready, untried, and with a context
// that holds the prompt.
func (x *exchange) candidates() ([]*workers.Worker, error) {
	ready := x.g.serving(x.q.model, x.tried)
	if len(ready) == 0 {
		return nil, x.g.noWorker(x.q.model)
	}
	longest, fit := 0, ready[:0]
	for _, w := range ready {
		n := x.g.contexts.of(x.ctx, w)
		longest = max(longest, n)
		if n == 0 || len(x.prompt.tokens) <= n {
			fit = append(fit, w)
		}
	}
	if len(fit) == 0 {
		param := "messages"
		if x.endpoint == endpointCompletion {
			param = "prompt"
		}
		return nil, fail(CodeContextLength, param, "the prompt has %d tokens; the model's context is %d tokens", len(x.prompt.tokens), longest)
	}
	return fit, nil
}

// matchesPool keeps the index's answers: they hold spans until the decision is
// recorded.
var matchesPool = sync.Pool{New: func() any { return new(prefixindex.Matches) }}

// decide prices the workers, lets the policy choose, calls chosen, if any,
// before another decision can be made, and records it all.
func (x *exchange) decide(ready []*workers.Worker, chosen func(*router.Decision, time.Time)) router.Decision {
	g := x.g
	began := g.c.Now()
	blockSize := ready[0].Info().BlockSize
	x.prompt.chain(x.q.model, x.q.salt, blockSize)
	m := matchesPool.Get().(*prefixindex.Matches)
	defer matchesPool.Put(m)
	g.c.Index.Match(m, x.prompt.hashes)

	candidates := make([]router.Candidate, len(ready))
	for i, w := range ready {
		info := w.Info()
		candidates[i].Worker = info.ID
		if info.BlockSize == blockSize { // else its blocks are others than those hashed
			candidates[i].Spans = m.Spans(info.ID)
		}
	}
	req := router.Request{ID: x.id, Tokens: x.prompt.total, BlockSize: blockSize, MaxTokens: x.q.maxTokens}
	d := g.choose(req, ready, candidates, chosen)
	g.metrics.decide.Observe(g.c.Now().Sub(began).Seconds())
	x.entry.update(func(r *Record) {
		r.BlockSize = blockSize
		r.Policy, r.Seed, r.Why, r.Chosen = d.Policy, d.Seed, d.Why, d.Worker()
		r.Candidates = make([]Candidate, len(candidates))
		for i := range candidates {
			r.Candidates[i] = candidate(&candidates[i], d.Estimates[i])
		}
		predicted := r.winner().TTFTMS
		r.PredictedTTFTMS = &predicted
	})
	return d
}

// choose is the part of a decision that must see those before it: it reads
// loads and rates, decides and books under one lock.
func (g *Gateway) choose(req router.Request, ready []*workers.Worker, cs []router.Candidate, chosen func(*router.Decision, time.Time)) router.Decision {
	g.placing.Lock()
	defer g.placing.Unlock()
	g.forgetLeftLocked()
	req.Now = g.c.Now()
	for i, w := range ready {
		stats := w.Stats()
		g.learnLinksLocked(cs[i].Worker, &stats)
		cs[i].Rates = g.c.Calibration.Rates(cs[i].Worker)
		cs[i].Load = g.loads.Of(cs[i].Worker, reportOf(&stats), &cs[i].Rates, g.ledger, req.Now)
	}
	d := g.c.Policy.Decide(req, cs)
	if chosen != nil {
		chosen(&d, req.Now)
	}
	return d
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
			g.contexts.forget(id)
		}
		return gone
	})
}

// learnLinksLocked hands on what the worker measured of its links.
func (g *Gateway) learnLinksLocked(id kv.WorkerID, s *workers.Stats) {
	if s.BlockBytes > 0 {
		g.c.Calibration.SetBlockBytes(id, s.BlockBytes)
	}
	for t := kv.CPU; t < kv.NumTiers; t++ {
		if s.Links[t] != (workers.LinkStats{}) {
			g.c.Calibration.SetLink(id, t, wayUp(s, t))
		}
	}
}

// wayUp is the way from tier t to the engine's memory. Blocks from below the
// cpu tier take a second link from there, where there is one; the two work at
// the same time, on different blocks, so the slower of them sets the pace.
func wayUp(s *workers.Stats, t kv.Tier) router.Link {
	l := s.Links[t]
	way := router.Link{LatencyMS: milliseconds(l.Latency), BytesPerMS: speed(l, t) / 1000, QueuedBytes: l.QueuedBytes}
	if last := s.Links[kv.CPU]; t > kv.CPU && last.Up {
		way.LatencyMS += milliseconds(last.Latency)
		way.BytesPerMS = min(way.BytesPerMS, speed(last, kv.CPU)/1000)
	}
	return way
}

// unmeasured are the links' bytes a second until their first transfer. They are
// hopeful: a link that is believed to be slow would never be used, and so never
// measured.
var unmeasured = [kv.NumTiers]float64{kv.CPU: 8e9, kv.Disk: 1e9, kv.Redis: 0.5e9, kv.Peer: 1e9}

// speed is a link's bytes a second; 0, unusable, when it is down.
func speed(l workers.LinkStats, t kv.Tier) float64 {
	switch {
	case !l.Up:
		return 0
	case l.BytesPerSecond > 0:
		return l.BytesPerSecond
	}
	return unmeasured[t]
}

func (g *Gateway) bookLocked(id string, p *placement, now time.Time) *booking {
	w := p.worker.ID()
	g.ledger.Add(id, w, p.estimate, now)
	g.loads.Note(w, g.ledger, now)
	return &booking{g: g, id: id, worker: w}
}

// assumeFirstToken moves the request from waiting to running when its first
// token is predicted, because an answer that isn't a stream doesn't show it.
func (b *booking) assumeFirstToken(ms float64) {
	b.assumed = time.AfterFunc(time.Duration(ms*float64(time.Millisecond)), b.firstToken)
}

// firstToken releases the prefill's share of the load.
func (b *booking) firstToken() {
	b.g.placing.Lock()
	defer b.g.placing.Unlock()
	now := b.g.c.Now()
	b.g.loads.Note(b.worker, b.g.ledger, now)
	b.g.ledger.FirstToken(b.id, now)
}

// release takes the load out of the books; only the first call does anything.
func (b *booking) release() {
	b.once.Do(func() {
		if b.assumed != nil {
			b.assumed.Stop()
		}
		b.g.placing.Lock()
		defer b.g.placing.Unlock()
		now := b.g.c.Now()
		b.g.loads.Note(b.worker, b.g.ledger, now)
		b.g.ledger.Done(b.id, now)
	})
}
