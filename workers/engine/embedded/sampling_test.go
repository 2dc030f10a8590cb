package embedded

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

func randomLogits(rng *rand.Rand, n int) []float32 {
	l := make([]float32, n)
	for i := range l {
		l[i] = float32(rng.IntN(40)) / 4 // quarter steps: ties happen
	}
	return l
}

func with(f func(*sampling)) sampling {
	p := defaultSampling
	f(&p)
	return p
}

func TestGreedyTakesTheLowestIDAmongEquals(t *testing.T) {
	s := newSampler(with(func(p *sampling) { p.temperature = 0 }), nil)
	if id := s.sample([]float32{1, 7, 3, 7, 7}, nil, &scratch{}); id != 1 {
		t.Fatalf("chose %d, want 1", id)
	}
	if id := s.sample([]float32{1, 7, 3, 7, 7}, []uint32{1}, &scratch{}); id != 3 {
		t.Fatalf("with 1 banned chose %d, want 3", id)
	}
}

// allowed is the naive reading of min_p, top_k and top_p: which tokens may be drawn.
func allowed(p sampling, logits []float32) map[uint32]bool {
	type tok struct {
		id uint32
		w  float64
	}
	best := float64(slices.Max(logits))
	var toks []tok
	for i, l := range logits {
		if w := math.Exp((float64(l) - best) / p.temperature); w >= p.minP {
			toks = append(toks, tok{uint32(i), w})
		}
	}
	slices.SortStableFunc(toks, func(a, b tok) int {
		switch {
		case a.w > b.w:
			return -1
		case a.w < b.w:
			return 1
		}
		return 0
	})
	if p.topK > 0 && p.topK < len(toks) {
		toks = toks[:p.topK]
	}
	total := 0.0
	for _, x := range toks {
		total += x.w
	}
	ok, sum := map[uint32]bool{}, 0.0
	for _, x := range toks {
		// A hair's breadth: sums in another order differ in the last bits.
		if sum >= p.topP*total*(1+1e-12) {
			break
		}
		ok[x.id] = true
		sum += x.w
	}
	return ok
}

func TestDrawsOnlyWhatTopKTopPAndMinPAllow(t *testing.T) {
	rng := trial.Rand(t)
	var w scratch
	for range 300 {
		logits := randomLogits(rng, 1+rng.IntN(60))
		p := with(func(p *sampling) {
			p.temperature = 0.3 + rng.Float64()*2
			p.topK = rng.IntN(12)
			p.topP = 0.05 + rng.Float64()*0.95
			p.minP = rng.Float64() * rng.Float64() * 0.5
			p.seed = rng.Uint64()
		})
		ok := allowed(p, logits)
		s := newSampler(p, nil)
		drawn := map[uint32]bool{}
		for range 200 {
			id := s.sample(logits, nil, &w)
			if !ok[id] {
				t.Fatalf("%+v drew %d, which is not in %v of %v", p, id, ok, logits)
			}
			drawn[id] = true
		}
		if len(ok) <= 3 && p.temperature > 1 && p.minP == 0 && len(drawn) != len(ok) {
			t.Fatalf("%+v drew only %v of %v", p, drawn, ok)
		}
	}
}

func TestDrawsFollowTheProbabilities(t *testing.T) {
	logits := []float32{float32(math.Log(1)), float32(math.Log(3)), float32(math.Log(6))}
	for _, topK := range []int{0, 2} { // in id order, and through the heap
		s := newSampler(with(func(p *sampling) { p.seed, p.topK = 42, topK }), nil)
		var n [3]int
		const draws = 20000
		for range draws {
			n[s.sample(logits, nil, &scratch{})]++
		}
		want := [3]float64{.1, .3, .6}
		if topK == 2 {
			want = [3]float64{0, 1. / 3, 2. / 3}
		}
		for i := range n {
			if got := float64(n[i]) / draws; math.Abs(got-want[i]) > .02 {
				t.Errorf("top_k %d: token %d was drawn %.3f of the time, want %.3f", topK, i, got, want[i])
			}
		}
	}
}

