package e2e

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

// TestVLLMSoak, by hand (make soak-vllm): mixed traffic on two real engines with
// Kvasir's tiers below them, of which one is killed and started again every
// KVASIR_KILL_EVERY (2m), for as long as KVASIR_SOAK says. No request fails; the
// index agrees with an engine that came back within two seconds; memory is flat.
func TestVLLMSoak(t *testing.T) {
	length, err := time.ParseDuration(os.Getenv("KVASIR_SOAK"))
	if err != nil {
		t.Skip("by hand: make soak-vllm")
	}
	every := 2 * time.Minute
	if d, err := time.ParseDuration(os.Getenv("KVASIR_KILL_EVERY")); err == nil {
		every = d
	}
	f, dir := startVLLMWithPlugin(t)
	var both []*tiered
	for _, id := range []string{"w0", "w1"} {
		s := newTiered(t, f, dir, id, 0, withConnector)
		s.startAgent(inMemory, lending, s.onDisk())
		both = append(both, s)
	}
	f.up(both[0].e, both[1].e)
	g := serveTiered(t, both...)
	load := &soak{g: g, model: "tiny", seed: trial.Seed(t)}

	ctx, cancel := context.WithTimeout(t.Context(), length)
	defer cancel()
	var wg sync.WaitGroup
	for i := range trial.Size(t, "KVASIR_CLIENTS", 6) {
		wg.Go(func() { load.client(ctx, i) })
	}
	var samples []sampled
	wg.Go(func() { samples = load.sample(ctx) })
	for n := 0; wait(ctx, every); n++ {
		s := both[n%2]
		f.kill(s.e)
		f.run(s.e)
		f.await(s.e)
		took := s.agreesAgain(t)
		t.Logf("%s was killed; the index agreed with it %v after it answered again", s.id, took.Round(time.Millisecond))
		if took > 2*time.Second {
			t.Errorf("%s: %v; want 2 s", s.id, took)
		}
	}
	wg.Wait()

	t.Logf("%d requests in %v, %d of them broken off, %d refused as they should be, %d failed",
		load.served.Load(), length, load.brokenOff.Load(), load.refused.Load(), len(load.errors))
	for _, e := range load.errors {
		t.Error(e)
	}
	load.checkFlat(t, samples)
	for _, s := range both {
		agent := &soak{g: gateway{process: s.agent}}
		t.Logf("RSS of %s: %d MiB", s.agent.name, agent.rss()>>20)
	}
	if n := load.metric("kvasir_gateway_in_flight"); n != 0 {
		t.Errorf("%v requests are still in flight", n)
	}
}

// wait waits for a while; false if ctx ends meanwhile, or would soon after.
func wait(ctx context.Context, d time.Duration) bool {
	end, _ := ctx.Deadline()
	if time.Until(end) < d {
		<-ctx.Done()
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}

// agreesAgain has the engine compute prompts that the gateway does not see, until
// the gateway knows of one what the engine reports. It returns how long that took.
func (s *tiered) agreesAgain(t *testing.T) time.Duration {
	t.Helper()
	began := time.Now()
	for i := 0; ; i++ {
		body := prompt(essay(fmt.Sprint("probe ", began.UnixNano(), " ", i), 100), 1)
		asked := time.Now()
		got, err := s.e.complete(body)
		if err != nil {
			t.Fatal(err)
		}
		for time.Since(asked) < 500*time.Millisecond {
			if c := s.candidate(t, body); c.held("gpu") == got.prompt/32 {
				return time.Since(began)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if time.Since(began) > time.Minute {
			t.Fatalf("the gateway does not know what %s computes: %s", s.id, strings.Join(s.g.lines, "\n"))
		}
	}
}
