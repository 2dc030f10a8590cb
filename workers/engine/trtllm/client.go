package trtllm

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
)

const (
	// defaultBlock is tokens_per_block where the server does not tell.
	defaultBlock = 32
	maxEvents    = 64 << 20 // bytes of one list
)

// Client asks one TensorRT-LLM server.
type Client struct{ vllm.Client }

// Describe asks what is served. Only a server with return_perf_metrics tells its
// block size; others are taken to have the default.
func (c *Client) Describe(ctx context.Context) (vllm.Description, error) {
	var d vllm.Description
	body, _, err := c.Get(ctx, "/v1/models")
	if err != nil {
		return d, fmt.Errorf("trtllm: %w", err)
	}
	var models struct {
		Data []struct {
			ID string `json:"id"`
		} `json:"data"`
	}
	if err := json.Unmarshal(body, &models); err != nil {
		return d, fmt.Errorf("trtllm: GET /v1/models: %w", err)
	}
	if len(models.Data) == 0 {
		return d, errors.New("trtllm: the engine serves no model")
	}
	d.Model = models.Data[0].ID
	for _, m := range models.Data {
		d.Models = append(d.Models, m.ID)
	}
	load, err := c.Load(ctx)
	if err != nil {
		return d, err
	}
	if d.BlockSize = load.BlockSize; d.BlockSize == 0 {
		d.BlockSize = defaultBlock
	}
	return d, nil
}

// Events says that there is no socket to read: events are polled.
func (c *Client) Events(context.Context) (vllm.Events, error) { return vllm.Events{}, nil }

// PollEvents takes the events that wait in the server, as a JSON list. There is
// one queue: events go to who asks first.
func (c *Client) PollEvents(ctx context.Context) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(c.URL, "/")+"/kv_cache_events", nil)
	if err != nil {
		return nil, fmt.Errorf("trtllm: %w", err)
	}
	if c.Authorize != nil {
		c.Authorize(req.Header)
	}
	resp, err := c.HTTP.Do(req)
	if err != nil {
		return nil, fmt.Errorf("trtllm: %w", err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxEvents+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("trtllm: POST /kv_cache_events: %w", err)
	case resp.StatusCode != http.StatusOK:
		return nil, fmt.Errorf("trtllm: POST /kv_cache_events: status %d: %.200s", resp.StatusCode, body)
	case len(body) > maxEvents:
		return nil, fmt.Errorf("trtllm: POST /kv_cache_events: more than %d bytes", maxEvents)
	}
	return body, nil
}

// Load reads how busy the server is. Without return_perf_metrics it does not
// tell.
func (c *Client) Load(ctx context.Context) (vllm.Load, error) {
	body, found, err := c.Get(ctx, "/prometheus/metrics")
	if err != nil {
		return vllm.Load{}, fmt.Errorf("trtllm: %w", err)
	}
	if !found {
		body = nil
	}
	return parseLoad(body)
}

func parseLoad(text []byte) (vllm.Load, error) {
	l := vllm.Load{KVUsage: -1, QueuedPrefillTokens: -1}
	p := expfmt.NewTextParser(model.UTF8Validation)
	families, err := p.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return l, fmt.Errorf("trtllm: metrics: %w", err)
	}
	value := func(name string) (sum float64, known bool) {
		for _, m := range families[name].GetMetric() {
			sum += m.GetGauge().GetValue() + m.GetUntyped().GetValue()
			known = true
		}
		return max(0, min(sum, 1<<31)), known
	}
	count := func(name string) int { v, _ := value(name); return int(v) }
	l.Running, l.Waiting = count("trtllm_num_requests_running"), count("trtllm_num_requests_waiting")
	l.BlockSize = count("trtllm_kv_cache_tokens_per_block")
	if usage, known := value("trtllm_kv_cache_utilization"); known {
		l.KVUsage = min(usage, 1)
	}
	return l, nil
}
