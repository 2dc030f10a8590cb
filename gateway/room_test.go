package gateway

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/queue"
	"github.com/kvasir-ai/kvasir/gateway/tenants"
	"github.com/kvasir-ai/kvasir/router"
)

// gated is a setting whose one engine answers one request at a time, when it is
// told to. queue_ahead is so short that all but the few that a worker may have
// waiting wait in the gateway.
type gated struct {
	*setting
	serve chan struct{}
	mu    sync.Mutex
	order []string // of requests, as they reached the engine
}

func newGated(t *testing.T, change func(*Config)) *gated {
	s := &gated{serve: make(chan struct{})}
	s.setting = newSetting(t, 1, func(c *Config) {
		c.Limits.QueueAhead = time.Microsecond
		if change != nil {
			change(c)
		}
	})
	s.engines[0].does(func(_ http.ResponseWriter, r *http.Request, _ []byte) bool {
		s.mu.Lock()
		s.order = append(s.order, r.Header.Get(headerRequestID))
		s.mu.Unlock()
		select {
		case <-s.serve:
		case <-r.Context().Done():
		}
		return false
	})
	return s
}

func (s *gated) reached() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.order)
}

// send begins a stream and does not wait for it; its answer comes on the channel.
func (s *gated) send(id string, header ...string) <-chan response {
	answer := make(chan response, 1)
	go func() { answer <- s.post("/v1/chat/completions", streamBody, append(header, headerRequestID, id)...) }()
	return answer
}

func (s *gated) waiting() int { return s.g.room("m").queueLength() }

func (r *room) queueLength() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.queue.Len()
}

// fill gives the engine as many as it may have; the next ones wait.
func (s *gated) fill(header ...string) (answers []<-chan response) {
	s.t.Helper()
	for i := range fewWaiting {
		answers = append(answers, s.send(fmt.Sprint("fill-", i), header...))
		eventually(s.t, "the engine at work", func() bool { return len(s.reached()) == i+1 })
	}
	return answers
}

// queued sends a request and waits until it waits in the gateway.
func (s *gated) queued(id string, header ...string) <-chan response {
	s.t.Helper()
	n := s.waiting()
	answer := s.send(id, header...)
	eventually(s.t, id+" waits", func() bool { return s.waiting() == n+1 })
	return answer
}

// release lets the engine answer n, one after the other.
func (s *gated) release(n int) {
	for range n {
		select {
		case s.serve <- struct{}{}:
		case <-time.After(30 * time.Second):
			s.t.Fatal("the engine has nobody to answer")
		}
	}
}

// answered fails unless all get their answer.
func (s *gated) answered(answers ...<-chan response) {
	s.t.Helper()
	for _, a := range answers {
		select {
		case r := <-a:
			if r.status != 200 {
				s.t.Errorf("%d %s", r.status, r.body)
			}
		case <-time.After(30 * time.Second):
			s.t.Fatal("no answer within 30 s")
		}
	}
}

// served is the order in which those that waited reached the engine.
func (s *gated) served() []string { return s.reached()[fewWaiting:] }

// While the fleet is saturated requests wait in the gateway, and go by priority,
// then in turns of the tenants, of whom the greedy one has just had its own, then
// in order.
func TestWhoGoesFirst(t *testing.T) {
	d, err := tenants.New([]tenants.Spec{
		tenantSpec("greedy", nil), tenantSpec("modest", nil),
		tenantSpec("vip", func(s *tenants.Spec) { s.Priority = queue.High }),
	})
	if err != nil {
		t.Fatal(err)
	}
	s := newGated(t, func(c *Config) { c.Tenants = d })
	answers := s.fill(as("greedy")...)
	for _, r := range []struct {
		id     string
		header []string
	}{
		{"greedy 1", as("greedy")}, {"greedy 2", as("greedy")}, {"greedy 3", as("greedy")},
		{"modest 1", as("modest")},
		{"modest low", append(as("modest"), headerPriority, "low")},
		{"vip 1", as("vip")}, {"vip normal", append(as("vip"), headerPriority, "normal")},
		{"no vip", append(as("greedy"), headerPriority, "high")}, // may not, so it is its fourth
	} {
		answers = append(answers, s.queued(strings.ReplaceAll(r.id, " ", "-"), r.header...))
	}
	s.release(len(answers))
	s.answered(answers...)
	want := []string{"vip-1", "modest-1", "vip-normal", "greedy-1", "greedy-2", "greedy-3", "no-vip", "modest-low"}
	if got := s.served(); !slices.Equal(got, want) {
		t.Errorf("the engine saw %q, want %q", got, want)
	}
	if r := s.record("greedy-1"); r.QueuedMS <= 0 {
		t.Errorf("the record does not say that it waited: %+v", r)
	}
	s.booksClosed()
}

