package e2e

import (
	"fmt"
	"testing"
)

// TestVLLMShapes asks the same agreement of engines with several caches: one a
// data-parallel rank, and one a group of layers. The gateway learns of both by
// itself.
func TestVLLMShapes(t *testing.T) {
	tiny, hybrid := vllmModel(t, "KVASIR_VLLM_TINY"), vllmModel(t, "KVASIR_VLLM_HYBRID")
	f := startVLLM(t)
	ranks := f.engine("ranks", "tiny", tiny, 40)
	ranks.ranks = 2
	// Four groups share the pool: a prompt takes a block of each.
	groups := f.engine("groups", "hybrid", hybrid, 160, "--load-format", "dummy")
	f.up(ranks, groups)

	t.Run("ranks", func(t *testing.T) {
		g := ready(t, start(t, "kvasir serve", nil, binary, "serve", "--listen", "127.0.0.1:0", "--worker", ranks.url()))
		g.awaitWorkers(2)
		g.awaitTokenChecks("match")
		for i := range 2 {
			id := fmt.Sprintf("worker-0/dp%d", i)
			g.eventually("the events of "+id, func() error { return g.eventsOf(id, true) })
		}
		r := newAgreement(t, g, "tiny", seat{"worker-0/dp0", ranks, 0}, seat{"worker-0/dp1", ranks, 1})
		r.phase("two ranks", 400)
		r.verdict(400)
		if len(r.byWorker) != 2 {
			t.Errorf("not both ranks served: %v", r.byWorker)
		}
	})
	t.Run("groups", func(t *testing.T) {
		g := serveVLLM(t, nil, groups)
		g.awaitTokenChecks("match")
		r := newAgreement(t, g, "hybrid", seat{"worker-0", groups, 0})
		r.phase("four groups of layers", 400)
		r.verdict(400)
	})
}
