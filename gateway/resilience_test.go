package gateway

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	openai "github.com/sashabaranov/go-openai"

	"github.com/kvasir-ai/kvasir/workers"
)

const streamBody = `{"model":"m","stream":true,"messages":[{"role":"user","content":"hello there"}]}`

// cut ends the connection to the gateway without a word.
func cut(w http.ResponseWriter) {
	c, _, err := http.NewResponseController(w).Hijack()
	if err == nil {
		_ = c.Close()
	}
}

func TestAnotherWorkerAnswersWhenOneFails(t *testing.T) {
	for name, failure := range map[string]func(http.ResponseWriter, *http.Request, []byte) bool{
		"closes the connection": func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { cut(w); return true },
		"502":                   func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(502); return true },
		"503":                   func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(503); return true },
		"dies within a whole answer": func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			w.Header().Set("Content-Length", "100")
			io.WriteString(w, `{"id":`)
			panic(http.ErrAbortHandler)
		},
		"dies before its first event is complete": func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: {\"id\"")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
		"an empty stream": func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			w.Header().Set("Content-Type", "text/event-stream")
			return true
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetting(t, 2, nil)
			var chosen sync.Once
			first := ""
			for _, e := range s.engines {
				e.Config.ErrorLog = quiet
				e.does(func(w http.ResponseWriter, r *http.Request, b []byte) bool {
					chosen.Do(func() { first = e.name })
					return first == e.name && failure(w, r, b)
				})
			}
			r := s.post("/v1/chat/completions", streamBody)
			rec := s.record(r.header.Get("X-Request-Id"))
			if r.status != 200 || !strings.HasSuffix(string(r.body), "data: [DONE]\n\n") || rec.Outcome != outcomeOK {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if len(rec.Failed) != 1 || string(rec.Failed[0].Worker) != first || string(rec.Chosen) == first || r.header.Get("X-Kvasir-Worker") != string(rec.Chosen) {
				t.Errorf("%s failed; record says %+v, then %s", first, rec.Failed, rec.Chosen)
			}
			s.booksClosed()
		})
	}
}

func TestWhenEveryWorkerFails(t *testing.T) {
	s := newSetting(t, 4, nil)
	for _, e := range s.engines {
		e.does(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(503); return true })
	}
	r := s.post("/v1/chat/completions", chatBody)
	code, _, _ := r.problem(t)
	tried := 0
	for _, e := range s.engines {
		n := len(e.received())
		tried += n
		if n > 1 {
			t.Errorf("%s was tried %d times", e.name, n)
		}
	}
	if r.status != 502 || code != string(CodeUpstreamFailed) || tried != 3 || r.header.Get("X-Kvasir-Worker") == "" {
		t.Errorf("%d %s after %d tries", r.status, code, tried)
	}
	s.booksClosed()
}

func TestARequestThatCrashesItsEngineIsNotCarriedOn(t *testing.T) {
	s := newSetting(t, 3, nil)
	for _, e := range s.engines {
		e.does(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			w.WriteHeader(500)
			io.WriteString(w, `{"error":{"message":"EngineDeadError","type":"InternalServerError","param":null,"code":500}}`)
			return true
		})
	}
	r := s.post("/v1/chat/completions", chatBody)
	_, _, message := r.problem(t)
	if n := len(s.engines[0].received()) + len(s.engines[1].received()) + len(s.engines[2].received()); r.status != 502 || n != 1 || !strings.Contains(message, "EngineDeadError") {
		t.Errorf("%d %q after %d tries", r.status, message, n)
	}
}

