package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// standIn is an engine in this process: it speaks vLLM's wire format (streams
// with a role chunk, one chunk a token, finish reason, usage and [DONE]; vLLM's
// errors; /v1/models with max_model_len; /tokenize) but computes nothing. Its
// answer to a prompt is max_tokens times its name. Tests bend it with act.
type standIn struct {
	*httptest.Server
	name       string
	maxContext int

	// act, if set, may answer an inference request itself.
	act atomic.Pointer[func(w http.ResponseWriter, r *http.Request, body []byte) (answered bool)]

	forgets  bool // keeps no requests
	active   atomic.Int64
	mu       sync.Mutex
	requests []received
}

// received is an inference request as it reached the engine.
type received struct {
	path   string
	header http.Header
	body   []byte
}

func newStandIn(t testing.TB, name string) *standIn { return newStandInOn(nil, t, name) }

func newStandInOn(net *pipes, t testing.TB, name string) *standIn {
	e := &standIn{name: name, maxContext: 4096}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"object":"list","data":[{"id":"m","object":"model","max_model_len":%d}]}`, e.maxContext)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "vllm:num_requests_running{engine=\"0\"} %d\n", 0)
		fmt.Fprint(w, "vllm:cache_config_info{block_size=\"4\",num_gpu_blocks=\"1024\"} 1.0\n")
	})
	mux.HandleFunc("GET /kv_event_sources", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "{}") })
	mux.HandleFunc("GET /server_info", func(w http.ResponseWriter, r *http.Request) { // SGLang's
		fmt.Fprintf(w, `{"served_model_name":"m","model_path":"m","page_size":%d,"max_total_num_tokens":4096,"context_length":%d,"disaggregation_mode":"null"}`, blockSize, e.maxContext)
	})
	mux.HandleFunc("GET /v1/loads", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, `{"loads":[]}`) })
	mux.HandleFunc("POST /tokenize", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"count":3,"max_model_len":4096,"tokens":[5,6,7]}`)
	})
	mux.HandleFunc("POST /v1/chat/completions", e.infer)
	mux.HandleFunc("POST /v1/completions", e.infer)
	e.Server = net.serve(mux)
	t.Cleanup(e.Close)
	return e
}

func (e *standIn) does(act func(w http.ResponseWriter, r *http.Request, body []byte) bool) {
	e.act.Store(&act)
}

func (e *standIn) received() []received {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.requests
}

func (e *standIn) infer(w http.ResponseWriter, r *http.Request) {
	e.active.Add(1)
	defer e.active.Add(-1)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	if !e.forgets {
		e.mu.Lock()
		e.requests = append(e.requests, received{r.URL.Path, r.Header.Clone(), body})
		e.mu.Unlock()
	}
	if act := e.act.Load(); act != nil && (*act)(w, r, body) {
		return
	}
	e.answer(w, r, body)
}

type asked struct {
	Stream        bool `json:"stream"`
	MaxTokens     int  `json:"max_tokens"`
	StreamOptions struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
}

func (e *standIn) answer(w http.ResponseWriter, r *http.Request, body []byte) {
	var q asked
	if err := json.Unmarshal(body, &q); err != nil {
		e.refuse(w, http.StatusBadRequest, err.Error())
		return
	}
	if q.MaxTokens == 0 {
		q.MaxTokens = 3
	}
	chat := strings.HasSuffix(r.URL.Path, "chat/completions")
	usage := fmt.Sprintf(`{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":4}}`, 20, q.MaxTokens, 20+q.MaxTokens)
	if !q.Stream {
		w.Header().Set("Content-Type", "application/json")
		text := strings.Repeat(e.name+" ", q.MaxTokens)
		if chat {
			fmt.Fprintf(w, `{"id":"chatcmpl-1","object":"chat.completion","model":"m","choices":[{"index":0,"message":{"role":"assistant","content":%q},"finish_reason":"length"}],"usage":%s}`, text, usage)
		} else {
			fmt.Fprintf(w, `{"id":"cmpl-1","object":"text_completion","model":"m","choices":[{"index":0,"text":%q,"finish_reason":"length"}],"usage":%s}`, text, usage)
		}
		return
	}
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	send := func(format string, args ...any) {
		fmt.Fprintf(w, "data: "+format+"\n\n", args...)
		w.(http.Flusher).Flush()
	}
	piece := func(finish string) string {
		if chat {
			return `{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"content":%q},"finish_reason":` + finish + `}]}`
		}
		return `{"id":"cmpl-1","object":"text_completion","model":"m","choices":[{"index":0,"text":%q,"finish_reason":` + finish + `}]}`
	}
	if chat {
		send(`{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}]}`)
	}
	for range q.MaxTokens {
		send(piece("null"), e.name+" ")
	}
	send(piece(`"length"`), "")
	if q.StreamOptions.IncludeUsage {
		send(`{"id":"chatcmpl-1","object":"chat.completion.chunk","model":"m","choices":[],"usage":%s}`, usage)
	}
	send("[DONE]")
}

func (e *standIn) refuse(w http.ResponseWriter, status int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"error":{"message":%q,"type":"BadRequestError","param":null,"code":%d}}`, message, status)
}

// eventually waits for a condition that something else will bring about.
func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("after 30 s: not %s", what)
		}
	}
}

// receive waits for something that must come.
func receive[T any](t *testing.T, from <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(30 * time.Second):
		t.Fatal("nothing came within 30 s")
	}
	return v
}
