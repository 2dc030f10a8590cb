package router

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"reflect"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// randomCandidate is a worker with any holdings, load and rates.
func randomCandidate(rng *rand.Rand, i int) Candidate {
	c := Candidate{Worker: kv.WorkerID(fmt.Sprint("w", i)), Rates: h200}
	c.Rates.PrefillPerTokenMS *= math.Exp(3 * rng.NormFloat64())
	c.Rates.BlockBytes = rng.IntN(3) * 1 << 20
	for t := kv.CPU; t < kv.NumTiers; t++ {
		if rng.IntN(4) > 0 {
			c.Rates.Links[t] = Link{LatencyMS: rng.Float64() * 5, BytesPerMS: math.Exp(10 + 4*rng.NormFloat64()),
				QueuedBytes: int64(rng.IntN(4)) << 22}
		}
	}
	for range rng.IntN(5) {
		c.Spans = append(c.Spans, kv.Span{Blocks: 1 + rng.IntN(40), Tiers: kv.TierSet(1 + rng.IntN(1<<kv.NumTiers-1))})
	}
	c.Load = Load{Running: rng.IntN(10), Waiting: rng.IntN(5), FreeKVShare: rng.Float64()*1.2 - 0.2}
	if rng.IntN(2) == 0 {
		c.Load.QueuedPrefillMS = rng.Float64() * 300
	}
	return c
}

func randomRequest(rng *rand.Rand) Request {
	return Request{ID: "r", Tokens: 1 + rng.IntN(3000), BlockSize: 1 + rng.IntN(40)}
}

// TestEstimatesAddUp for every candidate under every policy, to the last bit.
func TestEstimatesAddUp(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	for range 2000 {
		r := randomRequest(rng)
		cs := make([]Candidate, 1+rng.IntN(6))
		for i := range cs {
			cs[i] = randomCandidate(rng, i)
		}
		for _, name := range Policies() {
			p, _ := NewPolicy(name, rng.Uint64())
			d := p.Decide(r, cs)
			if d.Chosen < 0 || d.Chosen >= len(cs) || len(d.Estimates) != len(cs) {
				t.Fatalf("%s chose %d of %d", name, d.Chosen, len(cs))
			}
			for i, e := range d.Estimates {
				addsUp(t, r, cs[i], e)
			}
		}
	}
}

func addsUp(t *testing.T, r Request, c Candidate, e Estimate) {
	t.Helper()
	if e.TTFTMS != e.QueueMS+e.RestoreMS+e.PrefillMS || e.ScoreMS != e.TTFTMS+e.HarmMS || e.Worker != c.Worker {
		t.Fatalf("%+v does not add up", e)
	}
	if diff := max(e.QueueMS, e.RestoreLinkMS) - (e.QueueMS + e.RestoreMS); math.Abs(diff) > 1e-9*max(1, e.RestoreLinkMS) {
		t.Fatalf("%+v: the restore is not hidden behind the queue", e)
	}
	if e.Blocks.Total() != e.Cut || e.Cut+e.RecomputeBlocks != (r.Tokens+r.BlockSize-1)/r.BlockSize {
		t.Fatalf("%+v: %d tokens in blocks of %d", e, r.Tokens, r.BlockSize)
	}
	if e.ComputeTokens < 1 || e.CachedTokens+e.ComputeTokens != r.Tokens {
		t.Fatalf("%+v: of %d tokens at least one must be computed", e, r.Tokens)
	}
	if e.Cut > held(c.Spans) {
		t.Fatalf("%+v: it holds only %d blocks", e, held(c.Spans))
	}
}

// TestBestCut: trying every cut finds none better.
func TestBestCut(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	for range 5000 {
		r, c := randomRequest(rng), randomCandidate(rng, 0)
		q := newQuery(&r, nil)
		got := bestCut(&q, &c)
		gotMS := max(c.Load.QueuedPrefillMS, got.restoreMS) + got.prefillMS
		for k := 0; k <= min(r.maxCut(), held(c.Spans)); k++ {
			restore, ok := restoreAll(&r, &c, k)
			if !ok {
				break
			}
			ms := max(c.Load.QueuedPrefillMS, restore) + c.Rates.PrefillMS(r.Tokens-k*r.BlockSize, r.Tokens)
			if ms < gotMS-1e-6*gotMS {
				t.Fatalf("%+v\n%+v\ncut at %d takes %g ms, at %d %g ms", r, c, got.cut, gotMS, k, ms)
			}
		}
	}
}

// restoreAll is what it takes to bring up the first k blocks: for each span the
// tier that does it soonest, the walk being the same whatever the cut.
func restoreAll(r *Request, c *Candidate, k int) (ms float64, ok bool) {
	var opened kv.TierSet
	left := r.maxCut()
	for _, s := range c.Spans {
		if k == 0 {
			break
		}
		n := min(s.Blocks, left)
		tier, ok := cheapest(&c.Rates, s.Tiers, n, opened)
		if !ok {
			return 0, false
		}
		take := min(n, k)
		if tier != kv.GPU {
			if !opened.Has(tier) {
				opened = opened.With(tier)
				ms += c.Rates.Links[tier].fixedMS()
			}
			ms += float64(take) * c.Rates.blockMS(tier)
		}
		k -= take
		left -= n
	}
	return ms, true
}

