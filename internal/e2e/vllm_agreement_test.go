package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// settledRequests is how many requests are compared, at the least.
const settledRequests = 2000

// agreement sends seeded traffic through a gateway and compares what it
// predicts to be cached with what the engines report. The pools hold 40 blocks,
// so there are evictions all the time; caches are reset, an event stream is cut,
// an engine is killed and comes back, and a fresh gateway has to catch up.
//
// A request is settled when none is in flight beside it: what a burst predicts
// of itself is the future, and is only asked not to fail.
func agreement(t *testing.T, f *vllmFleet, a, b *vllmEngine) {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("KVASIR_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("KVASIR_SEED=%d", seed)
	cut := newCutter(t, a.events)
	file := writeFile(t, "gateway.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
workers:
  - {id: a, url: "%s", events: {endpoint: "tcp://%s", replay: "tcp://127.0.0.1:%d"}}
  - {id: b, url: "%s"}
`, a.url(), cut.address(), a.replays, b.url()))
	fresh := func() gateway {
		g := ready(t, start(t, "kvasir serve", nil, binary, "serve", "--config", file))
		g.awaitWorkers(2)
		g.awaitTokenChecks("match")
		return g
	}
	r := &agreementRun{t: t, g: fresh(), traffic: newTraffic(seed), engines: []*vllmEngine{a, b}}

	r.phase("steady", settledRequests/2)

	cut.cut()
	r.g.eventually("the cut is noticed", func() error { return r.g.eventsOf("a", false) })
	r.burst(60)
	cut.mend()
	r.g.eventually("the events are back", func() error { return r.g.eventsOf("a", true) })
	r.phase("after a cut stream", settledRequests/8)

	f.kill(b)
	r.burst(20) // nobody may notice
	f.run(b)
	f.await(b)
	r.g.awaitWorkers(2)
	r.g.eventually("its events are followed", func() error { return r.g.eventsOf("b", true) })
	r.phase("after an engine's restart", settledRequests/4)

	r.g.stop()
	r.g = fresh()
	r.phase("a gateway that came later", settledRequests/8)
	r.verdict()
}

// agreementRun is the traffic and its score.
type agreementRun struct {
	t       *testing.T
	g       gateway
	traffic *traffic
	engines []*vllmEngine

	settled, agreed, hits int
	burstSent             int
	tokens, cached        int
	byWorker              map[string]int
}

// phase sends n requests one by one, with a burst and a reset now and then.
func (r *agreementRun) phase(name string, n int) {
	r.t.Helper()
	began, before, agreed := time.Now(), r.settled, r.agreed
	for i := range n {
		if i%100 == 60 {
			r.burst(8)
		}
		if i%150 == 110 {
			r.reset(r.engines[(i/150)%2])
		}
		r.one()
	}
	r.t.Logf("%-26s %d of %d settled requests agree, %.1f s", name, r.agreed-agreed, r.settled-before, time.Since(began).Seconds())
}

// one sends a settled request.
func (r *agreementRun) one() {
	q := r.traffic.next()
	got, err := askVLLM(r.g.url+q.path, q.body)
	if err != nil {
		r.t.Fatalf("request %d: %v", r.settled, err)
	}
	q.answered(got)
	r.settled++
	r.tokens += got.prompt
	r.cached += got.cached
	if got.cached > 0 {
		r.hits++
	}
	if r.byWorker == nil {
		r.byWorker = map[string]int{}
	}
	r.byWorker[got.worker]++
	if got.agrees() {
		r.agreed++
		return
	}
	// The engine's events were late: once they are in, the same prompt agrees.
	r.t.Logf("request %d (%s) on %s: predicted %s, the engine found %d of %d", r.settled, q.kind, got.worker, got.predicted, got.cached, got.prompt)
	r.g.eventually("the same request agrees", func() error {
		if got, err = askVLLM(r.g.url+q.path, q.body); err != nil || got.agrees() {
			return err
		}
		var decision json.RawMessage
		r.g.getJSON("/kvasir/v1/decisions/"+got.request, &decision)
		return fmt.Errorf("predicted %s, the engine found %d of %d: %s", got.predicted, got.cached, got.prompt, decision)
	})
}

// burst sends n requests, eight at a time.
func (r *agreementRun) burst(n int) {
	r.t.Helper()
	var wg sync.WaitGroup
	var failed atomic.Int64
	slots := make(chan struct{}, 8)
	for range n {
		q := r.traffic.next()
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			if got, err := askVLLM(r.g.url+q.path, q.body); err != nil {
				failed.Add(1)
				r.t.Logf("in a burst: %v", err)
			} else {
				q.answered(got)
			}
		})
	}
	wg.Wait()
	r.burstSent += n
	if failed.Load() > 0 {
		r.t.Fatalf("%d of %d requests of a burst failed", failed.Load(), n)
	}
}

// reset empties an engine's cache. vLLM tells of it with its next step, so one
// request past the gateway makes that happen.
func (r *agreementRun) reset(e *vllmEngine) {
	r.t.Helper()
	resp, err := http.Post(e.url()+"/reset_prefix_cache", "", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
	if _, err := e.complete(map[string]any{"model": e.model, "prompt": []int{1, 2, 3}, "max_tokens": 1}); err != nil {
		r.t.Fatal(err)
	}
}

func (r *agreementRun) verdict() {
	share := float64(r.agreed) / float64(r.settled)
	r.t.Logf("%d of %d settled requests agree (%.2f %%); %d had a hit, %d of %d prompt tokens were cached; by worker %v; %d more in bursts",
		r.agreed, r.settled, 100*share, r.hits, r.cached, r.tokens, r.byWorker, r.burstSent)
	if r.settled < settledRequests || share < 0.995 {
		r.t.Errorf("want %d settled requests and 99.5 %% of them to agree", settledRequests)
	}
	if r.hits < r.settled/4 {
		r.t.Errorf("only %d requests had anything cached: that shows nothing", r.hits)
	}
}

// eventsOf says whether a worker's event stream stands, as wanted or not.
func (g gateway) eventsOf(id string, want bool) error {
	var fleet struct {
		Workers []struct {
			ID     string
			Events bool `json:"events_connected"`
		}
	}
	g.getJSON("/kvasir/v1/workers", &fleet)
	for _, w := range fleet.Workers {
		if w.ID == id && w.Events == want {
			return nil
		}
	}
	return fmt.Errorf("%+v", fleet.Workers)
}

// traffic makes requests that share prefixes: prompts given as tokens,
// conversations, and texts, each of a tenant with its own salt or none.
type traffic struct {
	mu     sync.Mutex
	rng    *rand.Rand
	tokens [][]int
	talks  []*talk
}

type talk struct {
	salt     string
	busy     bool
	messages []map[string]any
	length   int // tokens, about
}

type vllmRequest struct {
	kind, path string
	body       map[string]any
	answered   func(vllmAnswer)
}

var salts = []string{"", "", "acme", "globex"}

func newTraffic(seed uint64) *traffic {
	tr := &traffic{rng: rand.New(rand.NewPCG(seed, 0))}
	for range 10 {
		family := make([]int, 600)
		for i := range family {
			family[i] = 1 + tr.rng.IntN(150_000)
		}
		tr.tokens = append(tr.tokens, family)
	}
	for i := range 8 {
		tr.talks = append(tr.talks, &talk{salt: salts[i%len(salts)]})
	}
	return tr
}

func (tr *traffic) next() vllmRequest {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	body := map[string]any{"model": "tiny", "temperature": 0, "max_tokens": 1 + tr.rng.IntN(4)}
	if tr.rng.IntN(10) == 0 {
		body["max_tokens"] = 40 // fills a block while it decodes
	}
	switch n := tr.rng.IntN(20); {
	case n < 9:
		return tr.byTokens(body)
	case n < 16:
		if q, ok := tr.turn(body); ok {
			return q
		}
	}
	return tr.byText(body)
}

func (tr *traffic) byTokens(body map[string]any) vllmRequest {
	i := tr.rng.IntN(len(tr.tokens))
	prompt := append([]int(nil), tr.tokens[i][:32+tr.rng.IntN(500)]...)
	for range tr.rng.IntN(80) {
		prompt = append(prompt, 1+tr.rng.IntN(150_000))
	}
	body["prompt"] = prompt
	salted(body, salts[tr.rng.IntN(len(salts))])
	return vllmRequest{"tokens", "/v1/completions", body, func(vllmAnswer) {}}
}

func (tr *traffic) byText(body map[string]any) vllmRequest {
	body["prompt"] = essay(fmt.Sprint("topic", tr.rng.IntN(6)), 60+60*tr.rng.IntN(4))
	salted(body, salts[tr.rng.IntN(len(salts))])
	return vllmRequest{"text", "/v1/completions", body, func(vllmAnswer) {}}
}

// turn is the next of a conversation that nobody waits for.
func (tr *traffic) turn(body map[string]any) (vllmRequest, bool) {
	c := tr.talks[tr.rng.IntN(len(tr.talks))]
	if c.busy {
		return vllmRequest{}, false
	}
	if c.length > 600 {
		*c = talk{salt: c.salt}
	}
	c.busy = true
	text := essay(fmt.Sprint("turn", tr.rng.IntN(1000)), 20+tr.rng.IntN(60))
	c.messages = append(c.messages, map[string]any{"role": "user", "content": text})
	body["messages"] = append([]map[string]any(nil), c.messages...)
	salted(body, c.salt)
	return vllmRequest{"chat", "/v1/chat/completions", body, func(a vllmAnswer) {
		tr.mu.Lock()
		defer tr.mu.Unlock()
		c.busy, c.length = false, a.prompt
		c.messages = append(c.messages, map[string]any{"role": "assistant", "content": strings.ToValidUTF8(a.text, "")})
	}}, true
}

func salted(body map[string]any, salt string) {
	if salt != "" {
		body["cache_salt"] = salt
	}
}

// cutter is a way to a port that can be cut.
type cutter struct {
	l     net.Listener
	to    string
	mu    sync.Mutex
	down  bool
	conns []net.Conn
}

func newCutter(t *testing.T, port int) *cutter {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &cutter{l: l, to: fmt.Sprintf("127.0.0.1:%d", port)}
	go c.accept()
	t.Cleanup(func() {
		l.Close()
		c.cut()
	})
	return c
}

func (c *cutter) address() string { return c.l.Addr().String() }

func (c *cutter) accept() {
	for {
		from, err := c.l.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", c.to)
		c.mu.Lock()
		if c.down || err != nil {
			from.Close()
			if err == nil {
				to.Close()
			}
			c.mu.Unlock()
			continue
		}
		c.conns = append(c.conns, from, to)
		c.mu.Unlock()
		pipe := func(to, from net.Conn) {
			_, _ = io.Copy(to, from)
			to.Close()
			from.Close()
		}
		go pipe(to, from)
		go pipe(from, to)
	}
}

func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = true
	for _, conn := range c.conns {
		conn.Close()
	}
	c.conns = nil
}

func (c *cutter) mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = false
}
