package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"
)

// connectorSuite is a real vLLM whose connector is ours, the agent beside it,
// and a gateway in front.
type connectorSuite struct {
	t      *testing.T
	f      *vllmFleet
	e      *vllmEngine
	dir    string // of sockets and slab
	config string
	agent  *process
	g      gateway
	// metrics is the agent's address of them.
	metrics string
}

// TestVLLMConnector drives real vLLM with Kvasir's tiers below it. One engine
// serves all of it; it has 40 blocks of 32 tokens, so conversations push each
// other out.
func TestVLLMConnector(t *testing.T) {
	s := startConnectorSuite(t)
	t.Run("cpu", s.comesBackFromCPU)
	t.Run("many", s.manyAtOnce)
	t.Run("agent killed", s.agentKilledUnderLoad)
	t.Run("agent restarted", s.comesBackFromDisk)
	t.Run("corrupted", s.corruptedIsComputed)
	t.Run("redis", s.comesBackFromRedis)
	t.Run("engine restarted", s.comesBackAfterEngineRestart)
}

func startConnectorSuite(t *testing.T) *connectorSuite {
	tiny := vllmModel(t, "KVASIR_VLLM_TINY")
	f, dir := startVLLMWithPlugin(t)
	e := f.engine("connector", "tiny", tiny, 40, withConnector(filepath.Join(dir, "plugin"))...)
	s := &connectorSuite{t: t, f: f, e: e, dir: dir, metrics: fmt.Sprintf("127.0.0.1:%d", freePort(t))}
	s.config = writeFile(t, "connector.yaml", fmt.Sprintf(`listen: 127.0.0.1:0
models: [{name: tiny, tokenizer: %[1]q}]
workers: [{id: w0, model: tiny, url: %[2]q, engine: vllm, agent: "unix://%[3]s/agent"}]
agent: {id: w0, engine: vllm, url: %[2]q, listen: "unix://%[3]s/agent", plugin: "%[3]s/plugin", metrics: %[4]q}
`, tiny, e.url(), dir, s.metrics))
	s.startAgent(s.onDisk()...)
	f.up(e)
	s.g = ready(t, start(t, "kvasir serve", nil, binary, "serve", "--config", s.config))
	s.g.awaitWorkers(1)
	s.g.awaitTokenChecks("match")
	return s
}

func (s *connectorSuite) onDisk() []string {
	return []string{"KVASIR_TIERS_CPU=32MiB", "KVASIR_TIERS_DISK_PATH=" + s.dir, "KVASIR_TIERS_DISK_SIZE=256MiB"}
}

// startAgent runs the agent with some tiers.
func (s *connectorSuite) startAgent(tiers ...string) {
	s.agent = start(s.t, "kvasir worker", tiers, binary, "worker", "--config", s.config)
}

// restartAgent ends the agent as an operator would and starts another one. The
// engine runs on, and finds it.
func (s *connectorSuite) restartAgent(tiers ...string) {
	s.agent.stop()
	s.startAgent(tiers...)
	s.awaitPlugin()
}