func TestRetriesAreBudgeted(t *testing.T) {
	s := newSetting(t, 3, nil)
	for _, e := range s.engines {
		// 503 without a dead connection leaves the worker ready for a while.
		e.does(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool { w.WriteHeader(503); return true })
	}
	const n = 60
	for range n {
		eventually(t, "a worker ready", func() bool { return len(s.g.serving("m", nil)) == 3 })
		s.post("/v1/chat/completions", chatBody)
	}
	tried := 0
	for _, e := range s.engines {
		tried += len(e.received())
	}
	if retries := tried - n; retries > retryReserve+n*retryShare+1 || retries < retryReserve {
		t.Errorf("%d retries for %d requests", retries, n)
	}
}

func TestNoWorkerReady(t *testing.T) {
	s := newSetting(t, 1, nil)
	s.engines[0].Close()
	eventually(t, "the worker's death noticed", func() bool { return len(s.g.serving("m", nil)) == 0 })
	r := s.post("/v1/chat/completions", chatBody)
	code, _, message := r.problem(t)
	if r.status != 503 || code != string(CodeNoWorker) || r.header.Get("Retry-After") != "1" || !strings.Contains(message, "w0 is unhealthy") {
		t.Errorf("%d %s %q %v", r.status, code, message, r.header)
	}
	if r := s.get("/ready"); r.status != 503 {
		t.Errorf("/ready answers %d", r.status)
	}
	if r := s.get("/health"); r.status != 200 {
		t.Errorf("/health answers %d", r.status)
	}
}

// TestAStreamThatBreaksEndsInATypedError the OpenAI client understands.
func TestAStreamThatBreaksEndsInATypedError(t *testing.T) {
	s := newSetting(t, 2, func(c *Config) { c.Limits.Migrations = -1 })
	for _, e := range s.engines {
		e.Config.ErrorLog = quiet
		e.does(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			w.Header().Set("Content-Type", "text/event-stream")
			w.Write(events(roleChunk, contentChunk))
			io.WriteString(w, `data: {"id":"half an`)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		})
	}
	c := openai.DefaultConfig("k")
	c.BaseURL, c.HTTPClient = s.server.URL+"/v1", s.client
	stream, err := openai.NewClientWithConfig(c).CreateChatCompletionStream(t.Context(), openai.ChatCompletionRequest{
		Model: "m", Messages: []openai.ChatCompletionMessage{{Role: "user", Content: "x"}},
	})
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	for range 2 {
		if _, err := stream.Recv(); err != nil {
			t.Fatalf("before the break: %v", err)
		}
	}
	_, err = stream.Recv()
	var api *openai.APIError
	if !errors.As(err, &api) || api.Code != string(CodeUpstreamFailed) {
		t.Errorf("after the break: %v", err)
	}
	rec := s.record(stream.Header().Get("X-Request-Id"))
	if rec.Outcome != string(CodeUpstreamFailed) || len(rec.Failed) != 0 {
		t.Errorf("%+v", rec)
	}
	s.booksClosed()
}

func TestAnEnginesErrorEventIsPassedOnOnce(t *testing.T) {
	s := newSetting(t, 1, func(c *Config) { c.Limits.Migrations = -1 })
	sent := events(roleChunk, `{"error":{"message":"preempted","type":"InternalServerError","param":null,"code":500}}`, "[DONE]")
	s.engines[0].does(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(sent)
		return true
	})
	r := s.post("/v1/chat/completions", streamBody)
	if string(r.body) != string(sent) {
		t.Errorf("the client got %q", r.body)
	}
	if rec := s.record(r.header.Get("X-Request-Id")); rec.Outcome != string(CodeUpstreamFailed) {
		t.Errorf("outcome %s", rec.Outcome)
	}
}

// stuck answers with what is given and then says nothing until the gateway
// leaves.
func stuck(given string) func(http.ResponseWriter, *http.Request, []byte) bool {
	return func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
		if given != "" {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, given)
			w.(http.Flusher).Flush()
		}
		<-r.Context().Done()
		return true
	}
}

