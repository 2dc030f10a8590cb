package e2e

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	openai "github.com/sashabaranov/go-openai"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

// Streams survive kill -9 of the workers that serve them, time after time: none
// fails, and each has the text of an unbroken greedy run. KVASIR_STREAMS says
// how many streams are live, KVASIR_KILLS how many workers are killed.
func TestStreamsSurviveKill9(t *testing.T) {
	streams, kills := trial.Size(t, "KVASIR_STREAMS", 64), trial.Size(t, "KVASIR_KILLS", 4)
	rng := trial.Rand(t)
	etcdPort := freePort(t)
	etcdServer(t, etcdPort, freePort(t), t.TempDir())
	config := writeFile(t, "fleet.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
models: [{name: tiny}]
discovery: {etcd: {endpoints: ["127.0.0.1:%d"], ttl: 2s}}
agent: {model: tiny, engine: embedded, embedded: {gpu_blocks: 4096}}
tiers: {cpu: 16MiB}
limits: {first_byte: 3m, request: 5m}
`, etcdPort))
	ids := []string{"w0", "w1", "w2"}
	workers := map[string]*process{}
	launch := func(id string) {
		workers[id] = start(t, "worker "+id, []string{"TMPDIR=" + t.TempDir()}, binary, "worker", "--config", config, "--id", id)
	}
	for _, id := range ids {
		launch(id)
	}
	g := ready(t, start(t, "gateway", nil, binary, "serve", "--config", config))
	g.awaitWorkers(len(ids))

	whole := g.unbroken(t)
	var wg sync.WaitGroup
	var live, wrong atomic.Int64
	for i := range streams {
		live.Add(1)
		wg.Go(func() {
			defer live.Add(-1)
			if !g.sameAs(t, i, whole) {
				wrong.Add(1)
			}
		})
	}
	killed := 0
	for killed < kills && live.Load() > 0 && wrong.Load() == 0 {
		time.Sleep(time.Duration(100+rng.IntN(500)) * time.Millisecond)
		if live.Load() == 0 {
			break
		}
		id := g.busiest()
		if rng.IntN(4) == 0 {
			id = ids[rng.IntN(len(ids))]
		}
		t.Logf("kill -9 %s with %d streams live", id, live.Load())
		workers[id].kill()
		launch(id)
		killed++
	}
	wg.Wait()
	g.awaitWorkers(len(ids)) // the last one launched has to be up before it can end cleanly
	var last struct{ Decisions []struct{ Migrations int } }
	g.getJSON(fmt.Sprint("/kvasir/v1/decisions?limit=", streams), &last)
	moved := 0
	for _, d := range last.Decisions {
		moved += d.Migrations
	}
	t.Logf("%d streams, %d kills, %d migrations, %d wrong", streams, killed, moved, wrong.Load())
	if moved == 0 {
		t.Error("no stream was carried on: the kills came too late")
	}
}

// tinyRequest is the i-th stream of those that are compared, of a few prompts.
func tinyRequest(i int) openai.ChatCompletionRequest {
	return openai.ChatCompletionRequest{
		Model: "tiny", Temperature: greedy, MaxCompletionTokens: 400,
		Messages: []openai.ChatCompletionMessage{{Role: "user", Content: strings.Repeat(fmt.Sprintf("prompt %d ", i), 8)}},
	}
}

// unbroken are the answers to a few prompts of which nothing broke.
func (g gateway) unbroken(t *testing.T) (whole [8]answer) {
	t.Helper()
	for i := range whole {
		a, err := g.stream(t.Context(), tinyRequest(i))
		if err != nil {
			t.Fatal(err)
		}
		whole[i] = a
	}
	return whole
}

// sameAs asks for one of them again and reports whether the answer is the same.
// Much of what the tiny model says is no UTF-8. An engine writes that as replacement
// characters, of which one may be missing where a stream was carried on within such
// bytes: they are not compared.
func (g gateway) sameAs(t *testing.T, i int, unbroken [8]answer) bool {
	k := i % len(unbroken)
	whole := unbroken[k]
	a, err := g.stream(t.Context(), tinyRequest(k))
	if err == nil && characters(a.text) == characters(whole.text) && a.tokens == whole.tokens && a.prompt == whole.prompt {
		return true
	}
	same := common(a.text, whole.text)
	t.Errorf("stream %d (%s): %v; %d + %d tokens, not %d + %d; %d of %d bytes are the unbroken run's, then %q, not %q", i, a.requestID, err,
		a.prompt, a.tokens, whole.prompt, whole.tokens, same, len(whole.text), a.text[same:], whole.text[same:])
	return false
}

func characters(text string) string { return strings.ReplaceAll(text, "\uFFFD", "") }

func common(a, b string) (n int) {
	for n < min(len(a), len(b)) && a[n] == b[n] {
		n++
	}
	return n
}