func TestSameSeedSameDraws(t *testing.T) {
	rng := trial.Rand(t)
	p := with(func(p *sampling) { p.seed, p.topP, p.presence = rng.Uint64(), .9, .5 })
	a, b := newSampler(p, nil), newSampler(p, nil)
	p.seed++
	other, differs := newSampler(p, nil), false
	var wa, wb scratch
	for range 100 {
		logits := randomLogits(rng, 50)
		x := a.sample(logits, nil, &wa)
		if y := b.sample(logits, nil, &wb); x != y {
			t.Fatalf("drew %d and %d", x, y)
		}
		differs = differs || other.sample(logits, nil, &wb) != x
	}
	if !differs {
		t.Error("another seed drew the same")
	}
}

func TestPenaltiesAndBias(t *testing.T) {
	greedy := func(change func(*sampling), prompt []uint32) *sampler {
		return newSampler(with(func(p *sampling) { p.temperature = 0; change(p) }), prompt)
	}
	draws := func(s *sampler, n int, logits ...float32) (ids []uint32) {
		for range n {
			ids = append(ids, s.sample(logits, nil, &scratch{}))
		}
		return ids
	}
	for _, c := range []struct {
		name string
		s    *sampler
		want []uint32
	}{
		{"none", greedy(func(*sampling) {}, nil), []uint32{0, 0, 0}},
		{"presence counts once", greedy(func(p *sampling) { p.presence = 1.5 }, nil), []uint32{0, 1, 0}},
		{"frequency counts each time", greedy(func(p *sampling) { p.frequency = 1.5 }, nil), []uint32{0, 1, 0}},
		{"repetition sees the prompt", greedy(func(p *sampling) { p.repetition = 2 }, []uint32{0}), []uint32{1, 0, 0}},
		{"bias", greedy(func(p *sampling) { p.bias = map[uint32]float32{2: 10} }, nil), []uint32{2, 2, 2}},
	} {
		if got := draws(c.s, 3, 4, 3, -1); !slices.Equal(got, c.want) {
			t.Errorf("%s: drew %v, want %v", c.name, got, c.want)
		}
	}
}

func TestLogprobsAreANormalisedDistribution(t *testing.T) {
	rng := trial.Rand(t)
	for range 100 {
		logits := randomLogits(rng, 2+rng.IntN(50))
		top := rng.IntN(len(logits) + 1)
		r := logprobsOf(logits, 1, top)
		if len(r.top) != top {
			t.Fatalf("%d of %d alternatives", len(r.top), top)
		}
		order := make([]uint32, len(logits))
		sum := 0.0
		for i := range logits {
			order[i] = uint32(i)
			sum += math.Exp(logprobsOf(logits, uint32(i), 0).chosen.logprob)
		}
		if math.Abs(sum-1) > 1e-9 {
			t.Fatalf("probabilities add up to %v", sum)
		}
		slices.SortStableFunc(order, func(a, b uint32) int { return int(4 * (logits[b] - logits[a])) })
		for i, x := range r.top {
			if x.id != order[i] {
				t.Fatalf("alternative %d is %d, want %d of %v", i, x.id, order[i], logits)
			}
		}
	}
	if l := logprobsOf([]float32{0, float32(math.Inf(-1))}, 1, 0).chosen.logprob; l != leastLogprob {
		t.Errorf("an impossible token has logprob %v, which JSON must be able to hold", l)
	}
}

func BenchmarkSampleTopP(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 1))
	logits := make([]float32, 49152)
	for i := range logits {
		logits[i] = float32(rng.NormFloat64() * 3)
	}
	s := newSampler(with(func(p *sampling) { p.topP = .9 }), nil)
	var w scratch
	for b.Loop() {
		s.sample(logits, nil, &w)
	}
}
