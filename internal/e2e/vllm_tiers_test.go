package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestVLLMTiers drives real vLLM with Kvasir's tiers below it, both ways: as
// its connector (L3), and below its own offload region (L2). Engines have 40
// blocks of 32 tokens, so conversations push each other out. Two run at a time.
func TestVLLMTiers(t *testing.T) {
	f, dir := startVLLMWithPlugin(t)
	port := freePort(t)
	redisServer(t, port)
	w0 := newTiered(t, f, dir, "w0", port, withConnector)
	w1 := newTiered(t, f, dir, "w1", port, withConnector)
	w0.startAgent(inMemory, lending, w0.inRedis())
	w1.startAgent(inMemory, lending, w1.inRedis())
	f.up(w0.e, w1.e)
	g := serveTiered(t, w0, w1)
	t.Run("other worker/peer", func(t *testing.T) { comesFromPeer(t, g, w0, w1) })
	t.Run("other worker/redis", func(t *testing.T) { outlivesItsWorker(t, w0, w1) })

	l2 := newTiered(t, f, dir, "l2", port, withTier)
	offloads := w0.e.atLeast(t, 0, 32) // else the tier does nothing
	if offloads {
		l2.startAgent(inMemory, l2.onDisk())
		f.run(l2.e)
	}
	w0.restartAgent(inMemory, w0.onDisk())
	if !t.Run("connector", w0.scenarios) {
		return
	}
	told := w0.killEngine(t)
	if offloads {
		f.await(l2.e)
		serveTiered(t, l2)
		if !t.Run("tier", l2.scenarios) {
			return
		}
	}
	f.await(w0.e)
	t.Run("connector/engine restarted", func(t *testing.T) { w0.back(t, told) })
	if offloads {
		told = l2.killEngine(t)
		f.await(l2.e)
		t.Run("tier/engine restarted", func(t *testing.T) { l2.back(t, told) })
	}
}

// atLeast compares vLLM's version.
func (e *vllmEngine) atLeast(t *testing.T, major, minor int) bool {
	t.Helper()
	r, err := http.Get(e.url() + "/version")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var is struct{ Version string }
	if err := json.NewDecoder(r.Body).Decode(&is); err != nil {
		t.Fatal(err)
	}
	var a, b int
	if _, err := fmt.Sscanf(is.Version, "%d.%d", &a, &b); err != nil {
		t.Fatalf("version %q: %v", is.Version, err)
	}
	return a > major || a == major && b >= minor
}

// tiered is a real vLLM with our plug-in, the agent beside it, and the gateway
// that leads to it.
type tiered struct {
	t       *testing.T
	f       *vllmFleet
	e       *vllmEngine
	id, dir string // dir is of sockets and slab
	redis   int    // port
	region  bool   // vLLM's own offload region is above the agent's tiers
	agent   *process
	g       gateway
	probes  int
}

// newTiered describes an engine with flags for its socket.
func newTiered(t *testing.T, f *vllmFleet, dir, id string, redis int, with func(t *testing.T, socket string) []string) *tiered {
	s := &tiered{t: t, f: f, id: id, dir: dir, redis: redis, region: id == "l2"}
	s.e = f.engine(id, "tiny", vllmModel(t, "KVASIR_VLLM_TINY"), 40, with(t, filepath.Join(dir, id+".plugin"))...)
	return s
}

// serveTiered starts a gateway for the engines, which must be up.
func serveTiered(t *testing.T, fleet ...*tiered) gateway {
	t.Helper()
	config := fmt.Sprintf("listen: 127.0.0.1:0\nmodels: [{name: tiny, tokenizer: %q}]\nworkers:\n", vllmModel(t, "KVASIR_VLLM_TINY"))
	for _, s := range fleet {
		config += fmt.Sprintf("  - {id: %s, model: tiny, url: %q, engine: vllm, agent: \"unix://%s/%s.agent\"}\n", s.id, s.e.url(), s.dir, s.id)
	}
	g := ready(t, start(t, "kvasir serve", nil, binary, "serve", "--config", writeFile(t, "gateway.yaml", config)))
	g.awaitWorkers(len(fleet))
	g.awaitTokenChecks("match")
	for _, s := range fleet {
		s.g = g
	}
	return g
}

// Tiers are settings of an agent.
type tiers []string

var (
	inMemory = tiers{"KVASIR_TIERS_CPU=32MiB"}
	lending  = tiers{"KVASIR_TIERS_PEER=true"}
)

func (s *tiered) onDisk() tiers {
	return tiers{"KVASIR_TIERS_DISK_PATH=" + s.dir, "KVASIR_TIERS_DISK_SIZE=256MiB"}
}

