package router

import (
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// fleetOf is n workers as a gateway sees them: all hold a system prompt, one in
// ten some of the conversation, in any tier, and all are busy.
func fleetOf(n int, rng *rand.Rand) []Candidate {
	cs := make([]Candidate, n)
	for i := range cs {
		c := &cs[i]
		*c = Candidate{Worker: kv.WorkerID(fmt.Sprint("worker-", i)), Rates: h200}
		c.Rates.BlockBytes = 16 * 128 << 10
		for t := kv.CPU; t < kv.NumTiers; t++ {
			c.Rates.Links[t] = Link{LatencyMS: 0.5, BytesPerMS: 1e7 * rng.Float64(), QueuedBytes: int64(rng.IntN(2) << 24)}
		}
		c.Load = Load{QueuedPrefillMS: 100 * rng.Float64(), Running: rng.IntN(30), Waiting: rng.IntN(3), FreeKVShare: rng.Float64()}
		c.Spans = []kv.Span{{Blocks: 20, Tiers: kv.Tiers(kv.GPU)}}
		if i%10 == 0 {
			c.Spans = append(c.Spans, kv.Span{Blocks: 1 + rng.IntN(100), Tiers: kv.TierSet(1 + rng.IntN(31))},
				kv.Span{Blocks: 1 + rng.IntN(60), Tiers: kv.TierSet(2 + 2*rng.IntN(15))})
		}
	}
	return cs
}

func BenchmarkDecide(b *testing.B) {
	for _, n := range []int{8, 100, 1000} {
		for _, name := range []string{"predicted", "dynamo"} {
			b.Run(fmt.Sprintf("%s/workers=%d", name, n), func(b *testing.B) {
				cs := fleetOf(n, rand.New(rand.NewPCG(1, 2)))
				p, _ := NewPolicy(name, 1)
				r := Request{ID: "r", Tokens: 3000, BlockSize: 16}
				var d Decision
				b.ReportAllocs()
				before := cpuTime()
				for b.Loop() {
					p.DecideInto(&d, &r, cs)
				}
				b.ReportMetric(float64(cpuTime()-before)/1000/float64(b.N), "cpu-us/op")
			})
		}
	}
}

// cpuTime is what the process has used, in nanoseconds: on a machine that does
// other things too it says more than the clock.
func cpuTime() int64 {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return u.Utime.Nano() + u.Stime.Nano()
}

// TestDecidingAllocatesNothing once the decision's memory has grown.
func TestDecidingAllocatesNothing(t *testing.T) {
	cs := fleetOf(100, rand.New(rand.NewPCG(seed(t), 1)))
	for _, name := range Policies() {
		p, _ := NewPolicy(name, 1)
		r := Request{ID: "r", Tokens: 3000, BlockSize: 16}
		var d Decision
		if n := testing.AllocsPerRun(100, func() { p.DecideInto(&d, &r, cs) }); n != 0 {
			t.Errorf("%s: %v allocations a decision", name, n)
		}
	}
}
