package gateway

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http/httptest"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/discovery"
)

// seed is KVASIR_SEED or a random one, which the log shows.
func seed(t testing.TB) uint64 {
	s := rand.Uint64()
	if v := os.Getenv("KVASIR_SEED"); v != "" {
		var err error
		if s, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("KVASIR_SEED: %v", err)
		}
	}
	t.Logf("KVASIR_SEED=%d", s)
	return s
}

// TestLiveDecisionsRepeat is law 8: what a live gateway decided, with whatever
// its workers held and however busy they were, is decided again from the record
// that the admin surface shows.
func TestLiveDecisionsRepeat(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	for _, name := range router.Policies() {
		s := newSetting(t, 3, func(c *Config) {
			var err error
			if c.Policy, err = router.NewPolicy(name, rng.Uint64()); err != nil {
				t.Fatal(err)
			}
		})
		for i := range 12 {
			text := strings.Repeat("abcdefgh", 1+rng.IntN(20))
			s.holds(fmt.Sprint("w", rng.IntN(3)), kv.Tier(rng.IntN(3)), "user:"+text+";assistant:", 1+rng.IntN(2))
			body := fmt.Sprintf(`{"model":"m","stream":%v,"messages":[{"role":"user","content":"%s"}]}`, i%2 == 0, text)
			id := s.post("/v1/chat/completions", body).header.Get("X-Request-Id")
			s.record(id)
			var r Record
			if err := json.Unmarshal(s.get("/kvasir/v1/decisions/"+id).body, &r); err != nil {
				t.Fatal(err)
			}
			if r.LeftOut > 0 || len(r.Candidates) < 2 || r.RunnerUp == "" || r.RunnerUp == r.Chosen || r.Cut == nil {
				t.Fatalf("%s: the record is not whole: %+v", name, r)
			}
			if err := r.Replay(); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			r.Candidates[0].Inputs.Load.QueuedPrefillMS += 100
			if r.Replay() == nil {
				t.Errorf("%s: a record that was changed is decided the same", name)
			}
		}
	}
}

// TestAskingChangesNothing: explain says what the next request will get, however
// often it is asked.
func TestAskingChangesNothing(t *testing.T) {
	s := newSetting(t, 4, func(c *Config) { c.Policy, _ = router.NewPolicy("random", 7) })
	for range 10 {
		var asked, again Record
		for _, r := range []*Record{&asked, &again} {
			if err := json.Unmarshal(s.post("/kvasir/v1/explain", chatBody).body, r); err != nil {
				t.Fatal(err)
			}
		}
		sent := s.record(s.post("/v1/chat/completions", chatBody).header.Get("X-Request-Id"))
		if asked.Chosen != sent.Chosen || again.Chosen != sent.Chosen || asked.Seed != sent.Seed || asked.Chosen == "" {
			t.Fatalf("asked: %s (seed %d), then %s, sent: %s (seed %d)", asked.Chosen, asked.Seed, again.Chosen, sent.Chosen, sent.Seed)
		}
	}
	s.booksClosed()
}

// TestSessionsGoWhereTheyWent under the policy that goes by them.
func TestSessionsGoWhereTheyWent(t *testing.T) {
	s := newSetting(t, 4, func(c *Config) { c.Policy, _ = router.NewPolicy("session-hash", 1) })
	used := map[string]bool{}
	for _, session := range []string{"anna", "ben", "carla", "dora", "emil", "frieda"} {
		first := ""
		for range 4 {
			r := s.post("/v1/chat/completions", chatBody, "X-Session-Id", session)
			switch w := r.header.Get("X-Kvasir-Worker"); first {
			case "":
				first = w
			case w:
			default:
				t.Errorf("%s went to %s, then to %s", session, first, w)
			}
			s.record(r.header.Get("X-Request-Id")) // an open request could move the next one
		}
		used[first] = true
	}
	if len(used) < 2 {
		t.Errorf("all sessions went to one worker")
	}
}

// TestRecordsAreSampled when they would not fit: then one in some is whole, and
// the others still hold the choice and the runner-up.
func TestRecordsAreSampled(t *testing.T) {
	rs := newRecords(4096)
	for workers, every := range map[int]int{1: 1, 16: 1, 17: 2, 1000: 63} {
		rs.decided.Store(0)
		whole := 0
		for range every * 10 {
			if rs.whole(workers) {
				whole++
			}
		}
		if whole != 10 {
			t.Errorf("%d workers: %d of %d decisions were kept whole, want 10", workers, whole, every*10)
		}
	}
	cs := make([]router.Candidate, 100)
	for i := range cs {
		cs[i] = router.Candidate{Worker: kv.WorkerID(fmt.Sprint("w", i)), Rates: DefaultRates, Load: router.Load{QueuedPrefillMS: float64((i*37 + 5) % 100)}}
	}
	p, _ := router.NewPolicy("predicted", 1)
	req := router.Request{ID: "r", Tokens: 100, BlockSize: 16}
	d := p.Decide(req, cs)
	var r Record
	r.decided(&req, cs, &d, false)
	if r.LeftOut != 98 || len(r.Candidates) != 2 || r.winner() == nil || r.Replay() == nil {
		t.Fatalf("%+v", r)
	}
	var whole Record
	whole.decided(&req, cs, &d, true)
	if err := whole.Replay(); err != nil {
		t.Error(err)
	}
	for _, c := range whole.Candidates {
		if c.Worker != r.Chosen && c.Worker != r.RunnerUp && c.ScoreMS < r.Candidates[1].ScoreMS && c.ScoreMS < r.Candidates[0].ScoreMS {
			t.Errorf("%s is better than the two kept", c.Worker)
		}
	}
	if !reflect.DeepEqual(r.winner(), whole.winner()) {
		t.Errorf("kept: %+v, whole: %+v", r.winner(), whole.winner())
	}
}

