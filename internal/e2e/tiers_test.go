package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
)

// tierWalk is one station of must show c: the tier that a conversation comes
// back from, and the set-up in which it can come from nowhere else.
type tierWalk struct {
	tier string
	env  func(t *testing.T) []string
}

// The worker has 64 pages of 16 tokens; the conversation needs about half of
// them, and four others push it out. A block is 360 KiB.
var tierWalks = []tierWalk{
	{"cpu", func(t *testing.T) []string {
		return []string{"KVASIR_TIERS_CPU=256MiB"}
	}},
	{"disk", func(t *testing.T) []string {
		return []string{"KVASIR_TIERS_CPU=3MiB", "KVASIR_TIERS_DISK_PATH=" + t.TempDir(), "KVASIR_TIERS_DISK_SIZE=256MiB"}
	}},
	{"redis", func(t *testing.T) []string {
		port := freePort(t)
		redisServer(t, port)
		return []string{"KVASIR_TIERS_CPU=3MiB", fmt.Sprintf("KVASIR_TIERS_REDIS_URL=redis://127.0.0.1:%d/0", port)}
	}},
}

// Must show c: a conversation pushed out of gpu comes back from each tier, and
// nobody can tell from its tokens.
func TestTierWalk(t *testing.T) {
	model := smollm2(t)
	for _, w := range tierWalks {
		t.Run(w.tier, func(t *testing.T) {
			env := append(w.env(t), "KVASIR_AGENT_EMBEDDED_GPU_BLOCKS=64")
			g := startUp(t, env, "--model", model, "--workers", "1")
			walk(t, g, w.tier)
		})
	}
}

func walk(t *testing.T, g gateway, tier string) {
	prompt := essay("the walk", 380)
	cold := g.talk(smolName).say(prompt, 24)
	blocks := cold.prompt / 16
	g.eventually("the conversation is in "+tier, func() error {
		if n := g.committed(tier); n < blocks {
			return fmt.Errorf("%d of %d blocks", n, blocks)
		}
		return nil
	})
	for i := range 4 {
		g.talk(smolName).say(essay(fmt.Sprintf("other %d", i), 400), 4)
	}
	moved := g.moved(tier)

	again := g.talk(smolName).say(prompt, 24)
	if again.text != cold.text {
		t.Errorf("from %s the answer is %q, cold it was %q", tier, again.text, cold.text)
	}
	e := g.explain(again.requestID)
	w := e.winner(t)
	t.Logf("cold TTFT %v; from %s %v: plan %v, recompute %d, onboarded %+v", cold.ttft, tier, again.ttft, w.Blocks, w.RecomputeBlocks, e.Onboard)
	if e.Onboard == nil || e.Onboard.Blocks[tier] < blocks/2 || e.Onboard.ElapsedMS <= 0 {
		t.Fatalf("%d blocks; planned %v; onboarded %+v; want most of them from %s", blocks, w.Blocks, e.Onboard, tier)
	}
	if e.Onboard.Blocks[tier] != w.Blocks[tier] {
		t.Errorf("planned %v from %s, onboarded %+v", w.Blocks, tier, e.Onboard)
	}
	g.eventually("the counter of blocks moved up says what explain says", func() error { // the worker reports twice a second
		if got := g.moved(tier) - moved; got != e.Onboard.Blocks[tier] {
			return fmt.Errorf("from %s it grew by %d, explain says %d", tier, got, e.Onboard.Blocks[tier])
		}
		return nil
	})
	if again.cached < (cold.prompt/16-1)*16 {
		t.Errorf("%d of %d prompt tokens are reported cached", again.cached, cold.prompt)
	}
}

// Must show e: a restarted worker finds its disk tier again.
func TestDiskTierSurvivesRestart(t *testing.T) {
	model, dir := smollm2(t), t.TempDir()
	env := []string{
		"KVASIR_AGENT_EMBEDDED_GPU_BLOCKS=64", "KVASIR_TIERS_CPU=3MiB",
		"KVASIR_TIERS_DISK_PATH=" + filepath.Join(dir, "slab"), "KVASIR_TIERS_DISK_SIZE=256MiB",
	}
	prompt := essay("the restart", 380)
	for _, end := range []struct {
		how string
		do  func(*process)
	}{{"clean end", (*process).stop}, {"kill -9", (*process).kill}} {
		t.Run(end.how, func(t *testing.T) {
			g := startUp(t, env, "--model", model, "--workers", "1")
			cold := g.talk(smolName).say(prompt, 24)
			g.eventually("the conversation is on disk", func() error {
				if n := g.committed("disk"); n < cold.prompt/16 {
					return fmt.Errorf("%d blocks", n)
				}
				return nil
			})
			end.do(g.process)

			g = startUp(t, env, "--model", model, "--workers", "1")
			again := g.talk(smolName).say(prompt, 24)
			e := g.explain(again.requestID)
			if e.Onboard == nil || e.Onboard.Blocks["disk"] < cold.prompt/16-1 || again.text != cold.text {
				t.Errorf("after the restart: onboarded %+v of %d tokens; %q, before it %q", e.Onboard, cold.prompt, again.text, cold.text)
			}
			t.Logf("cold TTFT %v, after the restart %v with %+v", cold.ttft, again.ttft, e.Onboard)
			prompt += " Again." // the second round starts with a conversation of its own
		})
	}
}

// Everything restarts at once, and only Redis is left: what is there is found
// again without anybody having read it.
func TestRedisTierIsFoundAfterARestart(t *testing.T) {
	model, port := smollm2(t), freePort(t)
	redisServer(t, port)
	env := []string{"KVASIR_TIERS_CPU=64MiB", fmt.Sprintf("KVASIR_TIERS_REDIS_URL=redis://127.0.0.1:%d/0", port)}
	prompt := essay("what Redis keeps", 380)
	g := startUp(t, env, "--model", model, "--workers", "1")
	cold := g.talk(smolName).say(prompt, 24)
	inRedis := func() error {
		if n := g.committed("redis"); n < cold.prompt/16 {
			return fmt.Errorf("%d blocks", n)
		}
		return nil
	}
	g.eventually("the conversation is in Redis", inRedis)
	g.kill()

	g = startUp(t, env, "--model", model, "--workers", "1")
	g.eventually("the conversation is found in Redis", inRedis)
	again := g.talk(smolName).say(prompt, 24)
	e := g.explain(again.requestID)
	if e.Onboard == nil || e.Onboard.Blocks["redis"] < cold.prompt/16-1 || again.text != cold.text {
		t.Errorf("after the restart: onboarded %+v of %d tokens; %q, before it %q", e.Onboard, cold.prompt, again.text, cold.text)
	}
	t.Logf("cold TTFT %v, after the restart %v with %+v", cold.ttft, again.ttft, e.Onboard)
}
