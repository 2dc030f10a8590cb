package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// sharedRequests is how many requests are compared with what one engine answers:
// KVASIR_SHARED of them by hand, few in CI.
func sharedRequests(t *testing.T) int {
	n, err := strconv.Atoi(os.Getenv("KVASIR_SHARED"))
	if err != nil {
		return 24
	}
	return max(n, 8)
}

// TestVLLMDisagg is a part of TestVLLM by itself, for runs by hand:
//
//	KVASIR_SHARED=200 make test-vllm VLLM_TESTS='^TestVLLMDisagg$'
func TestVLLMDisagg(t *testing.T) {
	f := startVLLM(t)
	one := f.engine("one", "tiny", vllmModel(t, "KVASIR_VLLM_TINY"), 160)
	f.up(one)
	disaggregated(t, f, one, true)
}

// disaggregated has two engines share requests, the KV going from one to the other
// by NIXL: what comes out is what one engine says, whether workers live or die. What
// needs a machine to itself, or an engine started once more, is for runs by hand.
func disaggregated(t *testing.T, f *vllmFleet, one *vllmEngine, byHand bool) {
	p, d := f.half("p", one, "kv_producer"), f.half("d", one, "kv_consumer")
	f.up(p, d)
	defer f.kill(p)
	defer f.kill(d)
	s := &sharing{t: t, f: f, one: one, p: p, d: d, byHand: byHand, traffic: newTraffic("tiny", 7)}
	n := sharedRequests(t)
	t.Run("equal", func(t *testing.T) { s.equal(t, n) })
	t.Run("bypass", s.bypasses)
	t.Run("left", s.clientsThatLeave)
	t.Run("killed", func(t *testing.T) { s.killed(t, n) })
}

// half is one of two engines that share requests.
func (f *vllmFleet) half(name string, like *vllmEngine, role string) *vllmEngine {
	e := f.engine(name, like.model, like.folder, 160, "--kv-transfer-config",
		fmt.Sprintf(`{"kv_connector":"NixlConnector","kv_role":%q,"kv_buffer_device":"cpu"}`, role))
	e.env = map[string]string{
		"UCX_TLS": "tcp,shm,self", "VLLM_NIXL_SIDE_CHANNEL_HOST": "127.0.0.1", "VLLM_NIXL_SIDE_CHANNEL_PORT": fmt.Sprint(freePort(f.t)),
	}
	return e
}

type sharing struct {
	t       *testing.T
	f       *vllmFleet
	one     *vllmEngine // which answers alone
	p, d    *vllmEngine
	byHand  bool
	traffic *traffic
}

// gateway is one in front of both, told no more than where they are.
func (s *sharing) gateway(t *testing.T, policy string) gateway {
	g := ready(t, start(t, "kvasir serve", []string{"KVASIR_ROUTER_POLICY=" + policy}, binary, "serve", "--listen", "127.0.0.1:0",
		"--worker", s.p.url(), "--worker", s.d.url()))
	g.awaitWorkers(2)
	g.eventually("the engines have told their roles", func() error {
		var fleet struct {
			Workers []struct{ ID, Role string }
		}
		g.getJSON("/kvasir/v1/workers", &fleet)
		roles := map[string]string{}
		for _, w := range fleet.Workers {
			roles[w.ID] = w.Role
		}
		if roles["worker-0"] != "prefill" || roles["worker-1"] != "decode" {
			return fmt.Errorf("%v", roles)
		}
		return nil
	})
	return g
}

// shared is what came of a request that may have been shared.
type shared struct {
	text, finish              string
	prompt, completed, cached int
	id                        string
	legs, bypass              string
}

// ask sends a body, streamed or not.
func ask(url, path string, body map[string]any) (a shared, err error) {
	b, err := json.Marshal(body)
	if err != nil {
		return a, err
	}
	resp, err := http.Post(url+path, "application/json", bytes.NewReader(b))
	if err != nil {
		return a, err
	}
	defer resp.Body.Close()
	a.id = resp.Header.Get("X-Request-Id")
	if resp.StatusCode != http.StatusOK {
		problem, _ := io.ReadAll(resp.Body)
		return a, fmt.Errorf("%s: %s", resp.Status, problem)
	}
	if body["stream"] != true {
		whole, err := io.ReadAll(resp.Body)
		if err == nil {
			err = a.take(whole)
		}
		return a, err
	}
	lines, done := bufio.NewScanner(resp.Body), false
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		payload, ok := strings.CutPrefix(lines.Text(), "data: ")
		switch {
		case !ok:
		case payload == "[DONE]":
			done = true
		default:
			if err := a.take([]byte(payload)); err != nil {
				return a, err
			}
		}
	}
	if !done {
		return a, fmt.Errorf("the stream ended early (%v): %+v", lines.Err(), a)
	}
	return a, nil
}

