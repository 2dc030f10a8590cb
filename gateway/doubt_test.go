package gateway

import (
	"context"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

// A model whose probes differ is asked at its engine until enough prompts have
// agreed, then about few of them, and again about all once one differs.
func TestDoubtsGoByWhatComes(t *testing.T) {
	asked, off := 0, uint32(0)
	s := newSetting(t, 1, func(c *Config) {
		c.EngineTokens = func(context.Context, workers.Info, string, []byte) ([]uint32, error) {
			asked++
			tokens := make([]uint32, 0, 32)
			for _, b := range []byte("user:abcd;assistant:") {
				tokens = append(tokens, uint32(b)+off)
			}
			return tokens, nil
		}
	})
	s.g.checker.verdicts[kv.WorkerID(s.engines[0].name)] = verdict{model: "m", check: TokenCheck{Result: TokenizerDiffers}}
	post := func(n int) (from map[string]int) {
		t.Helper()
		from = map[string]int{}
		for range n {
			r := s.post("/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":"abcd"}]}`) // 20 tokens, as the stand-in counts
			if r.status != 200 {
				t.Fatalf("%d %s", r.status, r.body)
			}
			from[s.record(r.header.Get("X-Request-Id")).TokensFrom]++
		}
		return from
	}
	if from := post(agreeEnough); asked != agreeEnough || from[fromEngine] != agreeEnough {
		t.Fatalf("%d asked, from %v", asked, from)
	}
	if from := post(2 * askAmong); from[fromGateway] != 2*(askAmong-1) || from[fromEngine] != 2 {
		t.Fatalf("tokens from %v", from)
	}
	off = 1
	if from := post(askAmong); from[fromEngine] != 1 {
		t.Fatalf("tokens from %v", from)
	}
	off = 0
	if from := post(agreeEnough); from[fromEngine] != agreeEnough {
		t.Fatalf("after one that differed: tokens from %v", from)
	}
}