func TestAClientThatLeavesEndsTheUpstream(t *testing.T) {
	for name, given := range map[string]string{"before the first event": "", "within the stream": string(events(roleChunk, contentChunk))} {
		t.Run(name, func(t *testing.T) {
			s := newSetting(t, 1, nil)
			s.engines[0].does(stuck(given))
			ctx, leave := context.WithCancel(t.Context())
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(streamBody))
			req.Header.Set("X-Request-Id", "leaver")
			done := make(chan error)
			go func() {
				resp, err := s.client.Do(req)
				if err == nil {
					_, err = io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
				done <- err
			}()
			eventually(t, "the engine at work", func() bool { return s.engines[0].active.Load() == 1 })
			leave()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("the client got %v", err)
			}
			eventually(t, "the engine idle", func() bool { return s.engines[0].active.Load() == 0 })
			if rec := s.record("leaver"); rec.Outcome != string(CodeClientClosed) || rec.Status != 499 {
				t.Errorf("%d %s", rec.Status, rec.Outcome)
			}
			s.booksClosed()
			if len(s.g.serving("m", nil)) != 1 {
				t.Error("the worker was blamed for the client")
			}
		})
	}
}

func TestTimeLimits(t *testing.T) {
	short := 500 * time.Millisecond // a busy machine must have let the request in by then
	for name, c := range map[string]struct {
		limits Limits
		given  string
		body   string
		status int
	}{
		"no first event":  {Limits{FirstByte: short}, "", streamBody, 504},
		"silent stream":   {Limits{Idle: short, Migrations: -1}, string(events(roleChunk)), streamBody, 200},
		"endless request": {Limits{Request: short}, "", chatBody, 504},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSetting(t, 2, func(g *Config) { g.Limits = c.limits })
			for _, e := range s.engines {
				e.does(stuck(c.given))
			}
			r := s.post("/v1/chat/completions", c.body)
			if r.status != c.status {
				t.Fatalf("%d %s", r.status, r.body)
			}
			if r.status == 200 {
				last, ok := strings.CutPrefix(string(r.body), c.given+"data: ")
				if !ok {
					t.Fatalf("%s", r.body)
				}
				r.body = []byte(last)
			}
			if code, _, _ := r.problem(t); code != string(CodeDeadlineExceeded) {
				t.Errorf("code %s", code)
			}
			if n := len(s.engines[0].received()) + len(s.engines[1].received()); n > 1 {
				t.Errorf("%d attempts", n)
			}
			s.booksClosed()
		})
	}
}

func TestAdmissionIsBounded(t *testing.T) {
	s := newSetting(t, 1, func(c *Config) { c.Limits.InFlight = 2 })
	release := make(chan struct{})
	s.engines[0].does(func(http.ResponseWriter, *http.Request, []byte) bool { <-release; return false })
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { s.post("/v1/chat/completions", chatBody) })
	}
	eventually(t, "two in flight", func() bool { return s.g.admission.count() == 2 })
	r := s.post("/v1/chat/completions", chatBody)
	if code, _, _ := r.problem(t); r.status != 429 || code != string(CodeOverloaded) || r.header.Get("Retry-After") != "1" {
		t.Errorf("%d %s %v", r.status, code, r.header)
	}
	close(release)
	wg.Wait()
	if r := s.post("/v1/chat/completions", chatBody); r.status != 200 {
		t.Errorf("afterwards: %d", r.status)
	}
}