// Whoever would wait longer than it can is told at once, with when to come back.
func TestSheddingByDeadline(t *testing.T) {
	s := newGated(t, nil)
	first := s.fill()
	second := s.queued("second") // nothing was seen yet: the guess says how fast the queue drains
	// The prompt of the one that waits is some 30 + 256 tokens, at a guess of 2 a
	// millisecond.
	r := s.post("/v1/chat/completions", streamBody, headerDeadline, "20")
	code, _, message := r.problem(t)
	if r.status != 429 || code != string(CodeOverloaded) || r.header.Get("Retry-After") == "" || !strings.Contains(message, "too late") {
		t.Errorf("%d %s %q, Retry-After %q", r.status, code, message, r.header.Get("Retry-After"))
	}
	if n := len(s.reached()); n != fewWaiting {
		t.Errorf("the engine saw %d requests", n)
	}
	// It can wait that long, but then it takes longer, and the client leaves.
	third := s.queued("third", headerDeadline, "1000")
	if r := receive(t, third); r.status != 429 && r.status != 504 {
		t.Errorf("%d %s", r.status, r.body)
	}
	s.release(len(first) + 1)
	s.answered(append(first, second)...)
	for _, wrong := range []string{"0", "-1", "soon", "1e3"} {
		if r := s.post("/v1/chat/completions", streamBody, headerDeadline, wrong); r.status != 400 {
			t.Errorf("a deadline of %s: %d", wrong, r.status)
		}
	}
	if r := s.post("/v1/chat/completions", streamBody, headerPriority, "urgent"); r.status != 400 {
		t.Errorf("an unknown priority: %d", r.status)
	}
	s.booksClosed()
}

// A deadline ends what is at an engine, and the engine is told of it.
func TestADeadlineReachesTheEngine(t *testing.T) {
	s := newSetting(t, 1, nil)
	s.engines[0].does(stuck(""))
	r := s.post("/v1/chat/completions", streamBody, headerDeadline, "50")
	if code, _, _ := r.problem(t); r.status != 504 || code != string(CodeDeadlineExceeded) {
		t.Errorf("%d %s", r.status, code)
	}
	eventually(t, "the engine idle", func() bool { return s.engines[0].active.Load() == 0 })
	if h := s.engines[0].received()[0].header.Get(headerDeadline); h == "" {
		t.Error("the engine was not told")
	}
	if len(s.g.serving("m", nil)) != 1 {
		t.Error("the worker was blamed")
	}
	// Once a stream has begun its client has what it waited for.
	s.engines[0].does(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(events(roleChunk, contentChunk))
		w.(http.Flusher).Flush()
		time.Sleep(2100 * time.Millisecond)
		w.Write(events("[DONE]"))
		return true
	})
	if r := s.post("/v1/chat/completions", streamBody, headerDeadline, "2000"); r.status != 200 || !strings.HasSuffix(string(r.body), "[DONE]\n\n") {
		t.Errorf("%d %s", r.status, r.body)
	}
	s.booksClosed()
}

