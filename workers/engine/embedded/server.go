package embedded

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"runtime/debug"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
)

// server is the HTTP surface. Its fields are set before it serves.
type server struct {
	name       string
	maxContext int
	vocab      int
	blockSize  int
	created    int64
	tokenizer  *tokenizer.Tokenizer
	template   *chattemplate.Template // nil: the model has none
	scheduler  *scheduler
	metrics    *metrics
	source     EventSource
	inFlight   atomic.Int64
}

// maxBody bounds a request.
const maxBody = 32 << 20

func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/chat/completions", s.counted(s.chatCompletions))
	mux.HandleFunc("POST /v1/completions", s.counted(s.completions))
	mux.HandleFunc("GET /v1/models", s.models)
	mux.HandleFunc("POST /tokenize", s.tokenize)
	mux.HandleFunc("POST /detokenize", s.detokenize)
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/ping", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /version", s.version)
	mux.HandleFunc("GET /load", s.load)
	mux.HandleFunc("GET /kv_event_sources", s.eventSources)
	mux.HandleFunc("POST /reset_prefix_cache", s.resetPrefixCache)
	mux.Handle("GET /metrics", s.metrics.handler())
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		e := badField("", "no such route: %s %s", r.Method, r.URL.Path)
		e.status = http.StatusNotFound
		writeError(w, e)
	})
	return mux
}

// counted keeps /load's count, and the caller's trace.
func (s *server) counted(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.inFlight.Add(1)
		defer s.inFlight.Add(-1)
		ctx := propagation.TraceContext{}.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
		ctx, span := otel.Tracer("github.com/kvasir-ai/kvasir/workers/engine/embedded").Start(ctx, "engine.request", trace.WithSpanKind(trace.SpanKindServer))
		defer span.End()
		h(w, r.WithContext(ctx))
	}
}

// read decodes the body into v.
func read(w http.ResponseWriter, r *http.Request, v any) *apiError {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err == nil {
		err = json.Unmarshal(body, v)
	}
	if err != nil {
		return asAPIError(err)
	}
	return nil
}

// checkModel allows our name and, as vLLM does, none.
func (s *server) checkModel(model string) *apiError {
	if model == "" || model == s.name {
		return nil
	}
	e := badField("model", "the model %q does not exist; this engine serves %q", model, s.name).withCode("model_not_found")
	e.status = http.StatusNotFound
	return e
}

func (s *server) models(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"object": "list", "data": []map[string]any{{
		"id": s.name, "object": "model", "created": s.created, "owned_by": "kvasir", "root": s.name, "parent": nil, "max_model_len": s.maxContext,
	}}})
}

func (s *server) version(w http.ResponseWriter, _ *http.Request) {
	v := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		v = info.Main.Version
	}
	writeJSON(w, http.StatusOK, map[string]string{"version": v, "engine": "kvasir-embedded"})
}

func (s *server) load(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]int64{"server_load": s.inFlight.Load()})
}

// eventSources tells where KV events are, one entry a data-parallel rank.
func (s *server) eventSources(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, map[string]any{"0": map[string]any{
		"enable_kv_cache_events": true, "publisher": "zmq",
		"endpoint": s.source.Endpoint, "replay_endpoint": s.source.Replay, "topic": s.source.Topic,
	}})
}

// resetPrefixCache forgets every block in the pages. Transfers that have just
// read them may hold them a moment longer, so it tries for a second.
func (s *server) resetPrefixCache(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	retry := time.NewTicker(10 * time.Millisecond)
	defer retry.Stop()
	for {
		done := make(chan bool, 1)
		s.scheduler.do(func() { done <- s.scheduler.reset() })
		select {
		case ok := <-done:
			if ok {
				writeJSON(w, http.StatusOK, map[string]bool{"success": true})
				return
			}
		case <-ctx.Done():
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			writeJSON(w, http.StatusOK, map[string]bool{"success": false})
			return
		}
	}
}