// TestDrain: readiness goes first, what is in flight finishes, nothing new
// begins, and then the drain is over.
func TestDrain(t *testing.T) {
	s := newSetting(t, 1, nil)
	release := make(chan struct{})
	s.engines[0].does(func(w http.ResponseWriter, r *http.Request, b []byte) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(events(roleChunk))
		w.(http.Flusher).Flush()
		<-release
		w.Write(events(contentChunk, "[DONE]"))
		return true
	})
	req, _ := http.NewRequest(http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(streamBody))
	resp, err := s.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	read := bufio.NewReader(resp.Body)
	if _, err := read.ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	drained := make(chan error)
	go func() { drained <- s.g.Drain(t.Context()) }()
	eventually(t, "not ready", func() bool { return s.get("/ready").status == 503 })
	eventually(t, "new requests refused", func() bool {
		r := s.post("/v1/chat/completions", chatBody)
		return r.status == 503 && r.header.Get("Retry-After") != ""
	})
	select {
	case err := <-drained:
		t.Fatalf("drained with a stream in flight: %v", err)
	default:
	}
	close(release)
	rest, err := io.ReadAll(read)
	if err != nil || !strings.HasSuffix(string(rest), "data: [DONE]\n\n") {
		t.Errorf("the stream in flight ended in %q, %v", rest, err)
	}
	if err := <-drained; err != nil {
		t.Error(err)
	}
	given, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.g.Drain(given); err != nil && !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAPanicIsAnAnswerAndAClosedBook(t *testing.T) {
	s := newSetting(t, 1, func(c *Config) {
		c.Models = nil
		c.EngineTokens = func(context.Context, workers.Info, string, []byte) ([]uint32, error) { panic("boom") }
	})
	r := s.post("/v1/chat/completions", chatBody)
	if code, _, message := r.problem(t); r.status != 500 || code != string(CodeInternal) || strings.Contains(message, "boom") {
		t.Errorf("%d %s %q", r.status, code, message)
	}
	s.record(r.header.Get("X-Request-Id"))
	s.booksClosed()
	if n := s.g.admission.count(); n != 0 {
		t.Errorf("%d still in flight", n)
	}
	if !strings.Contains(s.logs.String(), "boom") {
		t.Error("the log does not say why")
	}
}

// TestFastBurstsAreNeverTruncated: a plain ReverseProxy loses the ends of some
// fast answers, because the server closes the inbound body when the answer
// begins while the transport still reads it.
func TestFastBurstsAreNeverTruncated(t *testing.T) {
	s := newSetting(t, 2, func(c *Config) { c.Models = nil; c.EngineTokens = noTokens })
	answer := events(roleChunk, contentChunk, contentChunk, contentChunk, lastChunk, "[DONE]")
	burst := func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
		w.Header().Set("Content-Type", "text/event-stream")
		for b := answer; len(b) > 0; b = b[min(150, len(b)):] {
			w.Write(b[:min(150, len(b))])
			w.(http.Flusher).Flush()
		}
		return true
	}
	for _, e := range s.engines {
		e.does(burst)
	}
	const streams, clients = 2400, 16
	var wg sync.WaitGroup
	var mu sync.Mutex
	bad := 0
	for range clients {
		wg.Go(func() {
			for range streams / clients {
				resp, err := s.client.Post(s.server.URL+"/v1/chat/completions", "application/json", strings.NewReader(streamBody))
				if err == nil {
					var got []byte
					got, err = io.ReadAll(resp.Body)
					resp.Body.Close()
					if string(got) != string(answer) {
						err = errors.New("truncated")
					}
				}
				if err != nil {
					mu.Lock()
					bad++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	if bad > 0 {
		t.Errorf("%d of %d streams were not whole", bad, streams)
	}
	s.booksClosed()
}

func noTokens(context.Context, workers.Info, string, []byte) ([]uint32, error) {
	return nil, errors.New("none")
}

// A slow body is the client's fault, and no worker's time.
func TestABodyThatStopsIsRefused(t *testing.T) {
	s := newSetting(t, 1, func(c *Config) { c.Limits.BodyTime = 50 * time.Millisecond })
	body, w := io.Pipe()
	defer w.Close()
	go w.Write([]byte(`{"model":`))
	req := httptest.NewRequest(http.MethodPost, s.server.URL+"/v1/chat/completions", body)
	req.RequestURI = ""
	r := s.do(req)
	if code, _, _ := r.problem(t); r.status != 400 || code != string(CodeUnreadableBody) {
		t.Errorf("%d %s", r.status, code)
	}
}
