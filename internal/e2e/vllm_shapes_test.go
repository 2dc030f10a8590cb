package e2e

import (
	"fmt"
	"testing"
)

// TestVLLMRanks asks for the same agreement of an engine with a cache for each
// of two data-parallel ranks, which the gateway finds out about by itself.
func TestVLLMRanks(t *testing.T) {
	tiny := vllmModel(t, "KVASIR_VLLM_TINY")
	f := startVLLM(t)
	e := f.engine("ranks", "tiny", tiny, 40, "--api-server-count", "1")
	e.ranks = 2
	f.up(e)
	g := ready(t, start(t, "kvasir serve", nil, binary, "serve", "--listen", "127.0.0.1:0", "--worker", e.url()))
	g.awaitWorkers(2)
	g.awaitTokenChecks("match")
	for i := range 2 {
		id := fmt.Sprintf("worker-0/dp%d", i)
		g.eventually("the events of "+id, func() error { return g.eventsOf(id, true) })
	}
	r := newAgreement(t, g, "tiny", seat{"worker-0/dp0", e, 0}, seat{"worker-0/dp1", e, 1})
	r.phase("two ranks", 400)
	r.verdict(400)
	if len(r.byWorker) != 2 {
		t.Errorf("not both ranks served: %v", r.byWorker)
	}
}

// TestVLLMGroups asks for it of a hybrid model, whose layers keep their KV in
// groups. The four share the pool: a prompt takes a block of each.
func TestVLLMGroups(t *testing.T) {
	hybrid := vllmModel(t, "KVASIR_VLLM_HYBRID")
	f := startVLLM(t)
	e := f.engine("groups", "hybrid", hybrid, 256, "--load-format", "dummy")
	f.up(e)
	g := serveVLLM(t, nil, e)
	g.awaitTokenChecks("match")
	r := newAgreement(t, g, "hybrid", seat{"worker-0", e, 0})
	r.resumes = true
	r.phase("four groups of layers", 400)
	r.verdict(400)
}