func (s *tiered) inRedis() tiers {
	return tiers{fmt.Sprintf("KVASIR_TIERS_REDIS_URL=redis://127.0.0.1:%d/0", s.redis)}
}

func (s *tiered) startAgent(with ...tiers) {
	env := []string{
		"KVASIR_AGENT_ENGINE=vllm", "KVASIR_AGENT_URL=" + s.e.url(), "KVASIR_AGENT_LISTEN=unix://" + filepath.Join(s.dir, s.id+".agent"),
		"KVASIR_AGENT_PLUGIN=" + filepath.Join(s.dir, s.id+".plugin"),
	}
	for _, t := range with {
		env = append(env, t...)
	}
	s.agent = start(s.t, "agent of "+s.id, env, binary, "worker", "--id", s.id)
}

// restartAgent ends the agent as an operator would and starts another one. The
// engine runs on, and finds it.
func (s *tiered) restartAgent(with ...tiers) {
	s.agent.stop()
	s.startAgent(with...)
	s.awaitPlugin()
}

// awaitPlugin waits until what the engine computes is kept: all of the plug-in
// has found the agent then.
func (s *tiered) awaitPlugin() {
	s.t.Helper()
	s.g.eventually("what the engine computes is kept", func() error {
		s.probes++
		body := prompt(essay(fmt.Sprint(s.id, " probe ", s.probes), 60), 1)
		if _, err := s.e.complete(body); err != nil {
			return err
		}
		var c priced
		for range 20 {
			c = s.candidate(s.t, body)
			// The region's blocks are in the cpu tier too.
			if c.held("disk") > 0 || c.held("redis") > 0 || !s.region && c.held("cpu") > 0 {
				return nil
			}
			time.Sleep(50 * time.Millisecond)
		}
		return fmt.Errorf("a probe is in %+v", c.Inputs.Held)
	})
}

// killEngine has the engine compute a conversation, kills it as a crash would
// and starts it again. The agent stays, and its memory with it.
func (s *tiered) killEngine(t *testing.T) story {
	st := s.tell(t, "the engine's restart", "disk")
	s.f.kill(s.e)
	s.f.run(s.e)
	return st
}

// story is a conversation that the engine computed.
type story struct {
	body map[string]any
	cold vllmAnswer
	full int // tokens of its prompt that can come back
}

func prompt(text string, n int) map[string]any {
	return map[string]any{"model": "tiny", "prompt": text, "max_tokens": n, "temperature": 0, "ignore_eos": true}
}

// tell has the engine compute a conversation, and waits until a tier has it.
func (s *tiered) tell(t *testing.T, topic, tier string) story {
	t.Helper()
	body := prompt(essay(s.id+topic, 300), 24)
	cold, err := s.e.complete(body)
	if err != nil {
		t.Fatal(err)
	}
	if cold.cached != 0 {
		t.Fatalf("%d tokens of a new conversation were cached", cold.cached)
	}
	st := story{body, cold, (cold.prompt - 1) / 32 * 32}
	s.g.eventually(topic+" is in "+tier, func() error {
		if c := s.candidate(t, body); c.held(tier) < cold.prompt/32 {
			return fmt.Errorf("%+v", c.Inputs.Held)
		}
		return nil
	})
	return st
}

