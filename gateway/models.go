package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/dialect"
	"github.com/kvasir-ai/kvasir/gateway/tenants"
	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

// language is what turns a model's requests into tokens.
type language struct {
	*dialect.Dialect
	// untemplated is the same without the renderer of chats, for models whose engine
	// has another one.
	untemplated *language
}

// models knows the names that are served and their languages.
type models struct {
	configured map[string]string // name -> tokenizer path, "" if none was given
	fleet      *workers.Fleet
	log        *slog.Logger
	now        clock
	// trusted is the part of a model's language that its engines agree with.
	trusted func(name string, l *language) *language

	mu     sync.Mutex
	loaded map[string]func() (*language, error) // by path, loaded once
}

// newModels loads the configured tokenizers, so that a wrong path is an error
// at start and not at the first request. Of a tokenizer of a kind that does not run
// here, WordPiece or Unigram, the model's engine is asked.
func newModels(c *Config) (*models, error) {
	ms := &models{
		configured: make(map[string]string, len(c.Models)), fleet: c.Fleet, log: c.Log, now: c.Now,
		loaded: map[string]func() (*language, error){},
	}
	for _, m := range c.Models {
		ms.configured[m.Name] = m.Tokenizer
		if m.Tokenizer == "" {
			continue
		}
		switch _, err := ms.load(m.Tokenizer); {
		case errors.Is(err, tokenizer.ErrUnsupported):
			ms.log.Warn("the model's tokenizer does not run here; its engine is asked for every prompt's tokens",
				"model", m.Name, "tokenizer", m.Tokenizer, "error", err)
		case err != nil:
			return nil, fmt.Errorf("gateway: model %q: %w", m.Name, err)
		}
	}
	return ms, nil
}

func (ms *models) load(path string) (*language, error) {
	ms.mu.Lock()
	once := ms.loaded[path]
	if once == nil {
		once = sync.OnceValues(func() (*language, error) {
			l, err := loadLanguage(path, ms.now())
			if err == nil && l.Broken != nil {
				// It serves, but a chat costs a call more, and is routed blindly where
				// the engine doesn't tokenize either.
				ms.log.Warn("the model's chats cannot be rendered here; its engine is asked for every chat's tokens", "tokenizer", path, "error", l.Broken)
			}
			return l, err
		})
		ms.loaded[path] = once
	}
	ms.mu.Unlock()
	return once()
}

func loadLanguage(path string, now time.Time) (*language, error) {
	d, err := dialect.Load(path, now)
	if err != nil {
		return nil, err
	}
	untemplated := *d
	untemplated.Renderer = nil
	return &language{d, &language{Dialect: &untemplated}}, nil
}

// language is how name's prompts become tokens; nil: only its engine knows.
func (ms *models) language(name string) *language {
	l := ms.whole(name)
	if l == nil {
		return nil
	}
	return ms.trusted(name, l)
}

// path is where name's tokenizer is; "": nowhere here.
func (ms *models) path(name string) string {
	if path := ms.configured[name]; path != "" {
		return path
	}
	return ms.announced(name)
}

// whole is the language at name's path, whatever its engines say of it.
func (ms *models) whole(name string) *language {
	path := ms.path(name)
	if path == "" {
		return nil
	}
	l, err := ms.load(path)
	if err != nil {
		// New refused configured paths with nothing that loads; this one is a worker's,
		// or of a kind that New has warned of.
		ms.log.Debug("the tokenizer cannot be used; the model's engine is asked instead",
			"model", name, "tokenizer", path, "error", err)
		return nil
	}
	return l
}

func (ms *models) announced(name string) string {
	for _, w := range ms.fleet.Workers() {
		if info := w.Known(); info.Model == name && info.Tokenizer != "" {
			return info.Tokenizer
		}
	}
	return ""
}

// names are all models that are configured or served, sorted.
func (ms *models) names() []string {
	set := map[string]bool{}
	for name := range ms.configured {
		set[name] = true
	}
	for _, w := range ms.fleet.Workers() {
		if name := w.Info().Model; name != "" {
			set[name] = true
		}
	}
	return slices.Sorted(maps.Keys(set))
}

// serves reports whether name is among the names.
func (ms *models) serves(name string) bool {
	if _, ok := ms.configured[name]; ok {
		return true
	}
	return name != "" && slices.ContainsFunc(ms.fleet.Workers(), func(w *workers.Worker) bool { return w.Known().Model == name })
}

// check refuses a name that nobody serves.
func (ms *models) check(name string, t *tenants.Tenant) error {
	if (t == nil || t.May(name)) && ms.serves(name) {
		return nil
	}
	names := ms.names()
	if t != nil {
		names = slices.DeleteFunc(names, func(name string) bool { return !t.May(name) })
	}
	list := strings.Join(names, ", ")
	if list == "" {
		list = "none yet"
	}
	return fail(CodeModelNotFound, "model", "the model %.100q does not exist; available: %s", name, list).quoting()
}

// contexts remembers each engine's context length.
type contexts struct {
	client *http.Client
	now    clock

	mu    sync.Mutex
	known map[kv.WorkerID]*contextLength
}

type contextLength struct {
	mu     sync.Mutex
	url    string
	tokens int
	asked  time.Time
}

// of is w's longest context in tokens, 0 if unknown. The first call for a
// worker asks its engine; a failure is not repeated for a while.
func (cs *contexts) of(ctx context.Context, w *workers.Worker) int {
	info := w.Info()
	cs.mu.Lock()
	l := cs.known[info.ID]
	if l == nil {
		l = &contextLength{}
		cs.known[info.ID] = l
	}
	cs.mu.Unlock()

	l.mu.Lock()
	defer l.mu.Unlock()
	if l.url == info.URL && (l.tokens > 0 || cs.now().Sub(l.asked) < 10*time.Second) {
		return l.tokens
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	l.tokens = cs.ask(ctx, info)
	l.url, l.asked = info.URL, cs.now()
	return l.tokens
}

func (cs *contexts) forget(id kv.WorkerID) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.known, id)
}

func (cs *contexts) ask(ctx context.Context, info workers.Info) int {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, engineURL(info.URL, "/v1/models"), nil)
	if err != nil {
		return 0
	}
	info.Authorize(req.Header)
	resp, err := cs.client.Do(req)
	if err != nil {
		return 0
	}
	defer resp.Body.Close()
	var list struct {
		Data []struct {
			ID          string `json:"id"`
			MaxModelLen int    `json:"max_model_len"`
		} `json:"data"`
	}
	if resp.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&list) != nil {
		return 0
	}
	for _, m := range list.Data {
		if m.ID == info.Model {
			return m.MaxModelLen
		}
	}
	return 0
}

func engineURL(base, path string) string { return strings.TrimSuffix(base, "/") + path }
