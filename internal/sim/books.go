package sim

import (
	"math"
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// samples is how many moments of a run are kept for plots.
const samples = 200

// books collect what a run shows.
type books struct {
	now        instant
	every      instant // between samples
	nextSample instant

	ttft, tpot   []float64
	promptTokens int
	cached       [kv.NumTiers]int
	inSLO        int
	errorSum     float64
	biasSum      float64
	observedSum  float64
	last         instant
	decisions    []time.Duration

	samples     []Sample
	sinceTokens int // since the last sample
	sinceCached int
}

func (b *books) begin(f *fleet) {
	n := len(f.trace.Requests)
	b.ttft, b.tpot = make([]float64, 0, n), make([]float64, 0, n)
	b.every = max(1, instant(f.trace.Duration())/samples)
	b.nextSample = b.every
}

// advance moves the clock.
func (b *books) advance(f *fleet, to instant) {
	for ; b.nextSample <= to && len(b.samples) < samples; b.nextSample += b.every {
		s := Sample{AtSeconds: b.nextSample.ms() / 1000}
		for _, e := range f.there {
			n := float64(len(e.running) + len(e.waiting))
			s.LoadMean += n / float64(len(f.there))
			s.LoadMax = max(s.LoadMax, n)
		}
		if b.sinceTokens > 0 {
			s.HitRate = float64(b.sinceCached) / float64(b.sinceTokens)
		}
		b.sinceTokens, b.sinceCached = 0, 0
		b.samples = append(b.samples, s)
	}
	b.now = to
}

// timeDecision starts a watch; the function it returns stops it.
func (b *books) timeDecision(f *fleet) func() {
	if f.o.Clock == nil {
		return func() {}
	}
	began := f.o.Clock()
	return func() { b.decisions = append(b.decisions, f.o.Clock().Sub(began)) }
}

// close enters a request that got all its tokens.
func (b *books) close(r *request) {
	ttft := (r.firstToken - r.arrived).ms()
	b.ttft = append(b.ttft, ttft)
	tpot := 0.0
	if r.Output > 1 {
		tpot = (r.ended - r.firstToken).ms() / float64(r.Output-1)
		b.tpot = append(b.tpot, tpot)
	}
	o := r.engine.fleet.o
	if ttft <= float64(o.SLOTTFT)/1e6 && tpot <= float64(o.SLOTPOT)/1e6 {
		b.inSLO++
	}
	b.errorSum += math.Abs(ttft - r.predictedMS)
	b.biasSum += ttft - r.predictedMS
	b.observedSum += ttft
	b.promptTokens += r.Input
	b.sinceTokens += r.Input
	for t, n := range r.cached {
		b.cached[t] += n
		b.sinceCached += n
	}
	b.last = max(b.last, r.ended)
	if o.Ended != nil {
		o.Ended(Outcome{r.number, r.engine.id, r.predictedMS, ttft, r.ended.ms(), r.cached, r.epoch - 1})
	}
}

func (b *books) result(f *fleet) *Result {
	slices.Sort(b.ttft)
	slices.Sort(b.tpot)
	slices.Sort(b.decisions)
	n := float64(len(b.ttft))
	tokens := float64(b.promptTokens)
	r := &Result{
		Name: f.o.Policy, Requests: len(b.ttft), HitRates: map[string]float64{},
		TTFTMeanMS: mean(b.ttft), TTFTP50MS: quantile(b.ttft, 0.5), TTFTP99MS: quantile(b.ttft, 0.99),
		TPOTMeanMS: mean(b.tpot), TPOTP99MS: quantile(b.tpot, 0.99),
		GoodputShare: float64(b.inSLO) / n,
		DurationS:    b.last.ms() / 1000,
		PredictionMS: Prediction{MeanAbsMS: b.errorSum / n, BiasMS: b.biasSum / n, Share: b.errorSum / b.observedSum},
		Samples:      b.samples,
		ttft:         b.ttft,
	}
	r.GoodputPerS = float64(b.inSLO) / r.DurationS
	for t, c := range b.cached {
		r.HitRates[kv.Tier(t).String()] = float64(c) / tokens
		r.HitRate += float64(c) / tokens
	}
	r.LoadMaxOverMean = maxOverMean(f.engines, func(e *engine) float64 { return float64(e.routed) })
	r.WorkMaxOverMean = maxOverMean(f.engines, func(e *engine) float64 { return e.workMS })
	for _, e := range f.engines {
		r.Preemptions += e.preempts
		r.BusyShare += float64(e.busyTime) / float64(b.last) / float64(len(f.engines))
	}
	if len(b.decisions) > 0 {
		us := func(q float64) float64 { return float64(quantile(b.decisions, q)) / 1e3 }
		r.DecisionUS = &DecisionTimes{P50: us(0.5), P99: us(0.99), Max: us(1)}
	}
	return r
}

func maxOverMean(engines []*engine, of func(*engine) float64) float64 {
	most, sum := 0.0, 0.0
	for _, e := range engines {
		most = max(most, of(e))
		sum += of(e)
	}
	return most / sum * float64(len(engines))
}

func mean(xs []float64) float64 {
	sum := 0.0
	for _, x := range xs {
		sum += x
	}
	return sum / max(1, float64(len(xs)))
}

// quantile of sorted values: the smallest that a share q of them does not exceed.
func quantile[T float64 | time.Duration](sorted []T, q float64) T {
	if len(sorted) == 0 {
		return 0
	}
	i := int(math.Ceil(q*float64(len(sorted)))) - 1
	return sorted[min(max(i, 0), len(sorted)-1)]
}
