package router

import (
	"cmp"
	"math"
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Split is how two workers share a request: the first computes the prompt, the
// second gets its KV and decodes. What the first leg costs is the prefill
// worker's own estimate, which is among the candidates; the estimate that Split
// is part of is the whole:
//
//	queue   = the first leg's queue + WaitMS
//	prefill = the first leg's prefill + StepMS
//	harm    = the first leg's harm + HarmMS
//
// and restore, adapter, blocks and cut are the first leg's.
type Split struct {
	Prefill kv.WorkerID `json:"prefill_worker"`
	// WaitMS is what is left of the decode worker's queue when the KV has come.
	WaitMS float64 `json:"wait_ms"`
	// StepMS is the decode worker's first step: it computes the last token.
	StepMS float64 `json:"step_ms"`
	HarmMS float64 `json:"harm_ms"` // on the decode worker
	// TransferBlocks of the prompt are not in the decode worker's gpu yet.
	TransferBlocks int `json:"transfer_blocks"`

	leg, second int // the two workers' places among the candidates
}

// Leg is the place of the prefill worker's estimate in the decision.
func (s *Split) Leg() int { return s.leg }

// split prices the request on the decode worker at second, c, after a first leg at
// leg.
func split(into *Estimate, s *Split, q *query, c *Candidate, second int, first *Estimate, leg int) {
	*s = Split{Prefill: first.Worker, leg: leg, second: second, TransferBlocks: q.blocks - min(q.blocks, onGPU(c.Spans))}
	*into = *first
	into.Worker, into.Role, into.Split = c.Worker, c.Role, s
	into.TransferMS = c.transferMS(q)
	s.WaitMS = max(0, c.Load.QueuedPrefillMS-first.TTFTMS-into.TransferMS)
	s.StepMS = c.Rates.PrefillMS(1, q.Tokens)
	s.HarmMS = harm(q, c, s.StepMS)
	into.QueueMS += s.WaitMS
	into.PrefillMS += s.StepMS
	into.HarmMS += s.HarmMS
	into.sum()
}

// transferMS is the time that the KV which c's gpu lacks takes to it. A block
// at the end that is not full goes with them.
func (c *Candidate) transferMS(q *query) float64 {
	blocks := q.blocks - min(q.blocks, onGPU(c.Spans))
	return c.Rates.Handoff.fixedMS() + float64(blocks)*float64(c.Rates.BlockBytes)/c.Rates.Handoff.BytesPerMS
}

// takesHandoff reports whether c can decode what another worker prefilled.
func (c *Candidate) takesHandoff() bool {
	return c.Role == kv.Decode && c.Rates.Handoff.BytesPerMS > 0 && c.Rates.BlockBytes > 0
}

// onGPU is the number of leading blocks in the gpu tier.
func onGPU(spans []kv.Span) (n int) {
	for _, s := range spans {
		if !s.Tiers.Has(kv.GPU) {
			break
		}
		n += s.Blocks
	}
	return n
}

// firstLegs finds the best prefill worker for each decode worker without trying
// all pairs. For a decode worker that is busy until x ms after now (its transfer
// taken off), first legs that end before x cost the same time, so that the one
// that harms least is best; of those that end later, it is the one with the
// lowest sum. Both are looked up in the legs sorted by their end.
type firstLegs struct {
	legs   []firstLeg // by TTFT
	before []int32    // of the first i+1 legs, the one with the least harm
	after  []int32    // of the legs from i on, the one with the lowest score
}

type firstLeg struct {
	ttftMS, harmMS float64
	tie            uint64 // equals are told apart by it
	at             int32  // the place among the estimates
}

func (a *firstLeg) better(b *firstLeg, costA, costB float64) bool {
	return costA < costB || costA == costB && a.tie < b.tie
}

// reset sorts the prefill workers' estimates.
func (f *firstLegs) reset(seed uint64, cs []Candidate, es []Estimate) {
	f.legs = f.legs[:0]
	for i := range cs {
		if cs[i].Role == kv.Prefill {
			f.legs = append(f.legs, firstLeg{es[i].TTFTMS, es[i].HarmMS, mix(seed, uint64(i)), int32(i)})
		}
	}
	slices.SortFunc(f.legs, func(a, b firstLeg) int { return cmp.Compare(a.ttftMS, b.ttftMS) })
	n := len(f.legs)
	f.before = slices.Grow(f.before[:0], n)[:n]
	f.after = slices.Grow(f.after[:0], n)[:n]
	for i := range f.legs {
		f.before[i] = int32(i)
		if i > 0 {
			if prev := &f.legs[f.before[i-1]]; !f.legs[i].better(prev, f.legs[i].harmMS, prev.harmMS) {
				f.before[i] = f.before[i-1]
			}
		}
	}
	for i := n - 1; i >= 0; i-- {
		f.after[i] = int32(i)
		if i < n-1 {
			a, b := &f.legs[i], &f.legs[f.after[i+1]]
			if !a.better(b, a.ttftMS+a.harmMS, b.ttftMS+b.harmMS) {
				f.after[i] = f.after[i+1]
			}
		}
	}
}

// best is the place of the best first leg for a decode worker that is free x ms
// from now.
func (f *firstLegs) best(x float64) int {
	n, _ := slices.BinarySearchFunc(f.legs, x, func(l firstLeg, x float64) int { return cmp.Compare(l.ttftMS, x) })
	switch {
	case n == 0:
		return int(f.legs[f.after[0]].at)
	case n == len(f.legs):
		return int(f.legs[f.before[n-1]].at)
	}
	soon, late := &f.legs[f.before[n-1]], &f.legs[f.after[n]]
	if soon.better(late, max(soon.ttftMS, x)+soon.harmMS, late.ttftMS+late.harmMS) {
		return int(soon.at)
	}
	return int(late.at)
}

// decideSplit adds a split for every decode worker and chooses among those and
// the workers that serve the request alone.
func (p *policy) decideSplit(d *Decision, r *Request, cs []Candidate) {
	whole := newQuery(r, cs)
	q := &whole
	leg := p.firstLeg(d, q, cs)
	n := len(cs)
	d.splits = slices.Grow(d.splits[:0], n)[:0] // Estimates point into it
	d.Estimates = slices.Grow(d.Estimates, n)
	for i := range cs {
		if c := &cs[i]; leg != nil && c.takesHandoff() {
			d.splits = d.splits[:len(d.splits)+1]
			d.Estimates = d.Estimates[:len(d.Estimates)+1]
			at := leg(c.Load.QueuedPrefillMS - c.transferMS(q))
			split(&d.Estimates[len(d.Estimates)-1], &d.splits[len(d.splits)-1], q, c, i, &d.Estimates[at], at)
		}
	}
	if p.name == predicted {
		d.Chosen = lowest(d.Seed, len(d.Estimates), func(i int) float64 {
			if !d.Estimates[i].whole() {
				return math.Inf(1)
			}
			return d.Estimates[i].ScoreMS
		})
		if !d.Estimates[d.Chosen].whole() {
			d.Chosen = -1 // there is no more than first legs
		}
		return
	}
	d.Chosen = p.chooseSecond(d, q, cs)
}

// firstLeg says which prefill worker goes with a decode worker that is free in
// x ms, nil if there is none. Policies that do not predict choose theirs as they
// choose any worker, whatever x.
func (p *policy) firstLeg(d *Decision, q *query, cs []Candidate) func(x float64) int {
	if p.name == predicted {
		if d.legs.reset(d.Seed, cs, d.Estimates); len(d.legs.legs) == 0 {
			return nil
		}
		return d.legs.best
	}
	at := p.chooseAmong(d, q, cs, func(c *Candidate) bool { return c.Role == kv.Prefill })
	if at < 0 {
		return nil
	}
	return func(float64) int { return at }
}

// chooseSecond is the choice of policies that do not predict: a decode worker
// with the first leg chosen before, or, where none takes it, any worker alone.
func (p *policy) chooseSecond(d *Decision, q *query, cs []Candidate) int {
	at := p.chooseAmong(d, q, cs, (*Candidate).takesHandoff)
	if at < 0 || len(d.splits) == 0 {
		return p.chooseAmong(d, q, cs, func(c *Candidate) bool { return c.Role != kv.Prefill })
	}
	for i := len(cs); ; i++ {
		if d.Estimates[i].Worker == cs[at].Worker {
			return i
		}
	}
}

// chooseAmong is the policy's choice of the candidates that fit, -1 if none does.
func (p *policy) chooseAmong(d *Decision, q *query, cs []Candidate, fits func(*Candidate) bool) int {
	var some []Candidate
	var estimates []Estimate
	var at []int
	for i := range cs {
		if fits(&cs[i]) {
			some, estimates, at = append(some, cs[i]), append(estimates, d.Estimates[i]), append(at, i)
		}
	}
	if len(some) == 0 {
		return -1
	}
	return at[p.choose(d.Seed, &q.Request, some, estimates)]
}

// whole reports whether the estimate is of a whole answer, not of a first leg
// alone.
func (e *Estimate) whole() bool { return e.Role != kv.Prefill || e.Split != nil }

// PrefillLeg is the prefill worker's estimate when the decision is a split, else
// nil.
func (d *Decision) PrefillLeg() *Estimate {
	if d.Chosen < 0 || d.Estimates[d.Chosen].Split == nil {
		return nil
	}
	return &d.Estimates[d.Estimates[d.Chosen].Split.leg]
}

// Answers is the place among the candidates of the worker chosen to answer.
func (d *Decision) Answers() int {
	if d.Chosen >= 0 && d.Estimates[d.Chosen].Split != nil {
		return d.Estimates[d.Chosen].Split.second
	}
	return d.Chosen
}

// BestSplit is the estimate of the best way to share the request, nil if there is
// none.
func (d *Decision) BestSplit() (best *Estimate) {
	for i := range d.Estimates {
		if e := &d.Estimates[i]; e.Split != nil && (best == nil || e.ScoreMS < best.ScoreMS) {
			best = e
		}
	}
	return best
}

// DecodeLeg is the second leg as a load of its own, for the ledger.
func (e *Estimate) DecodeLeg() Estimate {
	leg := Estimate{Worker: e.Worker, Role: e.Role, QueueMS: e.Split.WaitMS, PrefillMS: e.Split.StepMS, HarmMS: e.Split.HarmMS,
		TransferMS: e.TransferMS, Cut: e.Cut + e.RecomputeBlocks, CachedTokens: e.CachedTokens + e.ComputeTokens - 1, ComputeTokens: 1}
	leg.sum()
	return leg
}
