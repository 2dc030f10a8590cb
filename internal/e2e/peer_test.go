package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"testing"
)

// Two worker processes that share no store. A conversation is on one of them,
// which then has its hands full; the next turn goes to the other, which pulls the
// conversation from the first one's memory over TCP, and nobody can tell from the
// tokens.
func TestAConversationMovesToAPeer(t *testing.T) {
	model := smollm2(t)
	dir := t.TempDir()
	ports := map[string]int{"w0": freePort(t), "w1": freePort(t)}
	config := fmt.Sprintf("listen: 127.0.0.1:0\nmodels: [{name: smol, tokenizer: %q}]\nworkers:\n", model)
	for _, id := range []string{"w0", "w1"} {
		config += fmt.Sprintf("  - {id: %s, model: smol, url: \"http://127.0.0.1:%d\", engine: embedded, agent: \"unix://%s\"}\n", id, ports[id], filepath.Join(dir, id))
	}
	config += fmt.Sprintf(`agent: {model: smol, engine: embedded, embedded: {model: %q, gpu_blocks: 256, threads: 1}}
tiers: {cpu: 256MiB, peer: {secret: "of this fleet"}}
`, model)
	file := writeFile(t, "peers.yaml", config)
	for id, port := range ports {
		start(t, "worker "+id, []string{
			fmt.Sprintf("KVASIR_AGENT_EMBEDDED_LISTEN=127.0.0.1:%d", port), "KVASIR_AGENT_LISTEN=unix://" + filepath.Join(dir, id),
		}, binary, "worker", "--config", file, "--id", id)
	}
	g := ready(t, start(t, "gateway", nil, binary, "serve", "--config", file))
	g.awaitWorkers(2)

	c := g.talk("smol")
	first := c.say(essay("the move", 300), 8)
	g.eventually("the conversation is in cpu", func() error {
		if n := g.committed("cpu"); n < first.prompt/16 {
			return fmt.Errorf("%d blocks", n)
		}
		return nil
	})

	stop := overload(t, fmt.Sprintf("http://127.0.0.1:%d", ports[first.worker]))
	g.eventually("the gateway hears that "+first.worker+" is busy", func() error {
		if ms := g.queuedPrefill(first.worker); ms < 2000 {
			return fmt.Errorf("%.0f ms of prefill are queued", ms)
		}
		return nil
	})
	second := c.say("Go on, in one sentence.", 8)
	stop()
	e := g.explain(second.requestID)
	w := e.winner(t)
	t.Logf("turn 1 on %s; turn 2 on %s: planned %v, recomputed %d, onboarded %+v, TTFT %v", first.worker, second.worker, w.Blocks, w.RecomputeBlocks, e.Onboard, second.ttft)
	if second.worker == first.worker {
		t.Fatalf("turn 2 stayed on the busy worker: %+v", e.Candidates)
	}
	if e.Onboard == nil || e.Onboard.Blocks["peer"] < first.prompt/16-1 || e.Onboard.Blocks["peer"] != w.Blocks["peer"] {
		t.Fatalf("planned %v, onboarded %+v; want the conversation's %d tokens from the peer", w.Blocks, e.Onboard, first.prompt)
	}

	// The same turn under another salt shares no block, and is computed whole.
	c.said = c.said[:len(c.said)-1]
	body, err := json.Marshal(map[string]any{"model": "smol", "messages": c.said, "max_tokens": 8, "temperature": 0, "cache_salt": "apart"})
	if err != nil {
		t.Fatal(err)
	}
	status, _, answer := g.post("/v1/chat/completions", string(body))
	var cold struct {
		Choices []struct{ Message struct{ Content string } }
	}
	if err := json.Unmarshal([]byte(answer), &cold); err != nil || status != http.StatusOK || len(cold.Choices) != 1 {
		t.Fatalf("%d %s", status, answer)
	}
	if got := cold.Choices[0].Message.Content; got != second.text {
		t.Errorf("with blocks from the peer the answer is %q, computed whole it is %q", second.text, got)
	}
}

// overload keeps an engine busy with long prompts that no gateway knows of.
func overload(t *testing.T, engine string) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	const prompts = 6
	for i := range prompts {
		body, err := json.Marshal(map[string]any{"model": "smol", "prompt": essay(fmt.Sprintf("ballast %d", i), 1200), "max_tokens": 400})
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer func() { done <- struct{}{} }()
			req, err := http.NewRequestWithContext(ctx, http.MethodPost, engine+"/v1/completions", bytes.NewReader(body))
			if err != nil {
				return
			}
			if r, err := http.DefaultClient.Do(req); err == nil {
				r.Body.Close()
			}
		}()
	}
	return func() {
		cancel()
		for range prompts {
			<-done
		}
	}
}

// queuedPrefill is the prefill in front of a new request, as the gateway sees it.
func (g gateway) queuedPrefill(worker string) float64 {
	g.t.Helper()
	var fleet struct {
		Workers []struct {
			ID   string
			Load struct {
				QueuedPrefillMS float64 `json:"queued_prefill_ms"`
			}
		}
	}
	g.getJSON("/kvasir/v1/workers", &fleet)
	for _, w := range fleet.Workers {
		if w.ID == worker {
			return w.Load.QueuedPrefillMS
		}
	}
	return 0
}
