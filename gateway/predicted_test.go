package gateway

import (
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/workers"
)

// TestAWorkerThatTellsNothing: it is predicted to hold what it was sent, so that
// a conversation stays with it, and the record says that this is a prediction.
func TestAWorkerThatTellsNothing(t *testing.T) {
	s := &setting{t: t, index: prefixindex.New(prefixindex.Options{}), logs: &lockedBuffer{}}
	var infos []workers.Info
	for _, id := range []kv.WorkerID{"w0", "w1", "w2"} {
		e := newStandIn(t, string(id))
		s.engines = append(s.engines, e)
		infos = append(infos, workers.Info{ID: id, URL: e.URL, Model: "m", BlockSize: blockSize})
	}
	s.start(infos, nil)
	first := s.record(s.post("/v1/chat/completions", chatBody).header.Get("X-Request-Id"))
	if in := first.winner().Inputs; in.Predicted != 0 || len(in.Held) != 0 {
		t.Fatalf("before anything was sent: %+v", in)
	}
	for range 5 {
		r := s.record(s.post("/v1/chat/completions", chatBody).header.Get("X-Request-Id"))
		in := r.winner().Inputs
		if r.Chosen != first.Chosen || in.Predicted < 1 || len(in.Held) != 1 || in.Held[0].Blocks != in.Predicted || in.Held[0].Tiers != "gpu" {
			t.Fatalf("first %s, then %s with %+v", first.Chosen, r.Chosen, in)
		}
		if err := r.Replay(); err != nil {
			t.Error(err)
		}
	}
}
