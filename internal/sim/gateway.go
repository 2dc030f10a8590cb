package sim

import (
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/router"
)

// gateway is one gateway's state, and the calls that it makes in life.
type gateway struct {
	fleet       *fleet
	policy      router.Policy
	ledger      *router.Ledger
	loads       *router.Loads
	calibration *router.Calibration

	seats      []seat // by the engine's number
	matches    prefixindex.Matches
	hashes     []kv.Hash
	candidates []router.Candidate
	decision   router.Decision
}

// seat is what the gateway knows of one worker.
type seat struct {
	account *router.Account
	speeds  *router.Speeds
}

func newGateway(f *fleet) (*gateway, error) {
	// Gateways share no seed, or they would break ties alike.
	p, err := router.NewPolicy(f.o.Policy, f.o.Seed+uint64(len(f.gateways))<<32)
	if err != nil {
		return nil, err
	}
	g := &gateway{fleet: f, policy: p, ledger: router.NewLedger(), loads: router.NewLoads(), calibration: router.NewCalibration(f.o.Rates)}
	for _, e := range f.engines {
		s := seat{g.ledger.Account(e.id), g.calibration.Worker(e.id)}
		s.speeds.SetBlockBytes(f.o.Timing.TokenBytes() * f.blockSize)
		g.seats = append(g.seats, s)
	}
	return g, nil
}

// place decides where r runs, and books it there.
func (g *gateway) place(r *request, now instant) *engine {
	f := g.fleet
	g.hashes = g.hashes[:0]
	for _, id := range r.Blocks[:r.Input/f.blockSize] {
		g.hashes = append(g.hashes, hashOf(id))
	}
	q := router.Request{ID: r.id, Session: r.Session, Tokens: r.Input, BlockSize: f.blockSize, MaxTokens: r.Output, Now: f.time(now)}
	stop := f.books.timeDecision(f)
	g.index(&q, now)
	g.policy.DecideInto(&g.decision, &q, g.candidates)
	d := &g.decision
	e := f.there[d.Chosen]
	estimate := &d.Estimates[d.Chosen]
	g.ledger.Add(r.id, e.id, *estimate, q.Now)
	g.seats[e.number].account.Plan(estimate, &g.candidates[d.Chosen].Rates, q.Now)
	g.loads.Note(e.id, g.ledger, q.Now)
	stop()
	if f.o.Decided != nil {
		f.o.Decided(&q, g.candidates, d)
	}
	r.predictedMS, r.idle, r.cut = estimate.TTFTMS, estimate.QueueMS == 0, estimate.Cut
	return e
}

// index looks the prompt up, and fills the candidates.
func (g *gateway) index(q *router.Request, now instant) {
	f := g.fleet
	f.index.Match(&g.matches, g.hashes)
	if len(g.candidates) != len(f.there) {
		g.candidates = make([]router.Candidate, len(f.there))
	}
	for i, e := range f.there {
		c := &g.candidates[i]
		c.Worker = e.id
		c.Spans = g.matches.Spans(e.id)
		seat := &g.seats[e.number]
		if e.tiers != nil {
			for t, l := range e.tiers.ways(now) {
				seat.speeds.SetLink(kv.Tier(t), l)
			}
		}
		c.Rates = *seat.speeds.Rates()
		seat.account.Queue(&c.Rates, q.Now)
		c.Load = g.loads.Merge(e.id, seat.account.Load(q.Now), e.report(now), &c.Rates, q.Now)
	}
}

// firstToken releases a prefill's load, and learns from it.
func (g *gateway) firstToken(r *request, now instant) {
	at := g.fleet.time(now)
	g.loads.Note(r.engine.id, g.ledger, at)
	behindMS := g.ledger.FirstToken(r.id, at)
	observed := (now - r.arrived).ms()
	g.calibration.ObserveTTFT(r.engine.id, r.predictedMS, observed)
	restoredTokens, cached := 0, 0
	for t, n := range r.cached {
		cached += n
		if kv.Tier(t) != kv.GPU {
			restoredTokens += n
		}
	}
	if r.idle && restoredTokens == 0 {
		g.calibration.ObservePrefill(r.engine.id, r.Input-cached, r.Input, observed, behindMS)
	}
}

// done takes r out of the books.
func (g *gateway) done(r *request, now instant) {
	at := g.fleet.time(now)
	g.loads.Note(r.engine.id, g.ledger, at)
	g.ledger.Done(r.id, at)
}
