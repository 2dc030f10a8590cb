package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// TestVLLMConnectorPeers: a conversation is on one of two real engines, which
// then has its hands full. The router sends the next request to the other, whose
// agent pulls the blocks from the first one's before the engine asks.
func TestVLLMConnectorPeers(t *testing.T) {
	tiny := vllmModel(t, "KVASIR_VLLM_TINY")
	f, dir := startVLLMWithPlugin(t)
	ids := []string{"w0", "w1"}
	engines := map[string]*vllmEngine{}
	config := fmt.Sprintf("listen: 127.0.0.1:0\nmodels: [{name: tiny, tokenizer: %q}]\nworkers:\n", tiny)
	for _, id := range ids {
		engines[id] = f.engine(id, "tiny", tiny, 40, withConnector(filepath.Join(dir, id+".plugin"))...)
		config += fmt.Sprintf("  - {id: %s, model: tiny, url: %q, engine: vllm, agent: \"unix://%s/%s\"}\n", id, engines[id].url(), dir, id)
	}
	file := writeFile(t, "peers.yaml", config+"agent: {engine: vllm}\ntiers: {cpu: 32MiB, peer: {secret: of this fleet}}\n")
	for _, id := range ids {
		start(t, "worker "+id, []string{
			"KVASIR_AGENT_URL=" + engines[id].url(), "KVASIR_AGENT_LISTEN=unix://" + filepath.Join(dir, id),
			"KVASIR_AGENT_PLUGIN=" + filepath.Join(dir, id+".plugin"),
		}, binary, "worker", "--config", file, "--id", id)
	}
	f.up(engines["w0"], engines["w1"])
	g := ready(t, start(t, "gateway", nil, binary, "serve", "--config", file))
	g.awaitWorkers(2)
	g.awaitTokenChecks("match")

	body := prompt(essay("the move", 300), 24)
	first, err := askVLLM(g.url+"/v1/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	want := (first.prompt - 1) / 32
	stop := occupy(t, engines[first.worker])
	defer stop()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	asked := writeFile(t, "prompt.json", string(raw))
	g.eventually("the router would rather have the other worker pull the blocks", func() error {
		out, err := run(t, nil, binary, "explain", "--prompt", asked, "--url", g.url, "--json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var e explanation
		if err := json.Unmarshal([]byte(out), &e); err != nil {
			return err
		}
		if e.Chosen == first.worker || e.winner(t).Blocks["peer"] != want {
			return fmt.Errorf("%s of %+v", e.Chosen, e.Candidates)
		}
		return nil
	})
	second, err := askVLLM(g.url+"/v1/completions", body)
	if err != nil {
		t.Fatal(err)
	}
	e := g.explain(second.request)
	t.Logf("first on %s, then on %s: predicted %s, the engine found %d of %d; onboarded %+v", first.worker, second.worker, second.predicted, second.cached, second.prompt, e.Onboard)
	if second.worker == first.worker || e.Onboard == nil || e.Onboard.Blocks["peer"] != want {
		t.Errorf("on %s, onboarded %+v; want %d blocks from the peer", second.worker, e.Onboard, want)
	}
	if !second.agrees() || second.cached != 32*want {
		t.Errorf("predicted %s tokens, the engine found %d; want %d", second.predicted, second.cached, 32*want)
	}
	if second.text != first.text {
		t.Errorf("the answer is %q, at the first worker it was %q", second.text, first.text)
	}
}

// startVLLMWithPlugin brings up the process that engines are forked from, with
// our plug-in on its path, and makes a folder for sockets, which have short names.
func startVLLMWithPlugin(t *testing.T) (f *vllmFleet, dir string) {
	t.Helper()
	vllmModel(t, "KVASIR_VLLM") // or skip
	plugin, err := filepath.Abs("../../workers/plugins/vllm")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PYTHONPATH", plugin)
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	if dir, err = os.MkdirTemp("", "kvasir"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return startVLLM(t), dir
}

// withConnector are an engine's flags for our connector.
func withConnector(socket string) []string {
	return []string{"--kv-transfer-config", fmt.Sprintf(
		`{"kv_connector":"KvasirConnector","kv_connector_module_path":"kvasir_vllm.connector","kv_role":"kv_both","kv_load_failure_policy":"recompute","kv_connector_extra_config":{"socket":%q}}`,
		socket)}
}

// occupy has an engine's queue full of requests that no gateway sent.
func occupy(t *testing.T, e *vllmEngine) (stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		inParallel(40, 4000, func(i int) {
			if ctx.Err() == nil {
				e.abandonable(ctx, prompt(essay(fmt.Sprint("ballast ", i), 300), 200))
			}
		})
	}()
	return func() {
		cancel()
		<-done
	}
}
