package embedded

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm"
)

// The tests of this file hold the engine to its first invariant: greedy output
// is the same to the last token however the KV came to be.

// evict pushes everything out of the pages by computing other prompts.
func (e *testEngine) evict(hashes []kv.Hash) {
	e.t.Helper()
	rng := trial.Rand(e.t)
	trial.Await(e.t, "the prompt's blocks are below the gpu, too", func() bool {
		below := 0
		for _, span := range e.Manager().Lookup(hashes) {
			if span.Tiers.Has(kv.CPU) || span.Tiers.Has(kv.Disk) {
				below += span.Blocks
			}
		}
		return below == len(hashes)
	})
	for range 40 {
		if in := e.Manager().Lookup(hashes[:1]); len(in) == 0 || !in[0].Tiers.Has(kv.GPU) {
			return
		}
		e.complete(randomPrompt(rng, 200), 1, nil)
		// Its answer is out before its pages are let go, and what is restored next
		// is what there are pages for.
		trial.Await(e.t, "the pages are let go", func() bool { return e.Manager().Stats().Tiers[kv.GPU].Leased == 0 })
	}
	e.t.Fatal("the prompt's blocks do not leave the pages")
}

func TestGreedyIsTheSameComputedReusedAndRestored(t *testing.T) {
	rng := trial.Rand(t)
	prompt := randomPrompt(rng, 203)
	reusable := 203 / blockSize * blockSize
	const tokens = 24
	cold := start(t, nil).complete(prompt, tokens, nil)
	if cold.cached != 0 || len(cold.tokens) != tokens || cold.finish != "length" {
		t.Fatalf("cold: %+v", cold)
	}
	distinct := slices.Clone(cold.tokens)
	slices.Sort(distinct)
	if len(slices.Compact(distinct)) < 4 {
		t.Fatalf("the output %v is too dull to prove anything", cold.tokens)
	}
	same := func(t *testing.T, got outcome, cached int) {
		t.Helper()
		if !slices.Equal(got.tokens, cold.tokens) {
			t.Errorf("tokens\n%v, cold run\n%v", got.tokens, cold.tokens)
		}
		if got.cached != cached || got.usage.PromptTokens != 203 || got.usage.CompletionTokens != tokens {
			t.Errorf("usage %+v, want %d cached", got.usage, cached)
		}
	}
	t.Run("reused", func(t *testing.T) {
		e := start(t, nil)
		same(t, e.complete(prompt, tokens, nil), 0)
		same(t, e.complete(prompt, tokens, nil), reusable)
	})
	t.Run("half reused", func(t *testing.T) {
		e := start(t, nil)
		e.complete(prompt[:100], 1, nil)
		same(t, e.complete(prompt, tokens, nil), 100/blockSize*blockSize)
	})
	for name, tiers := range map[string]kvbm.Config{
		"from cpu":                    {CPUBytes: 64 << 20},
		"from disk":                   {Disk: kvbm.DiskConfig{Paths: []string{t.TempDir()}, Bytes: 64 << 20}},
		"from disk through small cpu": {CPUBytes: 800 << 10, Disk: kvbm.DiskConfig{Paths: []string{t.TempDir()}, Bytes: 64 << 20}},
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, func(c *Config) { c.GPUBlocks, c.Tiers = 24, tiers })
			same(t, e.complete(prompt, tokens, nil), 0)
			e.evict(hashesOf(prompt))
			same(t, e.complete(prompt, tokens, nil), reusable)
			if hits := e.metric("vllm:external_prefix_cache_hits_total"); hits == 0 {
				t.Error("no token is counted as restored")
			}
		})
	}
	for _, chunk := range []int{1, 7, 64, 512} {
		t.Run(fmt.Sprintf("chunks of %d", chunk), func(t *testing.T) {
			same(t, start(t, func(c *Config) { c.ChunkTokens = chunk }).complete(prompt, tokens, nil), 0)
		})
	}
}

// together completes all prompts at once.
func (e *testEngine) together(prompts [][]uint32, tokens int) []outcome {
	out := make([]outcome, len(prompts))
	var wg sync.WaitGroup
	for i, p := range prompts {
		wg.Go(func() { out[i] = e.complete(p, tokens, nil) })
	}
	wg.Wait()
	return out
}