// forget empties the engine's own memory: its pages, and the region below them.
func (s *tiered) forget(t *testing.T, st story) {
	t.Helper()
	if s.region { // as others would push the conversation out
		for i := range 10 {
			if _, err := s.e.complete(prompt(essay(fmt.Sprint(st.body["prompt"].(string)[:20], " pushed out ", i), 300), 1)); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := emptied(s.e); err != nil {
		t.Fatal(err)
	}
}

// emptied has an engine forget what is on its pages.
func emptied(e *vllmEngine) error {
	r, err := http.Post(e.url()+"/reset_prefix_cache", "", nil)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusOK {
		return fmt.Errorf("reset_prefix_cache: %s: %s", r.Status, b)
	}
	// The engine tells of it with its next step.
	_, err = e.complete(map[string]any{"model": e.model, "prompt": "So it goes.", "max_tokens": 1})
	return err
}

// back asks for the conversation again; all of it must be cached, and the answer
// the same.
func (s *tiered) back(t *testing.T, st story) {
	t.Helper()
	again, err := s.e.complete(st.body)
	if err != nil {
		t.Fatal(err)
	}
	if again.cached != st.full {
		t.Errorf("%d tokens came back, want %d of %d", again.cached, st.full, again.prompt)
	}
	if again.text != st.cold.text {
		t.Errorf("the answer is %q, cold it was %q", again.text, st.cold.text)
	}
}

// through asks for the conversation through the gateway, once that would restore
// it from one tier: it says what will be cached, and has it staged before the
// engine asks.
func (s *tiered) through(t *testing.T, st story, tier string) {
	t.Helper()
	want := st.full / 32
	s.g.eventually("the gateway would restore from "+tier, func() error {
		if c := s.candidate(t, st.body); c.Blocks[tier] != want {
			return fmt.Errorf("%v of %+v", c.Blocks, c.Inputs.Held)
		}
		return nil
	})
	got, err := askVLLM(s.g.url+"/v1/completions", st.body)
	if err != nil {
		t.Fatal(err)
	}
	e := s.g.explain(got.request)
	w := e.winner(t)
	t.Logf("predicted %s, the engine found %d of %d; planned %v, onboarded %+v", got.predicted, got.cached, got.prompt, w.Blocks, e.Onboard)
	if !got.agrees() || got.cached != st.full {
		t.Errorf("predicted %s tokens, the engine found %d of %d; want %d", got.predicted, got.cached, got.prompt, st.full)
	}
	if e.Onboard == nil || w.Blocks[tier] != want || e.Onboard.Blocks[tier] != want {
		t.Errorf("planned %v, onboarded %+v; want %d blocks from %s", w.Blocks, e.Onboard, want, tier)
	}
	if got.text != st.cold.text {
		t.Errorf("the answer is %q, cold it was %q", got.text, st.cold.text)
	}
}

// priced is what the gateway thinks of a worker for a request.
type priced struct {
	Worker string
	Blocks map[string]int
	Inputs struct {
		Held []struct {
			Blocks int
			Tiers  string
		}
	}
}

// held is how many leading blocks are in a tier.
func (p priced) held(tier string) (n int) {
	for _, run := range p.Inputs.Held {
		if !strings.Contains(run.Tiers, tier) {
			break
		}
		n += run.Blocks
	}
	return n
}

// candidate asks the gateway what it thinks of this worker for a request.
func (s *tiered) candidate(t *testing.T, body map[string]any) priced {
	t.Helper()
	_, by := s.g.prices(t, body)
	return by[s.id]
}

// prices are the gateway's candidates for a request, and which it would choose.
func (g gateway) prices(t *testing.T, body map[string]any) (chosen string, by map[string]priced) {
	t.Helper()
	raw, err := json.Marshal(body)
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.Post(g.url+"/kvasir/v1/explain", "application/json", bytes.NewReader(raw))
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var e struct {
		Chosen     string
		Candidates []priced
	}
	if b, err := io.ReadAll(r.Body); err != nil || json.Unmarshal(b, &e) != nil {
		t.Fatalf("explain: %v: %s", err, b)
	}
	by = map[string]priced{}
	for _, c := range e.Candidates {
		by[c.Worker] = c
	}
	return e.Chosen, by
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
	shim, err := filepath.Abs("vllm")
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv("PYTHONPATH", plugin+":"+shim)
	t.Setenv("PYTHONDONTWRITEBYTECODE", "1")
	if dir, err = os.MkdirTemp("", "kvasir"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return startVLLM(t), dir
}

// withConnector are an engine's flags for our connector.
func withConnector(_ *testing.T, socket string) []string {
	return []string{"--kv-transfer-config", fmt.Sprintf(
		`{"kv_connector":"KvasirConnector","kv_connector_module_path":"kvasir_vllm.connector","kv_role":"kv_both","kv_load_failure_policy":"recompute","kv_connector_extra_config":{"socket":%q}}`,
		socket)}
}

// withTier are an engine's flags for our tier below vLLM's own offload region of
// 64 blocks.
func withTier(t *testing.T, socket string) []string {
	id := fmt.Sprintf("kvasir-e2e-%d", os.Getpid())
	t.Cleanup(func() { os.Remove("/dev/shm/vllm_offload_" + id + ".mmap") }) // a killed engine leaves it
	return []string{"--kv-transfer-config", fmt.Sprintf(
		`{"kv_connector":"KvasirOffloadingConnector","kv_connector_module_path":"kvasir_vllm.offload","kv_role":"kv_both","engine_id":%q,"kv_connector_extra_config":{"spec_name":"CPUTieringSpec","spec_module_path":"cputier","cpu_bytes_to_use":2097152,"secondary_tiers":[{"type":"KvasirTier","socket":%q}]}}`,
		id, socket)}
}