func (a *shared) take(payload []byte) error {
	var c struct {
		Choices []struct {
			Text           string
			Message, Delta struct{ Content string }
			FinishReason   *string `json:"finish_reason"`
		}
		Usage *struct {
			PromptTokens     int `json:"prompt_tokens"`
			CompletionTokens int `json:"completion_tokens"`
			Details          struct {
				CachedTokens int `json:"cached_tokens"`
			} `json:"prompt_tokens_details"`
		}
		Error json.RawMessage
	}
	if err := json.Unmarshal(payload, &c); err != nil || c.Error != nil {
		return fmt.Errorf("%v in %s", err, payload)
	}
	for _, choice := range c.Choices {
		a.text += choice.Text + choice.Message.Content + choice.Delta.Content
		if choice.FinishReason != nil {
			a.finish += *choice.FinishReason
		}
	}
	if u := c.Usage; u != nil {
		a.prompt, a.completed, a.cached = u.PromptTokens, u.CompletionTokens, u.Details.CachedTokens
	}
	return nil
}

// told adds what the gateway says of a request.
func (a *shared) told(g gateway) {
	g.t.Helper()
	g.eventually("the record is closed", func() error {
		var r struct {
			Done   bool
			Bypass string
			Legs   []struct{ Worker, Outcome string }
		}
		g.getJSON("/kvasir/v1/decisions/"+a.id, &r)
		if !r.Done {
			return fmt.Errorf("%+v", r)
		}
		a.bypass, a.legs = r.Bypass, ""
		for _, l := range r.Legs {
			a.legs += l.Worker + " " + l.Outcome + ";"
		}
		return nil
	})
}

// fresh is a prompt that nobody has seen.
func (s *sharing) fresh(rng *rand.Rand, tokens int) []int {
	prompt := make([]int, tokens)
	for i := range prompt {
		prompt[i] = 1 + rng.IntN(150_000)
	}
	return prompt
}

// body is a request of any kind.
func (s *sharing) body() (path string, body map[string]any) {
	q := s.traffic.next()
	q.body["max_tokens"] = 4 + len(fmt.Sprint(q.body))%24
	if len(fmt.Sprint(q.body))%2 == 0 {
		q.body["stream"], q.body["stream_options"] = true, map[string]any{"include_usage": true}
	}
	q.answered(vllmAnswer{prompt: len(fmt.Sprint(q.body)) / 4, text: "so it goes"}) // a conversation goes on whatever was said
	return q.path, q.body
}

// same fails unless an answer is the one engine's.
func (s *sharing) same(t *testing.T, path string, body map[string]any, got shared) {
	t.Helper()
	want, err := ask(s.one.url(), path, body)
	if err != nil {
		t.Fatal(err)
	}
	if got.text != want.text || got.finish != want.finish || got.prompt != want.prompt || got.completed != want.completed {
		t.Errorf("%s: got %+v, one engine says %+v", path, got, want)
	}
}

func (s *sharing) equal(t *testing.T, n int) {
	g := s.gateway(t, "round-robin") // shares whatever can be
	began := time.Now()
	var both atomic.Int64
	inParallel(4, n, func(int) {
		path, body := s.body()
		got, err := ask(g.url, path, body)
		if err != nil {
			t.Error(err)
			return
		}
		if got.told(g); got.legs == "worker-0 ok;worker-1 ok;" {
			both.Add(1)
		} else {
			t.Logf("legs %q, bypass %q", got.legs, got.bypass)
		}
		s.same(t, path, body, got)
	})
	t.Logf("%d of %d requests were shared, in %v", both.Load(), n, time.Since(began))
	if both.Load() < int64(n) {
		t.Errorf("only %d of %d requests were shared", both.Load(), n)
	}
	// What the prefill worker had cached is what the client is told.
	rng := rand.New(rand.NewPCG(1, 2))
	body := map[string]any{"model": "tiny", "prompt": s.fresh(rng, 300), "max_tokens": 4, "temperature": 0}
	for i, cached := range []int{0, 288} {
		got, err := ask(g.url, "/v1/completions", body)
		if err != nil || got.cached != cached {
			t.Errorf("time %d: %d cached tokens, want %d; %v", i, got.cached, cached, err)
		}
	}
}

