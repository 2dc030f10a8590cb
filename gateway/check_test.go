package gateway

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/workers"
)

// tokenEngine is a stand-in engine that has a model's tokenizer and template:
// /tokenize and /render give their tokens, bent by the test.
type tokenEngine struct {
	*httptest.Server
	language  *language
	rendering bool                                    // serves /render
	bend      atomic.Pointer[func([]uint32) []uint32] // nil: as they are
	status    atomic.Int64                            // answered in place of tokens; 0: none
	asked     atomic.Int64
}

func newTokenEngine(t *testing.T, path string) *tokenEngine {
	l, err := loadLanguage(path, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	e := &tokenEngine{language: l}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("GET /v1/models", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, `{"data":[{"id":"m","max_model_len":4096}]}`)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "vllm:cache_config_info{block_size=\"4\",num_gpu_blocks=\"64\"} 1.0\n")
	})
	mux.HandleFunc("POST /tokenize", func(w http.ResponseWriter, r *http.Request) { e.answer(t, w, r, "tokens") })
	mux.HandleFunc("POST /v1/chat/completions/render", func(w http.ResponseWriter, r *http.Request) {
		if !e.rendering {
			http.Error(w, `{"error":{"message":"needs --enable-scale-out"}}`, http.StatusForbidden)
			return
		}
		e.answer(t, w, r, "token_ids")
	})
	e.Server = httptest.NewServer(mux)
	t.Cleanup(e.Close)
	return e
}

func (e *tokenEngine) answer(t *testing.T, w http.ResponseWriter, r *http.Request, field string) {
	e.asked.Add(1)
	if s := e.status.Load(); s != 0 {
		w.WriteHeader(int(s))
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	p := probe{endpoint: endpointCompletion}
	if strings.Contains(string(body), `"messages"`) {
		p.endpoint = endpointChat
	}
	tokens, why, _ := tokensHere(e.language, p, body, time.Now)
	if why != "" {
		http.Error(w, `{"error":{"message":"no"}}`, http.StatusBadRequest)
		return
	}
	if bend := e.bend.Load(); bend != nil {
		tokens = (*bend)(slices.Clone(tokens))
	}
	if err := json.NewEncoder(w).Encode(map[string]any{field: tokens}); err != nil {
		t.Error(err)
	}
}

func (e *tokenEngine) bends(f func([]uint32) []uint32) { e.bend.Store(&f) }

func (e *tokenEngine) check(t *testing.T, path string) TokenCheck {
	t.Helper()
	c, err := CheckTokens(t.Context(), e.Client(), workers.Info{ID: "w", URL: e.URL, Model: "m"}, path)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestTokensOfTheSameModelMatch(t *testing.T) {
	model := byteModel(t)
	for _, rendering := range []bool{false, true} {
		e := newTokenEngine(t, model)
		e.rendering = rendering
		if c := e.check(t, model); c.Result != TokensMatch || c.Difference != nil || c.Compared < len(probes)-3 {
			t.Errorf("render %v: %+v", rendering, c)
		}
	}
}

func TestADifferenceIsNamedWithItsPlaceAndBothTokens(t *testing.T) {
	model := byteModel(t)
	e := newTokenEngine(t, model)
	e.bends(func(ids []uint32) []uint32 { ids[3]++; return ids })
	c := e.check(t, model)
	if d := c.Difference; c.Result != TokenizerDiffers || d == nil || d.Probe != "plain" || d.Position != 3 || d.Here == d.There {
		t.Errorf("%+v %v", c, c.Difference)
	}
	e.bends(func(ids []uint32) []uint32 { return append(ids, 10) })
	if d := e.check(t, model).Difference; d == nil || d.Here != "the end" || !strings.HasPrefix(d.There, "10 ") {
		t.Errorf("one more at the end: %v", d)
	}
}

func TestATemplateThatDiffersIsToldFromATokenizer(t *testing.T) {
	model := byteModel(t)
	e := newTokenEngine(t, model)
	if c := e.check(t, withTemplate(t, model, "assistant:", "assistant: ")); c.Result != TemplateDiffers || c.Difference.Probe != "user" {
		t.Errorf("%+v", c)
	}
	if c := e.check(t, withTemplate(t, model, "system comes first", "no")); c.Result != TokensMatch {
		t.Errorf("a template that says no in other words: %+v", c)
	}
}

// withTemplate is a copy of a model whose settings have one text replaced.
func withTemplate(t *testing.T, model, old, new string) string {
	t.Helper()
	dir := t.TempDir()
	for _, name := range []string{"tokenizer.json", "tokenizer_config.json"} {
		b, err := os.ReadFile(filepath.Join(model, name))
		if err != nil {
			t.Fatal(err)
		}
		if name == "tokenizer_config.json" {
			b = []byte(strings.ReplaceAll(string(b), old, new))
		}
		if err := os.WriteFile(filepath.Join(dir, name), b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestAnEngineThatCannotBeAskedProvesNothing(t *testing.T) {
	model := byteModel(t)
	e := newTokenEngine(t, model)
	for status, want := range map[int64]string{http.StatusNotFound: TokensUnchecked, http.StatusBadRequest: TokensUnchecked} {
		e.status.Store(status)
		if c := e.check(t, model); c.Result != want {
			t.Errorf("%d: %+v", status, c)
		}
	}
	e.status.Store(http.StatusInternalServerError)
	if c, err := CheckTokens(t.Context(), e.Client(), workers.Info{URL: e.URL, Model: "m"}, model); err == nil {
		t.Errorf("500: %+v", c)
	}
}

// A model that differs is tokenized by its engine; when the engine comes back
// with the right tokenizer, the gateway's own is used again.
func TestTheCheckDecidesWhoTokenizes(t *testing.T) {
	e := newTokenEngine(t, byteModel(t))
	e.bends(func(ids []uint32) []uint32 { return append(ids, 7) })
	s := &setting{t: t, index: prefixindex.New(prefixindex.Options{}), logs: &lockedBuffer{}}
	s.start([]workers.Info{{ID: "w", URL: e.URL, Model: "m", BlockSize: blockSize}}, nil)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.g.CheckTokens(ctx)
	}()
	defer func() {
		stop()
		<-done
	}()
	result := func() string { return s.g.checker.last("w").check.Result }
	tokens := func() *promptTokens {
		q, err := parseInference(endpointCompletion, []byte(`{"model":"m","prompt":"abc"}`))
		if err != nil {
			t.Fatal(err)
		}
		p, err := s.g.tokenize(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	eventually(t, "found out", func() bool { return result() == TokenizerDiffers })
	if p := tokens(); p.from != fromEngine || !slices.Equal(p.tokens, []uint32{'a', 'b', 'c', 7}) {
		t.Errorf("%+v", p)
	}
	if log := s.logs.String(); !strings.Contains(log, "the tokenizer is not the engine's") || !strings.Contains(log, `probe`) {
		t.Errorf("the log says\n%s", log)
	}

	e.bend.Store(nil)
	s.g.c.Fleet.Worker("w").ReportFailure(io.EOF) // gone, and back with the next probe
	eventually(t, "trusted again", func() bool { return result() == TokensMatch })
	asked := e.asked.Load()
	if p := tokens(); p.from != fromGateway || e.asked.Load() != asked {
		t.Errorf("%+v", p)
	}
}