func TestGreedyIsTheSameAloneInABatchAndPreempted(t *testing.T) {
	rng := trial.Rand(t)
	var prompts [][]uint32
	for range 16 {
		prompts = append(prompts, randomPrompt(rng, 20+rng.IntN(120)))
	}
	const tokens = 40
	alone := start(t, nil)
	var want []outcome
	for _, p := range prompts {
		want = append(want, alone.complete(p, tokens, nil))
	}
	for name, change := range map[string]func(*Config){
		"roomy":  func(*Config) {},
		"scarce": func(c *Config) { c.GPUBlocks, c.ChunkTokens = 16, 48 },
	} {
		t.Run(name, func(t *testing.T) {
			e := start(t, change)
			for i, got := range e.together(prompts, tokens) {
				if !slices.Equal(got.tokens, want[i].tokens) {
					t.Errorf("prompt %d: %v, alone %v", i, got.tokens, want[i].tokens)
				}
			}
			if n := e.metric("vllm:num_preemptions_total"); name == "scarce" && n == 0 {
				t.Error("nothing was preempted; the case proves nothing")
			}
		})
	}
}

func TestSaltsShareNothing(t *testing.T) {
	e, prompt := start(t, nil), randomPrompt(trial.Rand(t), 100)
	e.complete(prompt, 1, object{"cache_salt": "a"})
	for salt, want := range map[string]int{"": 0, "b": 0, "a": 96} {
		if got := e.complete(prompt, 1, object{"cache_salt": salt}).cached; got != want {
			t.Errorf("salt %q: %d cached tokens, want %d", salt, got, want)
		}
	}
}

func TestTheRoutersCutLimitsTheRestore(t *testing.T) {
	prompt := randomPrompt(trial.Rand(t), 100)
	e := start(t, func(c *Config) { c.GPUBlocks, c.Tiers = 24, kvbm.Config{CPUBytes: 64 << 20} })
	for cut, want := range map[string]int{"0": 0, "2": 32, "6": 96, "99": 96} {
		e.complete(prompt, 1, nil)
		e.evict(hashesOf(prompt))
		if got := e.complete(prompt, 1, nil, restoreHeader, cut).cached; got != want {
			t.Errorf("cut of %s blocks: %d cached tokens, want %d", cut, got, want)
		}
	}
	if status, _ := e.call("POST", "/v1/completions", object{"prompt": "x"}, restoreHeader, "-1"); status != http.StatusBadRequest {
		t.Errorf("a negative cut is answered %d", status)
	}
}

func TestTheRoutersCallJoinsTheEngines(t *testing.T) {
	prompt := randomPrompt(trial.Rand(t), 100)
	e := start(t, func(c *Config) { c.GPUBlocks, c.Tiers = 24, kvbm.Config{CPUBytes: 64 << 20} })
	e.complete(prompt, 1, nil)
	e.evict(hashesOf(prompt))
	hashes := hashesOf(prompt)[:4]
	root := kv.RootSpec{Model: "tiny", BlockSize: blockSize}.Hash()
	o := e.Manager().Onboard(context.Background(), kvbm.OnboardRequest{ID: "r1", Blocks: kv.Blocks(nil, root, hashes)})
	if r := o.Result(); r.Blocks[kv.CPU] != 4 {
		t.Fatalf("the router's call: %+v", r)
	}
	if got := e.complete(prompt, 1, nil, requestIDHeader, "r1", restoreHeader, "4").cached; got != 64 {
		t.Errorf("%d cached tokens, want 64", got)
	}
	trial.Await(t, "the restored blocks are let go", func() bool { return e.Manager().Stats().Tiers[kv.GPU].Leased == 0 })
}

func TestALateRestoreIsComputedInstead(t *testing.T) {
	prompt := randomPrompt(trial.Rand(t), 100)
	e := start(t, func(c *Config) {
		c.GPUBlocks, c.Tiers, c.RestoreTimeout = 24, kvbm.Config{CPUBytes: 64 << 20}, 1
	})
	want := e.complete(prompt, 10, nil)
	e.evict(hashesOf(prompt))
	if got := e.complete(prompt, 10, nil); got.cached != 0 || !slices.Equal(got.tokens, want.tokens) {
		t.Errorf("%d cached tokens after a nanosecond, tokens %v, want %v", got.cached, got.tokens, want.tokens)
	}
}

func TestARoutersCallThatComesLateHoldsNothingUp(t *testing.T) {
	e := start(t, func(c *Config) { c.GPUBlocks = 24 })
	other := randomPrompt(trial.Rand(t), 12*blockSize+1)
	e.complete(other, 1, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	resp := e.begin(ctx, bytesOf("more than half of the pages"), 19*blockSize, requestIDHeader, "late", restoreHeader, "1")
	defer resp.Body.Close()
	root := kv.RootSpec{Model: "tiny", BlockSize: blockSize}.Hash()
	e.Manager().Onboard(ctx, kvbm.OnboardRequest{ID: "late", Blocks: kv.Blocks(nil, root, hashesOf(other)), Hold: time.Hour})
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		t.Errorf("the running sequence did not get the pages: %v", err)
	}
	trial.Await(t, "the hold is given up", func() bool { return e.Manager().Stats().Tiers[kv.GPU].Leased == 0 })
}