// The router has the decode worker compute what is short or cached there, and the
// prefill worker what would hold up streams.
func (s *sharing) bypasses(t *testing.T) {
	g := s.gateway(t, "predicted")
	stop := make(chan struct{})
	var streams sync.WaitGroup
	for i := range 3 { // streams at the decode worker, one after the other
		streams.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				body := map[string]any{"model": "tiny", "prompt": []int{9, i, n}, "max_tokens": 400, "ignore_eos": true, "stream": true}
				if _, err := ask(g.url, "/v1/completions", body); err != nil {
					t.Error(err)
				}
			}
		})
	}
	defer streams.Wait()
	defer close(stop)
	g.eventually("streams run at the decode worker", func() error {
		n, err := metric(s.d.url(), "vllm:num_requests_running", "")
		if err == nil && n < 2 {
			err = fmt.Errorf("%v", n)
		}
		return err
	})
	rng := rand.New(rand.NewPCG(3, 4))
	request := func(prompt []int) shared {
		got, err := ask(g.url, "/v1/completions", map[string]any{"model": "tiny", "prompt": prompt, "max_tokens": 4, "temperature": 0})
		if err != nil {
			t.Fatal(err)
		}
		got.told(g)
		return got
	}
	long := s.fresh(rng, 900)
	if got := request(long); got.legs != "worker-0 ok;worker-1 ok;" && s.byHand { // a busy machine's steps may cost more than they save
		t.Errorf("a long prompt: %+v", got)
	}
	if got := request(s.fresh(rng, 12)); got.legs != "" || got.bypass == "" {
		t.Errorf("a short prompt: %+v", got)
	}
	g.eventually("a prompt cached at the decode worker is computed there", func() error {
		if got := request(long); got.bypass != "cached" || got.cached < 800 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}

// Clients leave at random moments: nothing stays pinned at the prefill worker, nor
// in the gateway's books.
func (s *sharing) clientsThatLeave(t *testing.T) {
	g := s.gateway(t, "round-robin")
	rng := rand.New(rand.NewPCG(5, 6))
	var waits []time.Duration
	var prompts [][]int
	for range 24 {
		waits = append(waits, time.Duration(rng.IntN(120))*time.Millisecond)
		prompts = append(prompts, s.fresh(rng, 600))
	}
	inParallel(6, len(waits), func(i int) {
		client := http.Client{Timeout: waits[i] + time.Millisecond}
		b, _ := json.Marshal(map[string]any{"model": "tiny", "prompt": prompts[i], "max_tokens": 30, "stream": true})
		if resp, err := client.Post(g.url+"/v1/completions", "application/json", bytes.NewReader(b)); err == nil {
			_, _ = io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
		}
	})
	began := time.Now()
	for _, e := range []*vllmEngine{s.p, s.d} {
		g.eventually("no KV is in use at "+e.name, func() error {
			used, err := metric(e.url(), "vllm:kv_cache_usage_perc", "")
			if err == nil && used > 0 {
				err = fmt.Errorf("%.3f of it", used)
			}
			return err
		})
	}
	t.Logf("nothing was in use %v after the last had left", time.Since(began))
	g.eventually("the books are closed", func() error {
		added, err := metric(g.url, "kvasir_router_ledger_added_total", "")
		if err != nil {
			return err
		}
		released, err := metric(g.url, "kvasir_router_ledger_released_total", "")
		if err == nil && added != released {
			err = fmt.Errorf("%v booked, %v released", added, released)
		}
		return err
	})
}

// Either worker dies under load, and comes back: no request fails, and every
// answer is the one engine's.
func (s *sharing) killed(t *testing.T, n int) {
	g := s.gateway(t, "round-robin")
	for _, victim := range []*vllmEngine{s.p, s.d} {
		type asked struct {
			path string
			body map[string]any
			got  shared
		}
		var mu sync.Mutex
		var all []asked
		var killing sync.WaitGroup
		var begun atomic.Int64
		failed := 0
		inParallel(4, n, func(int) {
			path, body := s.body()
			if int(begun.Add(1)) == n/4 {
				killing.Go(func() { s.f.kill(victim) })
			}
			got, err := ask(g.url, path, body)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				failed++
				t.Logf("%s: %v", path, err)
			}
			all = append(all, asked{path, body, got})
		})
		killing.Wait()
		both := 0
		for _, a := range all {
			a.got.told(g)
			if strings.HasSuffix(a.got.legs, "worker-0 ok;worker-1 ok;") {
				both++
			}
			s.same(t, a.path, a.body, a.got)
		}
		t.Logf("%s killed: %d of %d requests failed, %d were shared", victim.name, failed, n, both)
		if failed > 0 {
			t.Errorf("%d requests failed", failed)
		}
		if victim == s.p || s.byHand {
			s.f.run(victim)
			s.f.await(victim)
		}
	}
	if !s.byHand {
		return
	}
	g.eventually("requests are shared again", func() error {
		path, body := s.body()
		got, err := ask(g.url, path, body)
		if err != nil {
			t.Fatal(err)
		}
		if got.told(g); got.legs != "worker-0 ok;worker-1 ok;" {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}
