package router

import (
	"encoding/json"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// randomFleet has workers of all roles, some of them equal.
func randomFleet(rng *rand.Rand) []Candidate {
	cs := make([]Candidate, 1+rng.IntN(12))
	for i := range cs {
		cs[i] = randomCandidate(rng, i)
		if i > 0 && rng.IntN(4) == 0 {
			worker := cs[i].Worker
			cs[i] = cs[rng.IntN(i)]
			cs[i].Worker = worker
		}
		cs[i].Role = kv.Role(rng.IntN(3))
		cs[i].Adapter = Adapter(rng.IntN(3))
		cs[i].Rates.AdapterLoadMS = 100 * rng.Float64()
		if rng.IntN(4) > 0 {
			cs[i].Rates.Handoff = Link{LatencyMS: rng.Float64(), BytesPerMS: math.Exp(10 + 3*rng.NormFloat64()), QueuedBytes: int64(rng.IntN(2)) << 25}
		}
	}
	return cs
}

// TestSplitsAgainstAllPairs: no pair of a prefill and a decode worker, and no
// worker alone, is better than the one chosen.
func TestSplitsAgainstAllPairs(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	splits := 0
	for range 5000 {
		r, cs := randomRequest(rng), randomFleet(rng)
		p, _ := NewPolicy("predicted", rng.Uint64())
		d := p.Decide(r, cs)
		best := math.Inf(1)
		q := newQuery(&r, cs)
		for i := range cs {
			if cs[i].Role != kv.Prefill {
				best = min(best, d.Estimates[i].ScoreMS)
			}
			for j := range cs {
				if cs[j].Role == kv.Prefill && cs[i].takesHandoff() {
					best = min(best, pairScore(&q, &cs[i], &d.Estimates[j]))
				}
			}
		}
		if d.Chosen < 0 {
			if !math.IsInf(best, 1) {
				t.Fatalf("%+v: none chosen, there is one of %g ms", cs, best)
			}
			continue
		}
		if got := d.Estimates[d.Chosen].ScoreMS; math.Abs(got-best) > 1e-9*best {
			t.Fatalf("%+v\n%+v: chose one of %g ms, there is one of %g ms", r, cs, got, best)
		}
		if d.Estimates[d.Chosen].Split != nil {
			splits++
		}
	}
	if splits == 0 {
		t.Error("no split was ever the best: the test shows nothing")
	}
}

// pairScore is a pair's score by its definition: the prompt is computed, then
// what the decode worker lacks is sent, and it starts when it is free.
func pairScore(q *query, c *Candidate, first *Estimate) float64 {
	held := 0
	for _, set := range blockwise(c.Spans) {
		if !set.Has(kv.GPU) {
			break
		}
		held++
	}
	h := c.Rates.Handoff
	transfer := h.LatencyMS + (float64(h.QueuedBytes)+float64(max(0, q.blocks-held)*c.Rates.BlockBytes))/h.BytesPerMS
	step := c.Rates.PrefillMS(1, q.Tokens)
	return max(first.TTFTMS+transfer, c.Load.QueuedPrefillMS) + step + first.HarmMS + harm(q, c, step)
}

// TestSplitsAddUp under every policy, and what is printed of them can be read
// back and repeated (law 8).
func TestSplitsAddUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	for range 500 {
		r, cs := randomRequest(rng), randomFleet(rng)
		for _, name := range Policies() {
			p, _ := NewPolicy(name, rng.Uint64())
			d := p.Decide(r, cs)
			for i := range d.Estimates {
				e := &d.Estimates[i]
				if e.TTFTMS != e.QueueMS+e.RestoreMS+e.AdapterMS+e.PrefillMS+e.TransferMS || e.ScoreMS != e.TTFTMS+e.HarmMS {
					t.Fatalf("%s: %+v does not add up", name, e)
				}
				s := e.Split
				if (s != nil) != (i >= len(cs)) {
					t.Fatalf("%s: estimate %d for %d candidates: %+v", name, i, len(cs), e)
				}
				if s == nil {
					continue
				}
				leg := &d.Estimates[s.leg]
				if leg.Worker != s.Prefill || cs[s.leg].Role != kv.Prefill || e.QueueMS != leg.QueueMS+s.WaitMS ||
					e.PrefillMS != leg.PrefillMS+s.StepMS || e.HarmMS != leg.HarmMS+s.HarmMS || e.RestoreMS != leg.RestoreMS {
					t.Fatalf("%s: %+v is not %+v and %+v", name, e, leg, s)
				}
			}
			if d.Chosen >= 0 && d.Chosen < len(cs) && cs[d.Chosen].Role == kv.Prefill {
				t.Fatalf("%s sends a whole request to a prefill worker", name)
			}
			checkRepeats(t, r, cs, d)
		}
	}
}

// checkRepeats is law 8 for one decision, through JSON.
func checkRepeats(t *testing.T, r Request, cs []Candidate, d Decision) {
	t.Helper()
	record, err := json.Marshal(map[string]any{"r": r, "cs": cs, "d": d})
	if err != nil {
		t.Fatal(err)
	}
	var back struct {
		R  Request
		CS []Candidate
		D  Decision
	}
	if err := json.Unmarshal(record, &back); err != nil {
		t.Fatal(err)
	}
	again, err := NewPolicy(back.D.Policy, back.D.Seed)
	if err != nil {
		t.Fatal(err)
	}
	got := again.Decide(back.R, back.CS)
	if got.Chosen != d.Chosen || back.D.Chosen != d.Chosen || !reflect.DeepEqual(got.Estimates, d.Estimates) || got.Why != d.Why {
		t.Fatalf("again:\n%+v\nwas\n%+v\nread back:\n%+v", got, d, back.D)
	}
}

// TestLegsAreLoadsOfTheirOwn: booked apart, they are the whole's load.
func TestLegsAreLoadsOfTheirOwn(t *testing.T) {
	cs := []Candidate{{Worker: "p", Role: kv.Prefill, Rates: h200}, {Worker: "d", Role: kv.Decode, Rates: h200, Load: Load{Running: 20}}}
	cs[1].Rates.BlockBytes, cs[1].Rates.Handoff = 2<<20, Link{BytesPerMS: 5e7}
	p, _ := NewPolicy("predicted", 1)
	d := p.Decide(Request{ID: "r", Tokens: 8000, BlockSize: 16}, cs)
	first := d.PrefillLeg()
	if first == nil || first.Worker != "p" || d.Worker() != "d" {
		t.Fatalf("%+v", d)
	}
	second := d.Estimates[d.Chosen].DecodeLeg()
	whole := d.Estimates[d.Chosen]
	if second.Worker != "d" || second.ComputeTokens != 1 || math.Abs(first.TTFTMS+second.TTFTMS-whole.TTFTMS) > 1e-9 || math.Abs(first.HarmMS+second.HarmMS-whole.HarmMS) > 1e-9 {
		t.Errorf("%+v\n%+v\n%+v", first, second, whole)
	}
}

func BenchmarkDecideSplit(b *testing.B) {
	cs := fleetOf(1000, rand.New(rand.NewPCG(1, 2)))
	for i := range cs {
		cs[i].Role = kv.Role(1 + i%2)
		cs[i].Rates.Handoff = Link{BytesPerMS: 5e7}
	}
	p, _ := NewPolicy("predicted", 1)
	r := Request{ID: "r", Tokens: 3000, BlockSize: 16}
	var d Decision
	b.ReportAllocs()
	for b.Loop() {
		p.DecideInto(&d, &r, cs)
	}
}
