package gateway

import (
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/workers"
)

// TestRanksAreCandidatesOfTheirOwn: the rank that holds the prompt gets it, and
// the engine is told which it is.
func TestRanksAreCandidatesOfTheirOwn(t *testing.T) {
	s := &setting{t: t, index: prefixindex.New(prefixindex.Options{}), logs: &lockedBuffer{}}
	e := newStandIn(t, "w0")
	s.engines = append(s.engines, e)
	s.start(workers.Info{ID: "w0", URL: e.URL, Model: "m", BlockSize: blockSize, Ranks: 3}.PerRank(), nil)
	s.holds("w0/dp2", kv.GPU, rendered, 4)
	for range 5 {
		r := s.record(s.post("/v1/chat/completions", chatBody).header.Get("X-Request-Id"))
		if r.Chosen != "w0/dp2" || len(r.Candidates) != 3 || r.winner().CachedTokens < 4*blockSize {
			t.Fatalf("chosen %s of %d, of which %d tokens are cached", r.Chosen, len(r.Candidates), r.winner().CachedTokens)
		}
		if err := r.Replay(); err != nil {
			t.Error(err)
		}
	}
	for _, q := range e.received() {
		if got := q.header.Get("X-data-parallel-rank"); got != "2" {
			t.Errorf("the engine was told rank %q", got)
		}
	}
}
