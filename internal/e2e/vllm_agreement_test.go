package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

// settledRequests is how many requests are compared, at the least.
const settledRequests = 2000

// agreement sends seeded traffic through a gateway and compares what it
// predicts to be cached with what the engines report. The pools hold 40 blocks,
// so there are evictions all the time; caches are reset, an event stream is cut,
// an engine is killed and comes back, and a fresh gateway has to catch up.
//
// A request is settled when the events of those before it have arrived: what
// comes in a burst is asked not to fail, and is not compared.
func agreement(t *testing.T, f *vllmFleet, a, b *vllmEngine) {
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
	r := newAgreement(t, fresh(), "tiny", seat{"a", a, 0}, seat{"b", b, 0})

	r.phase("steady", settledRequests/2)

	cut.cut()
	r.g.eventually("the cut is noticed", func() error { return r.g.eventsOf("a", false) })
	r.burst(60)
	cut.mend()
	r.g.eventually("the events are back", func() error { return r.g.eventsOf("a", true) })
	r.calm()
	r.phase("after a cut stream", settledRequests/8)

	f.kill(b)
	r.burst(20) // nobody may notice
	f.run(b)
	f.await(b)
	r.g.awaitWorkers(2)
	r.g.eventually("its events are followed", func() error { return r.g.eventsOf("b", true) })
	r.calm()
	r.phase("after an engine's restart", settledRequests/4)

	r.g.stop()
	r.g = fresh()
	r.phase("a gateway that came later", settledRequests/8)
	r.verdict(settledRequests)
}

// agreementRun is the traffic and its score.
type agreementRun struct {
	t       *testing.T
	g       gateway
	traffic *traffic
	at      []seat
	resumes bool // the engine keeps state to resume a prompt at its last block but for a token

	settled, agreed, hits int
	burstSent             int
	tokens, cached        int
	byWorker              map[string]int
}

func newAgreement(t *testing.T, g gateway, model string, at ...seat) *agreementRun {
	return &agreementRun{t: t, g: g, traffic: newTraffic(model, trial.Seed(t)), at: at, byWorker: map[string]int{}}
}

// seat is a worker and the engine that it is, or the rank of one.
type seat struct {
	worker string
	engine *vllmEngine
	rank   int
}

