package router

import (
	"math"
	"math/rand/v2"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// h200 are rates as measured for an 8B model on one H200.
var h200 = Rates{PrefillBaseMS: 7.2, PrefillPerTokenMS: 24.8 / 1024, PrefillPerTokenContextMS: 2 * 0.474 / 1024 / 1024}

// TestCalibrationFinds a worker's rates from defaults that are far off, through
// noise and the odd absurd measurement.
func TestCalibrationFinds(t *testing.T) {
	laptop := Rates{PrefillBaseMS: 40, PrefillPerTokenMS: 4, PrefillPerTokenContextMS: 4e-4}
	f := func(name string, defaults, truth Rates) {
		// Fixed: of several hundred seeds, one has its absurd measurements where they mislead for longer.
		rng := rand.New(rand.NewPCG(1, 1))
		c := NewCalibration(defaults)
		for i := range 400 {
			context := 1 << (5 + rng.IntN(10))
			tokens := 1 + rng.IntN(context)
			ms := truth.PrefillMS(tokens, context) * (1 + 0.05*rng.NormFloat64())
			if i%50 == 25 && i < 200 {
				ms *= 100 // somebody stopped the process
			}
			c.ObservePrefill("w", tokens, context, ms, 0)
		}
		got := c.Rates("w")
		for _, p := range [][2]int{{64, 64}, {1000, 1000}, {16000, 16000}, {100, 16000}} {
			want, have := truth.PrefillMS(p[0], p[1]), got.PrefillMS(p[0], p[1])
			// The base is told apart from the rest only roughly; without a start, more so.
			slack := max(0.25*want, 1.5*truth.PrefillBaseMS)
			if defaults == (Rates{}) {
				slack += truth.PrefillBaseMS
			}
			if math.Abs(have-want) > slack {
				t.Errorf("%s: %d of %d tokens: predicted %.1f ms, truth %.1f ms", name, p[0], p[1], have, want)
			}
		}
	}
	f("the defaults are right", h200, h200)
	f("a laptop, defaults of a H200", h200, laptop)
	f("a H200, defaults of a laptop", laptop, h200)
	f("defaults say nothing of context", Rates{PrefillBaseMS: 1, PrefillPerTokenMS: 0.1}, h200)
	f("no defaults", Rates{}, h200)
}

// TestCalibrationFollows a worker that becomes ten times slower, within a few
// prefills.
func TestCalibrationFollows(t *testing.T) {
	c := NewCalibration(h200)
	for i := range 200 {
		n := 100 + i*10
		c.ObservePrefill("w", n, n, h200.PrefillMS(n, n), 0)
	}
	for i := range 30 {
		n := 100 + i*50
		c.ObservePrefill("w", n, n, 10*h200.PrefillMS(n, n), 0)
	}
	r := c.Rates("w")
	if got, want := r.PrefillMS(1000, 1000), 10*h200.PrefillMS(1000, 1000); math.Abs(got-want) > 0.1*want {
		t.Errorf("1000 tokens: predicted %.0f ms, they take %.0f ms", got, want)
	}
}

// TestCalibrationKeepsItsBounds: whatever is observed, rates stay finite and
// not negative, so that more tokens never look cheaper.
func TestCalibrationKeepsItsBounds(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	c := NewCalibration(h200)
	for range 20_000 {
		context := rng.IntN(1 << (1 + rng.IntN(20)))
		c.ObservePrefill("w", rng.IntN(context+2)-1, context, math.Exp(rng.NormFloat64()*8), 0)
		if rng.IntN(100) == 0 {
			c.ObservePrefill("w", 100, 100, [...]float64{math.NaN(), math.Inf(1), -1, 0}[rng.IntN(4)], 0)
		}
		r := c.Rates("w")
		for _, v := range []float64{r.PrefillBaseMS, r.PrefillPerTokenMS, r.PrefillPerTokenContextMS} {
			if !(v >= 0) || math.IsInf(v, 0) {
				t.Fatalf("rates %+v", r)
			}
		}
	}
}

// TestCalibrationIsPerWorker, and what is set stays set.
func TestCalibrationIsPerWorker(t *testing.T) {
	c := NewCalibration(h200)
	disk := Link{LatencyMS: 1, BytesPerMS: 2e6}
	c.SetLink("a", kv.Disk, disk)
	c.SetBlockBytes("a", 4096)
	c.ObservePrefill("a", 1000, 1000, 1e4, 0)
	c.ObservePrefill("b", 1000, 1000, 500, 0)
	if got := c.Rates("b"); got.Links != h200.Links || math.Abs(got.PrefillMS(1000, 1000)-500) > 1 {
		t.Errorf("b has a's rates: %+v", got)
	}
	got := c.Rates("a")
	if got.Links[kv.Disk] != disk || got.BlockBytes != 4096 || math.Abs(got.PrefillMS(1000, 1000)-1e4) > 1 {
		t.Errorf("a's rates: %+v", got)
	}
	c.Forget("a")
	if got := c.Rates("a"); got.Links != h200.Links || math.Abs(got.PrefillMS(1000, 1000)-1e4) < 1 {
		t.Errorf("a was not forgotten: %+v", got)
	}
}

// TestAbsurdLinksAreUnusable rather than believed.
func TestAbsurdLinksAreUnusable(t *testing.T) {
	c := NewCalibration(h200)
	for _, l := range []Link{{BytesPerMS: math.NaN()}, {BytesPerMS: math.Inf(1)}, {BytesPerMS: -1}, {LatencyMS: math.NaN(), BytesPerMS: 1},
		{LatencyMS: -1, BytesPerMS: 1}, {LatencyMS: math.Inf(1), BytesPerMS: 1}, {BytesPerMS: 1, QueuedBytes: -1}} {
		c.SetLink("w", kv.CPU, Link{BytesPerMS: 1e6})
		c.SetLink("w", kv.CPU, l)
		if got := c.Rates("w").Links[kv.CPU]; got != (Link{}) {
			t.Errorf("%+v became %+v", l, got)
		}
	}
}

// TestAnUnknownWorkerIsLikeTheOthers, so that it neither draws nor repels what
// the others hold.
func TestAnUnknownWorkerIsLikeTheOthers(t *testing.T) {
	c := NewCalibration(h200)
	if got := c.Rates("new"); got != h200 {
		t.Errorf("with nobody known: %+v", got)
	}
	for range 20 {
		c.ObservePrefill("known", 1000, 1000, 1e4, 0)
	}
	if got, want := c.Rates("new"), c.Rates("known"); got.PrefillMS(1000, 1000) != want.PrefillMS(1000, 1000) {
		t.Errorf("new: %+v, known: %+v", got, want)
	}
}

// TestPredictionError is that of the recent requests.
func TestPredictionError(t *testing.T) {
	c := NewCalibration(h200)
	if c.Errors("w") != (ErrorStats{}) {
		t.Error("errors before the first request")
	}
	for range 1000 {
		c.ObserveTTFT("w", 100, 80)
	}
	c.ObserveTTFT("w", 100, 0)
	e := c.Errors("w")
	if e.Count != 1000 || math.Abs(e.BiasMS+20) > 1e-9 || math.Abs(e.MeanAbsMS-20) > 1e-9 || math.Abs(e.MeanShare-0.25) > 1e-9 {
		t.Errorf("%+v", e)
	}
	for range 1000 {
		c.ObserveTTFT("w", 100, 120)
	}
	if e := c.Errors("w"); e.BiasMS < 19 {
		t.Errorf("the past is not forgotten: %+v", e)
	}
}