// TestDecisionsRepeat is law 8: a policy made from a decision's name and seed
// decides the same, through JSON too.
func TestDecisionsRepeat(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	for _, name := range Policies() {
		p, _ := NewPolicy(name, rng.Uint64())
		for range 300 {
			r := randomRequest(rng)
			cs := make([]Candidate, 1+rng.IntN(6))
			for i := range cs {
				cs[i] = randomCandidate(rng, rng.IntN(2)) // so that there are ties
				cs[i].Worker = kv.WorkerID(fmt.Sprint("w", i))
			}
			d := p.Decide(r, cs)
			record, err := json.Marshal(struct {
				Request    Request
				Candidates []Candidate
				Decision   Decision
			}{r, cs, d})
			if err != nil {
				t.Fatal(err)
			}
			var back struct {
				Request    Request
				Candidates []Candidate
				Decision   Decision
			}
			if err := json.Unmarshal(record, &back); err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(back.Decision, d) {
				t.Fatalf("through JSON:\n%+v\nbecomes\n%+v", d, back.Decision)
			}
			again, err := NewPolicy(back.Decision.Policy, back.Decision.Seed)
			if err != nil {
				t.Fatal(err)
			}
			if got := again.Decide(back.Request, back.Candidates); !reflect.DeepEqual(got, d) {
				t.Fatalf("again:\n%+v\nwas\n%+v", got, d)
			}
		}
	}
}

// TestTiesAreShared: equal workers get about equally many requests.
func TestTiesAreShared(t *testing.T) {
	p, _ := NewPolicy("predicted", seed(t))
	cs := make([]Candidate, 8)
	for i := range cs {
		cs[i] = Candidate{Worker: kv.WorkerID(fmt.Sprint("w", i)), Rates: h200}
	}
	counts := make([]int, len(cs))
	for range 8000 {
		counts[p.Decide(Request{ID: "r", Tokens: 100, BlockSize: 16}, cs).Chosen]++
	}
	for i, n := range counts {
		if n < 800 || n > 1200 {
			t.Errorf("worker %d got %d of 8000 requests", i, n)
		}
	}
}

func TestDecisionJSONNamesWhatExplainShows(t *testing.T) {
	p, _ := NewPolicy("predicted", 1)
	d := p.Decide(Request{ID: "r1", Tokens: 100, BlockSize: 16}, []Candidate{{Worker: "w0", Rates: h200,
		Spans: []kv.Span{{Blocks: 2, Tiers: kv.Tiers(kv.GPU)}}}})
	b, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(b, &got); err != nil {
		t.Fatal(err)
	}
	if got["request_id"] != "r1" || got["chosen"] != "w0" {
		t.Errorf("%s", b)
	}
	c := got["candidates"].([]any)[0].(map[string]any)
	for _, name := range []string{"worker", "queue_ms", "restore_ms", "prefill_ms", "ttft_ms", "harm_ms", "score_ms", "blocks", "recompute_blocks"} {
		if _, ok := c[name]; !ok {
			t.Errorf("no %s in %s", name, b)
		}
	}
	if fmt.Sprint(c["blocks"]) != "map[cpu:0 disk:0 gpu:2 peer:0 redis:0]" {
		t.Errorf("blocks are %v", c["blocks"])
	}
}

func TestNoCandidates(t *testing.T) {
	for _, name := range Policies() {
		p, _ := NewPolicy(name, 1)
		if d := p.Decide(Request{Tokens: 1, BlockSize: 16}, nil); d.Chosen != -1 || d.Worker() != "" {
			t.Errorf("%s: %+v", name, d)
		}
	}
	if _, err := NewPolicy("fastest", 0); err == nil {
		t.Error("no error for an unknown policy")
	}
}

// Rates of a fresh worker may have no slope yet: computing less gains nothing
// then. The engine reuses what it holds all the same.
func TestWhatIsThereIsReusedWhateverTheRatesSay(t *testing.T) {
	c := Candidate{Worker: "a", Rates: Rates{PrefillBaseMS: 15}, Load: Load{FreeKVShare: 1}, Spans: []kv.Span{{Blocks: 5, Tiers: kv.Tiers(kv.GPU)}}}
	var e Estimate
	q := newQuery(&Request{ID: "r", Tokens: 100, BlockSize: 10}, nil)
	estimate(&e, &q, &c)
	if e.Cut != 5 || e.CachedTokens != 50 {
		t.Errorf("cut %d, %d tokens cached; want 5 and 50", e.Cut, e.CachedTokens)
	}
}