func TestTheQueueIsBounded(t *testing.T) {
	s := newGated(t, func(c *Config) { c.Limits.Queue = 2 })
	first := s.fill()
	one, two := s.queued("one"), s.queued("two")
	r := s.post("/v1/chat/completions", streamBody)
	if code, _, _ := r.problem(t); r.status != 429 || code != string(CodeOverloaded) || r.header.Get("Retry-After") == "" {
		t.Errorf("a third: %d %s", r.status, r.body)
	}
	// A higher priority takes the place of the last.
	high := s.send("high", headerPriority, "high")
	if r := receive(t, two); r.status != 429 {
		t.Errorf("the last of those before: %d", r.status)
	}
	s.release(len(first) + 2)
	s.answered(append(first, one, high)...)
	if got := s.served(); !slices.Equal(got, []string{"high", "one"}) {
		t.Errorf("the engine saw %q", got)
	}
	metrics := string(s.get("/metrics").body)
	for _, line := range []string{
		`kvasir_gateway_shed_total{model="m",priority="normal",reason="full"} 1`,
		`kvasir_gateway_shed_total{model="m",priority="normal",reason="evicted"} 1`,
		`kvasir_gateway_queue_length{model="m",priority="high"} 0`,
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("no %s", line)
		}
	}
}

// Those who leave while they wait are gone at once, and nobody waits for them.
func TestLeavingTheQueue(t *testing.T) {
	s := newGated(t, nil)
	first := s.fill()
	ctx, leave := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(streamBody))
	req.Header.Set(headerRequestID, "leaver")
	gone := make(chan error, 1)
	go func() {
		_, err := s.client.Do(req)
		gone <- err
	}()
	eventually(t, "it waits", func() bool { return s.waiting() == 1 })
	next := s.queued("next")
	leave()
	<-gone
	eventually(t, "one waits", func() bool { return s.waiting() == 1 })
	if rec := s.record("leaver"); rec.Outcome != string(CodeClientClosed) {
		t.Errorf("%s", rec.Outcome)
	}
	s.release(len(first) + 1)
	s.answered(append(first, next)...)
	if got := s.served(); !slices.Equal(got, []string{"next"}) {
		t.Errorf("the engine saw %q", got)
	}
	s.booksClosed()
}

// Without a deadline the wait ends with limits.first_byte, and a drain lets those
// who wait in.
func TestTheWaitEnds(t *testing.T) {
	s := newGated(t, func(c *Config) {
		c.Limits.FirstByte = 200 * time.Millisecond
		c.Calibration = router.NewCalibration(router.Rates{PrefillBaseMS: 60_000}) // the first is thought to take a minute
	})
	long := make(chan response, 1)
	go func() { long <- s.post("/v1/chat/completions", chatBody) }()
	eventually(t, "the engine at work", func() bool { return len(s.reached()) == 1 })
	for _, body := range []string{streamBody, chatBody} {
		r := s.post("/v1/chat/completions", body)
		if code, _, _ := r.problem(t); r.status != 429 || code != string(CodeOverloaded) || r.header.Get("Retry-After") == "" {
			t.Errorf("%d %s", r.status, r.body)
		}
	}
	s.release(1)
	s.answered(long)

	s = newGated(t, nil)
	first := s.fill()
	waits := s.queued("waits")
	drained := make(chan error, 1)
	go func() { drained <- s.g.Drain(t.Context()) }()
	eventually(t, "draining", func() bool { return !s.g.admission.ready() })
	s.release(len(first) + 1)
	s.answered(append(first, waits)...)
	if err := receive(t, drained); err != nil {
		t.Error(err)
	}
}

// A client that takes nothing of its answer doesn't hold its worker; one that is
// slow and takes some does.
func TestAClientThatStalls(t *testing.T) {
	s := newSetting(t, 1, func(c *Config) { c.Limits.ClientStall = 1500 * time.Millisecond })
	s.engines[0].does(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		chunk := events(fmt.Sprintf(`{"choices":[{"delta":{"content":%q}}]}`, strings.Repeat("x", 64<<10)))
		for r.Context().Err() == nil {
			if _, err := w.Write(chunk); err != nil {
				return true
			}
		}
		return true
	})
	req, _ := http.NewRequest(http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(streamBody))
	req.Header.Set(headerRequestID, "stalls")
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the engine idle", func() bool { return s.engines[0].active.Load() == 0 })
	if rec := s.record("stalls"); rec.Outcome != string(CodeClientStalled) {
		t.Errorf("%s", rec.Outcome)
	}
	if len(s.g.serving("m", nil)) != 1 {
		t.Error("the worker was blamed for the client")
	}
	s.booksClosed()
}
