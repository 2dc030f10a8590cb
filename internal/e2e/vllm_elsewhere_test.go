package e2e

import (
	"context"
	"fmt"
	"testing"
)

// comesFromPeer: a conversation is on one of two real engines, which then has its
// hands full. The router sends the next request to the other, whose agent pulls
// the blocks from the first one's before the engine asks.
func comesFromPeer(t *testing.T, g gateway, w0, w1 *tiered) {
	body := prompt(essay("the move", 300), 24)
	first, err := askVLLM(g.url+"/v1/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	here, there := w0, w1
	if first.worker == w1.id {
		here, there = w1, w0
	}
	st := story{body, first, (first.prompt - 1) / 32 * 32}
	stop := occupy(t, here.e)
	defer stop()
	g.eventually("the router would rather have the other worker pull the blocks", func() error {
		chosen, by := g.prices(t, body)
		if chosen != there.id || by[chosen].Blocks["peer"] != st.full/32 {
			return fmt.Errorf("%s of %+v", chosen, by)
		}
		return nil
	})
	there.through(t, st, "peer")
}

// outlivesItsWorker: a conversation is in the Redis that both workers have, and
// the one that computed it dies with its agent.
func outlivesItsWorker(t *testing.T, w0, w1 *tiered) {
	st := w1.tell(t, "the worker's death", "redis")
	w1.f.kill(w1.e)
	w1.agent.kill()
	w0.through(t, st, "redis")
}

// occupy has an engine's queue full of requests that no gateway sent.
func occupy(t *testing.T, e *vllmEngine) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		inParallel(40, 4000, func(i int) {
			if ctx.Err() == nil {
				e.abandonable(ctx, prompt(essay(fmt.Sprint(t.Name(), "ballast ", i), 300), 200))
			}
		})
	}()
	return func() {
		cancel()
		<-done
	}
}