// phase sends n requests one by one, with a burst and a reset now and then.
func (r *agreementRun) phase(name string, n int) {
	r.t.Helper()
	began, before, agreed := time.Now(), r.settled, r.agreed
	for i := range n {
		if i%100 == 60 {
			r.burst(8)
			r.calm()
		}
		if i%150 == 110 {
			r.reset(r.at[(i/150)%len(r.at)].engine)
			r.calm()
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
	r.byWorker[got.worker]++
	r.settle(q, got)
	if got.agrees() {
		r.agreed++
		return
	}
	r.t.Logf("request %d (%s) on %s: predicted %s, the engine found %d of %d", r.settled, q.kind, got.worker, got.predicted, got.cached, got.prompt)
}

// settle waits until the index has what the engine computed for a request: every
// full block of its prompt, or as much of it as could be resumed if the same
// prompt came again. What had to go for that was announced before.
func (r *agreementRun) settle(q vllmRequest, got vllmAnswer) {
	r.t.Helper()
	body, err := json.Marshal(q.body)
	if err != nil {
		r.t.Fatal(err)
	}
	full := got.prompt / 32
	if r.resumes {
		full = (got.prompt - 1) / 32
	}
	r.g.eventually("the request's blocks are in the index", func() error {
		status, _, answer := r.g.post("/kvasir/v1/explain", string(body))
		var record struct {
			Candidates []struct {
				Worker string
				Inputs struct{ Held []struct{ Blocks int } }
			}
		}
		if err := json.Unmarshal([]byte(answer), &record); err != nil || status != http.StatusOK {
			return fmt.Errorf("%d: %s", status, answer)
		}
		for _, c := range record.Candidates {
			held := 0
			for _, span := range c.Inputs.Held {
				held += span.Blocks
			}
			if c.Worker == got.worker && held >= full {
				return nil
			}
		}
		return fmt.Errorf("not all of %d blocks on %s: %s", full, got.worker, answer)
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

// calm waits until the events of a burst are in: past the gateway, each worker's
// engine gets a prompt that it has never seen, whose events come after them.
func (r *agreementRun) calm() {
	r.t.Helper()
	for _, at := range r.at {
		q := r.traffic.unseen()
		got, err := askVLLM(at.engine.url()+q.path, q.body, "X-data-parallel-rank", fmt.Sprint(at.rank))
		if err != nil {
			r.t.Fatal(err)
		}
		got.worker = at.worker
		r.settle(q, got)
	}
}

// reset empties an engine's cache. vLLM tells of it with its next step, which
// being calm after it makes happen.
func (r *agreementRun) reset(e *vllmEngine) {
	r.t.Helper()
	resp, err := http.Post(e.url()+"/reset_prefix_cache", "", nil)
	if err != nil {
		r.t.Fatal(err)
	}
	resp.Body.Close()
}

func (r *agreementRun) verdict(least int) {
	share := float64(r.agreed) / float64(r.settled)
	r.t.Logf("%d of %d settled requests agree (%.2f %%); %d had a hit, %d of %d prompt tokens were cached; by worker %v; %d more in bursts",
		r.agreed, r.settled, 100*share, r.hits, r.cached, r.tokens, r.byWorker, r.burstSent)
	if r.settled < least || share < 0.995 {
		r.t.Errorf("want %d settled requests and 99.5 %% of them to agree", least)
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
	model  string
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

// newTraffic has prompts of about two thirds more than the two pools hold.
func newTraffic(model string, seed uint64) *traffic {
	tr := &traffic{model: model, rng: rand.New(rand.NewPCG(seed, 0))}
	for range 6 {
		family := make([]int, 400)
		for i := range family {
			family[i] = 1 + tr.rng.IntN(150_000)
		}
		tr.tokens = append(tr.tokens, family)
	}
	for i := range 5 {
		tr.talks = append(tr.talks, &talk{salt: salts[i%len(salts)]})
	}
	return tr
}

func (tr *traffic) next() vllmRequest {
	tr.mu.Lock()
	defer tr.mu.Unlock()
	body := map[string]any{"model": tr.model, "temperature": 0, "max_tokens": 1 + tr.rng.IntN(4)}
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
	prompt := append([]int(nil), tr.tokens[i][:200+tr.rng.IntN(200)]...)
	for range tr.rng.IntN(80) {
		prompt = append(prompt, 1+tr.rng.IntN(150_000))
	}
	body["prompt"] = prompt
	tr.salt(body, i)
	return vllmRequest{"tokens", "/v1/completions", body, func(vllmAnswer) {}}
}

// unseen is a prompt that nobody holds: it goes to any worker.
func (tr *traffic) unseen() vllmRequest {
	prompt := make([]int, 40)
	for i := range prompt {
		prompt[i] = 1 + tr.rng.IntN(150_000)
	}
	return vllmRequest{"unseen", "/v1/completions", map[string]any{"model": tr.model, "prompt": prompt, "max_tokens": 1}, nil}
}

func (tr *traffic) byText(body map[string]any) vllmRequest {
	i := tr.rng.IntN(3)
	body["prompt"] = essay(fmt.Sprint("topic", i), 120+60*tr.rng.IntN(3))
	tr.salt(body, i)
	return vllmRequest{"text", "/v1/completions", body, func(vllmAnswer) {}}
}

// salt gives most requests for a prefix the same salt, and some another.
func (tr *traffic) salt(body map[string]any, i int) {
	if tr.rng.IntN(8) == 0 {
		i = tr.rng.IntN(len(salts))
	}
	salted(body, salts[i%len(salts)])
}

// turn is the next of a conversation that nobody waits for.
func (tr *traffic) turn(body map[string]any) (vllmRequest, bool) {
	c := tr.talks[tr.rng.IntN(len(tr.talks))]
	if c.busy {
		return vllmRequest{}, false
	}
	if c.length > 400 {
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