// awaitPlugin waits until both parts of the engine's plug-in have found the
// agent.
func (s *connectorSuite) awaitPlugin() {
	s.t.Helper()
	for _, role := range []string{"worker", "scheduler"} {
		s.agent.waitLine("the engine's plug-in is connected\" worker=w0 role=" + role)
	}
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
func (s *connectorSuite) tell(t *testing.T, topic, tier string) story {
	t.Helper()
	before := s.stored(t, tier)
	body := prompt(essay(topic, 300), 24)
	cold, err := s.e.complete(body)
	if err != nil {
		t.Fatal(err)
	}
	if cold.cached != 0 {
		t.Fatalf("%d tokens of a new conversation were cached", cold.cached)
	}
	s.g.eventually(topic+" is in "+tier, func() error {
		if n := s.stored(t, tier) - before; n < cold.prompt/32 {
			return fmt.Errorf("%d blocks of %d tokens", n, cold.prompt)
		}
		return nil
	})
	return story{body, cold, (cold.prompt - 1) / 32 * 32}
}

// stored is how many blocks came to a tier since the agent's start.
func (s *connectorSuite) stored(t *testing.T, tier string) int {
	t.Helper()
	n, err := metric("http://"+s.metrics, "kvasir_kvbm_stored_total", fmt.Sprintf("tier=%q", tier))
	if err != nil {
		t.Fatal(err)
	}
	return int(n)
}

// reset empties the engine's own cache.
func (s *connectorSuite) reset(t *testing.T) {
	t.Helper()
	r, err := http.Post(s.e.url()+"/reset_prefix_cache", "", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	if b, _ := io.ReadAll(r.Body); r.StatusCode != http.StatusOK {
		t.Fatalf("reset_prefix_cache: %s: %s", r.Status, b)
	}
	// The engine tells of it with its next step.
	if _, err := s.e.complete(prompt("So it goes.", 1)); err != nil {
		t.Fatal(err)
	}
}

// back asks for the conversation again; all of it must be cached, and the answer
// the same.
func (s *connectorSuite) back(t *testing.T, st story) {
	t.Helper()
	began := time.Now()
	again, err := s.e.complete(st.body)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d tokens came back in %v", again.cached, again.prompt, time.Since(began))
	if again.cached != st.full {
		t.Errorf("%d tokens came back, want %d of %d", again.cached, st.full, again.prompt)
	}
	if again.text != st.cold.text {
		t.Errorf("the answer is %q, cold it was %q", again.text, st.cold.text)
	}
}

// through asks for the conversation through the gateway, once that knows that
// its blocks are in one tier alone: it says what will be cached, and has them
// staged before the engine asks.
func (s *connectorSuite) through(t *testing.T, st story, tier string) {
	t.Helper()
	body, err := json.Marshal(st.body)
	if err != nil {
		t.Fatal(err)
	}
	file := writeFile(t, "prompt.json", string(body))
	want := st.full / 32
	s.g.eventually("the gateway would restore from "+tier, func() error {
		out, err := run(t, nil, binary, "explain", "--prompt", file, "--url", s.g.url, "--json")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		var e explanation
		if err := json.Unmarshal([]byte(out), &e); err != nil {
			return err
		}
		if got := e.winner(t).Blocks; got[tier] != want {
			return fmt.Errorf("%v", got)
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

func (s *connectorSuite) comesBackFromCPU(t *testing.T) {
	st := s.tell(t, "the reset", "cpu")
	s.reset(t)
	s.through(t, st, "cpu")
	s.reset(t)
	s.back(t, st)
}

// Once as the engine asks for it, and once as the router has it staged.
func (s *connectorSuite) comesBackFromDisk(t *testing.T) {
	st := s.tell(t, "the agent's restart", "disk")
	s.restartAgent(s.onDisk()...)
	s.reset(t)
	s.back(t, st)
	s.restartAgent(s.onDisk()...)
	s.reset(t)
	s.through(t, st, "disk")
}

// Every block in the slab is damaged: none is used.
func (s *connectorSuite) corruptedIsComputed(t *testing.T) {
	st := s.tell(t, "the damage", "disk")
	s.agent.stop()
	slabs, _ := filepath.Glob(filepath.Join(s.dir, "w0", "*"))
	damaged := 0
	for _, name := range slabs {
		damaged += damage(t, name)
	}
	if damaged == 0 {
		t.Fatalf("no slab in %v", slabs)
	}
	s.startAgent(s.onDisk()...)
	s.awaitPlugin()
	s.reset(t)
	again, err := s.e.complete(st.body)
	if err != nil {
		t.Fatal(err)
	}
	s.agent.waitLine("a stored block is not what was written")
	if again.cached != 0 || again.text != st.cold.text {
		t.Errorf("%d tokens of damaged blocks were used; %q, cold it was %q", again.cached, again.text, st.cold.text)
	}
}

// damage changes a bit in each 4 KiB of a file that is as long as a slab is.
func damage(t *testing.T, name string) (changed int) {
	t.Helper()
	file, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil || info.Size() < 128<<20 {
		return 0
	}
	b := make([]byte, 1)
	for at := int64(1 << 20); at < info.Size(); at += 4096 {
		if _, err := file.ReadAt(b, at+7); err != nil {
			t.Fatal(err)
		}
		b[0] ^= 1
		if _, err := file.WriteAt(b, at+7); err != nil {
			t.Fatal(err)
		}
		changed++
	}
	return changed
}

func (s *connectorSuite) comesBackFromRedis(t *testing.T) {
	port := freePort(t)
	redisServer(t, port)
	tiers := []string{"KVASIR_TIERS_CPU=8MiB", fmt.Sprintf("KVASIR_TIERS_REDIS_URL=redis://127.0.0.1:%d/0", port)}
	s.restartAgent(tiers...)
	st := s.tell(t, "the shared store", "redis")
	s.restartAgent(tiers...)
	s.reset(t)
	s.back(t, st)
	s.restartAgent(tiers...)
	s.reset(t)
	s.through(t, st, "redis")
	s.restartAgent(s.onDisk()...)
}

// The agent stays, and its memory with it.
func (s *connectorSuite) comesBackAfterEngineRestart(t *testing.T) {
	st := s.tell(t, "the engine's restart", "cpu")
	s.f.kill(s.e)
	s.f.run(s.e)
	s.f.await(s.e)
	s.back(t, st)
}

// talks are conversations of several turns, asked of the engine by some clients
// at once. What a conversation's turn is answered is then asked again under a
// salt of its own, so that nothing is cached: that is the truth.
type talks struct {
	mu      sync.Mutex
	answers map[string]string // by prompt
	cached  int
	tokens  int
}

func (s *connectorSuite) talk(t *testing.T, rng *rand.Rand, conversations, turns int, during func(done int)) *talks {
	t.Helper()
	k := &talks{answers: map[string]string{}}
	var open []string
	for i := range conversations {
		open = append(open, essay(fmt.Sprint(t.Name(), i%(conversations/2+1), " ", rng.IntN(3)), 60+rng.IntN(140)))
	}
	done := 0
	for range turns {
		rng.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		inParallel(8, len(open), func(i int) {
			if i%5 == 0 { // some clients go away at once, and ask again
				s.abandon(prompt(open[i], 8), time.Duration(i%40)*time.Millisecond)
			}
			got, err := s.e.complete(prompt(open[i], 8))
			k.mu.Lock()
			defer k.mu.Unlock()
			if err != nil {
				t.Errorf("a request failed: %v", err)
				return
			}
			k.answers[open[i]] = got.text
			k.cached, k.tokens = k.cached+got.cached, k.tokens+got.prompt
			open[i] += got.text + fmt.Sprintf(" And then, %d?", i)
			done++
			during(done)
		})
	}
	return k
}

// abandon asks and leaves after a moment.
func (s *connectorSuite) abandon(body map[string]any, after time.Duration) {
	ctx, cancel := context.WithTimeout(s.t.Context(), after)
	defer cancel()
	s.e.abandonable(ctx, body)
}

// abandonable asks for what nobody may wait for.
func (e *vllmEngine) abandonable(ctx context.Context, body map[string]any) {
	b, _ := json.Marshal(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url()+"/v1/completions", bytes.NewReader(b))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	if r, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
}

// verify compares every answer with a cold run's.
func (k *talks) verify(t *testing.T, s *connectorSuite) {
	t.Helper()
	var prompts []string
	for p := range k.answers {
		prompts = append(prompts, p)
	}
	inParallel(8, len(prompts), func(i int) {
		body := prompt(prompts[i], 8)
		body["cache_salt"] = fmt.Sprint("cold", len(prompts), "-", i)
		cold, err := s.e.complete(body)
		switch {
		case err != nil:
			t.Errorf("a cold run failed: %v", err)
		case cold.cached != 0:
			t.Errorf("a cold run found %d tokens cached", cold.cached)
		case cold.text != k.answers[prompts[i]]:
			t.Errorf("%.40s...: %q, cold it is %q", prompts[i], k.answers[prompts[i]], cold.text)
		}
	})
	t.Logf("%d different prompts answered as when cold; %d of %d tokens asked were cached", len(prompts), k.cached, k.tokens)
}

func inParallel(clients, n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range clients {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}

func seeded(t *testing.T) *rand.Rand {
	seed := uint64(fromEnv(t, "KVASIR_SEED", int(time.Now().UnixNano())))
	t.Logf("KVASIR_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// manyAtOnce: KVASIR_CONVERSATIONS sets another number than 120.
func (s *connectorSuite) manyAtOnce(t *testing.T) {
	k := s.talk(t, seeded(t), fromEnv(t, "KVASIR_CONVERSATIONS", 120), 3, func(done int) {
		if done%25 == 0 { // running requests are preempted and start over
			r, err := http.Post(s.e.url()+"/reset_prefix_cache?reset_running_requests=true", "", nil)
			if err != nil {
				t.Error(err)
				return
			}
			r.Body.Close()
		}
	})
	if k.cached == 0 {
		t.Error("nothing was cached: this tests nothing")
	}
	k.verify(t, s)
}

// The agent dies in the middle, comes back and dies again: the requests go on.
func (s *connectorSuite) agentKilledUnderLoad(t *testing.T) {
	k := s.talk(t, seeded(t), 40, 3, func(done int) {
		switch done {
		case 30, 80:
			s.agent.kill()
		case 50, 100:
			s.startAgent(s.onDisk()...)
		}
	})
	k.verify(t, s)
	s.awaitPlugin()
	if err := statusOK(s.e.url() + "/health"); err != nil {
		t.Error(err)
	}
}
