package vllm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/events/zmtp"
)

// maxBody bounds what an engine may answer; its metrics are the longest.
const maxBody = 8 << 20

// Client asks one engine.
type Client struct {
	HTTP *http.Client
	URL  string // http://host:port
	// Rank is the data-parallel rank asked about, of Ranks; fewer than two: the
	// whole engine.
	Rank, Ranks int
	// Authorize adds what the engine wants to see to a request's header; nil:
	// nothing.
	Authorize func(http.Header)
}

// statusError is an answer other than 200.
type statusError struct {
	path string
	code int
	body string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("GET %s: status %d: %s", e.path, e.code, e.body)
}

// missing reports whether the engine has no such route.
func missing(err error) bool {
	status := (*statusError)(nil)
	return errors.As(err, &status) && status.code == http.StatusNotFound
}

// get reads the body of one route.
func (c *Client) get(ctx context.Context, path string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.URL, "/")+path, nil)
	if err != nil {
		return nil, fmt.Errorf("vllm: %w", err)
	}
	if c.Authorize != nil {
		c.Authorize(req.Header)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("vllm: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("vllm: GET %s: %w", path, err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("vllm: %w", &statusError{path, resp.StatusCode, string(body[:min(len(body), 200)])})
	case len(body) > maxBody:
		return nil, fmt.Errorf("vllm: GET %s: more than %d bytes", path, maxBody)
	}
	return body, nil
}

// Health asks whether the engine serves.
func (c *Client) Health(ctx context.Context) error {
	_, err := c.get(ctx, "/health")
	return err
}

// Description is what an engine serves.
type Description struct {
	Model      string // the first served name
	Root       string // where the engine has the model from; a path or a name at Hugging Face
	Models     []string
	Engine     string // vllm, sglang, trtllm or embedded; "" unless it was recognized
	MaxContext int // tokens; 0: unknown
	BlockSize  int // tokens; 0: unknown
	GPUBlocks  int // 0: unknown

	// What an engine that tells at once (SGLang) says of its part in requests that
	// two engines share.
	Role      kv.Role
	Bootstrap string // host:port
}

// Describe asks for the served models and the KV cache's shape.
func (c *Client) Describe(ctx context.Context) (Description, error) {
	var d Description
	models, err := c.models(ctx)
	if err != nil {
		return d, err
	}
	d.Model, d.Root, d.MaxContext = models[0].ID, models[0].Root, models[0].MaxModelLen
	for _, m := range models {
		d.Models = append(d.Models, m.ID)
	}
	load, err := c.Load(ctx)
	if err != nil {
		return d, err
	}
	d.BlockSize, d.GPUBlocks = load.BlockSize, load.GPUBlocks
	return d, nil
}

type model struct {
	ID          string `json:"id"`
	Owner       string `json:"owned_by"`
	Root        string `json:"root"`
	MaxModelLen int    `json:"max_model_len"`
}

// models are those served; there is one at least.
func (c *Client) models(ctx context.Context) ([]model, error) {
	body, err := c.get(ctx, "/v1/models")
	if err != nil {
		return nil, err
	}
	var list struct {
		Data []model `json:"data"`
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("vllm: GET /v1/models: %w", err)
	}
	if len(list.Data) == 0 {
		return nil, errors.New("vllm: the engine serves no model")
	}
	return list.Data, nil
}

// Owner is whom the engine says its first model is owned by: engines put their
// own names there.
func (c *Client) Owner(ctx context.Context) (string, error) {
	models, err := c.models(ctx)
	if err != nil {
		return "", err
	}
	return models[0].Owner, nil
}

// ErrNoEvents means that the engine was started without KV events, or is older
// than the route that tells of them.
var ErrNoEvents = errors.New("the engine publishes no KV events (start vLLM with --kv-events-config)")

// Events is where one data-parallel rank publishes KV events.
type Events struct {
	Endpoint, Replay, Topic string
}

// Events asks where the client's rank publishes. Endpoints that name every interface get
// the host of the engine's URL.
func (c *Client) Events(ctx context.Context) (Events, error) {
	body, err := c.get(ctx, "/kv_event_sources")
	if missing(err) {
		return Events{}, ErrNoEvents
	}
	if err != nil {
		return Events{}, err
	}
	var sources map[string]struct {
		Enabled  bool   `json:"enable_kv_cache_events"`
		Endpoint string `json:"endpoint"`
		Replay   string `json:"replay_endpoint"`
		Topic    string `json:"topic"`
	}
	if err := json.Unmarshal(body, &sources); err != nil {
		return Events{}, fmt.Errorf("vllm: GET /kv_event_sources: %w", err)
	}
	s, ok := sources[strconv.Itoa(c.Rank)]
	if !ok || !s.Enabled || s.Endpoint == "" {
		return Events{}, ErrNoEvents
	}
	return Events{Endpoint: c.reachable(s.Endpoint), Replay: c.reachable(s.Replay), Topic: s.Topic}, nil
}

// reachable gives an endpoint that names every interface the engine's host.
func (c *Client) reachable(endpoint string) string {
	u, err := url.Parse(c.URL)
	if err != nil || !zmtp.Wildcard(endpoint) {
		return endpoint
	}
	return zmtp.WithHost(endpoint, u.Hostname())
}
