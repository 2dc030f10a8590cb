package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"

	"github.com/kvasir-ai/kvasir/workers"
)

// engineTokens asks engines that speak vLLM's surface for a prompt's tokens.
type engineTokens struct {
	client *http.Client
	// noRender holds the URLs of engines that do not serve /render: vLLM does so
	// only with --enable-scale-out.
	noRender sync.Map
}

// errNoRoute is an engine's answer where it has no such route, or forbids it.
var errNoRoute = errors.New("the engine does not serve this route")

// refusedError is an engine's word that a request is wrong.
type refusedError struct{ status, message string }

func (e *refusedError) Error() string { return "the engine answered " + e.status + ": " + e.message }

// of is a prompt's tokens as the engine would compute them,
// were body sent to path. Rendering is what
// the engine itself does with a chat; /tokenize knows fewer of its fields.
func (t *engineTokens) of(ctx context.Context, engine workers.Info, path string, body []byte) ([]uint32, error) {
	if path == endpointChat.path() {
		tokens, err := t.render(ctx, engine, body)
		if !errors.Is(err, errNoRoute) {
			return tokens, err
		}
	}
	return t.tokenize(ctx, engine, body)
}

func (t *engineTokens) render(ctx context.Context, engine workers.Info, body []byte) ([]uint32, error) {
	if _, no := t.noRender.Load(engine.URL); no {
		return nil, errNoRoute
	}
	var answer struct {
		Tokens []uint32 `json:"token_ids"`
	}
	err := t.post(ctx, engine, endpointChat.path()+"/render", body, &answer)
	if errors.Is(err, errNoRoute) {
		t.noRender.Store(engine.URL, true)
	}
	return answer.Tokens, err
}

func (t *engineTokens) tokenize(ctx context.Context, engine workers.Info, body []byte) ([]uint32, error) {
	var answer struct {
		Tokens []uint32 `json:"tokens"`
	}
	err := t.post(ctx, engine, "/tokenize", body, &answer)
	return answer.Tokens, err
}

func (t *engineTokens) post(ctx context.Context, engine workers.Info, path string, body []byte, into any) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, engineURL(engine.URL, path), bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	engine.Authorize(req.Header)
	resp, err := t.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	switch resp.StatusCode {
	case http.StatusOK:
	case http.StatusNotFound, http.StatusForbidden, http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return fmt.Errorf("%s: %s: %w", path, resp.Status, errNoRoute)
	case http.StatusBadRequest, http.StatusUnprocessableEntity:
		return &refusedError{resp.Status, errorMessage(readSome(resp.Body))}
	default:
		return fmt.Errorf("%s answered %s", path, resp.Status)
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