// newFleetOf is a gateway in front of n workers that are one engine in truth,
// all of which hold the first blocks of the prompt.
func newFleetOf(b testing.TB, n int) (*Gateway, *exchange) {
	engine := newStandIn(b, "engine")
	index := prefixindex.New(prefixindex.Options{})
	infos := make([]workers.Info, n)
	for i := range infos {
		infos[i] = workers.Info{ID: kv.WorkerID(fmt.Sprint("worker-", i)), URL: engine.URL, Model: "m", BlockSize: 16, Engine: "vllm"}
	}
	fleet := workers.NewFleet(workers.FleetConfig{Sources: []workers.Source{discovery.Static(infos...)}, Sink: index, HealthInterval: time.Hour, StatsInterval: time.Hour})
	policy, _ := router.NewPolicy("predicted", 1)
	g, err := New(Config{Fleet: fleet, Index: index, Policy: policy, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = fleet.Run(ctx)
	}()
	b.Cleanup(func() {
		stop()
		<-done
		g.Close()
	})
	eventually(b, "all workers ready", func() bool { return len(g.serving("m", nil)) == n })

	x := &exchange{g: g, r: httptest.NewRequest("POST", "/", nil), id: "r", ctx: ctx, q: &inference{model: "m"}, entry: &entry{}}
	x.prompt = &promptTokens{tokens: make([]uint32, 3000), total: 3000}
	x.prompt.chain("m", "", 16)
	for i, info := range infos {
		index.Apply(info.ID, kv.Event{Kind: kv.Stored, Tier: kv.GPU, Parent: x.prompt.root, Hashes: x.prompt.hashes[:20]})
		if i%10 == 0 {
			index.Apply(info.ID, kv.Event{Kind: kv.Stored, Tier: kv.CPU, Parent: x.prompt.hashes[19], Hashes: x.prompt.hashes[20 : 30+i%100]})
		}
		g.c.Calibration.ObservePrefill(info.ID, 1000, 1000, 100, 0)
		g.c.Calibration.SetBlockBytes(info.ID, 1<<20)
		g.c.Calibration.SetLink(info.ID, kv.CPU, router.Link{BytesPerMS: 1e7})
		g.ledger.Add(fmt.Sprint("other", i), info.ID, router.Estimate{PrefillMS: 50}, time.Now())
	}
	return g, x
}

// BenchmarkChoose is what a gateway does for a decision while it holds up others:
// loads, rates, links, prices, the choice.
func BenchmarkChoose(b *testing.B) {
	benchmarkFleet(b, func(b *testing.B, g *Gateway, x *exchange) func() {
		ready, err := x.candidates()
		if err != nil {
			b.Fatal(err)
		}
		var ws workspace
		g.c.Index.Match(&ws.matches, x.prompt.hashes)
		req := router.Request{ID: x.id, Tokens: x.prompt.total, BlockSize: 16}
		return func() { g.choose(&ws, &req, nil, ready, g.c.Policy, nil) }
	})
}

// BenchmarkPlace is all of it once the prompt is hashed: candidates, index,
// choice, booking and release, metrics and record.
func BenchmarkPlace(b *testing.B) {
	benchmarkFleet(b, func(b *testing.B, g *Gateway, x *exchange) func() {
		return func() {
			_, booked, err := x.place()
			if err != nil {
				b.Fatal(err)
			}
			booked.assumed.Stop()
			booked.release()
		}
	})
}

func benchmarkFleet(b *testing.B, of func(*testing.B, *Gateway, *exchange) func()) {
	for _, n := range []int{8, 100, 1000} {
		b.Run(fmt.Sprintf("workers=%d", n), func(b *testing.B) {
			g, x := newFleetOf(b, n)
			step := of(b, g, x)
			step() // what grows once has grown
			b.ReportAllocs()
			before := cpuTime()
			for b.Loop() {
				step()
			}
			b.ReportMetric(float64((cpuTime()-before).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
		})
	}
}

// TestChoosingAllocatesNothing once the workspace has grown.
func TestChoosingAllocatesNothing(t *testing.T) {
	g, x := newFleetOf(t, 20)
	ready, err := x.candidates()
	if err != nil {
		t.Fatal(err)
	}
	var ws workspace
	g.c.Index.Match(&ws.matches, x.prompt.hashes)
	req := router.Request{ID: x.id, Tokens: x.prompt.total, BlockSize: 16}
	choose := func() { g.choose(&ws, &req, nil, ready, g.c.Policy, nil) }
	choose()
	if n := testing.AllocsPerRun(100, choose); n != 0 {
		t.Errorf("%v allocations a choice", n)
	}
}
