package sglang

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
)

// Client asks one SGLang server.
type Client struct{ vllm.Client }

// info is what /server_info answers: the server's arguments and the scheduler's
// state in one object.
type info struct {
	ServedName string  `json:"served_model_name"`
	ModelPath  string  `json:"model_path"`
	PageSize   int     `json:"page_size"`
	Context    int     `json:"context_length"`
	MaxTokens  int     `json:"max_total_num_tokens"` // of the KV cache
	Events     *events `json:"kv_events"`
	// Mode is prefill, decode, or null, as a word.
	Mode          string `json:"disaggregation_mode"`
	BootstrapPort int    `json:"disaggregation_bootstrap_port"`
}

type events struct {
	Publisher  string `json:"publisher"`
	Host       string `json:"endpoint_host"`
	Port       int    `json:"endpoint_port_base"`
	ReplayPort int    `json:"replay_endpoint_port_base"`
	Topic      string `json:"topic"`
	BlockSize  int    `json:"block_size"`
}

// info asks for the server's description; servers before 0.5 have it elsewhere.
func (c *Client) info(ctx context.Context) (i info, err error) {
	for _, path := range []string{"/server_info", "/get_server_info"} {
		body, found, err := c.Get(ctx, path)
		if err != nil {
			return i, fmt.Errorf("sglang: %w", err)
		}
		if found {
			if err := json.Unmarshal(body, &i); err != nil {
				return i, fmt.Errorf("sglang: GET %s: %w", path, err)
			}
			return i, nil
		}
	}
	return i, errors.New("sglang: the engine has neither /server_info nor /get_server_info")
}

// Describe asks what is served. A page is what others call a block.
func (c *Client) Describe(ctx context.Context) (vllm.Description, error) {
	i, err := c.info(ctx)
	if err != nil {
		return vllm.Description{}, err
	}
	d := vllm.Description{Model: i.ServedName, Root: i.ModelPath, MaxContext: i.Context, BlockSize: i.PageSize}
	if d.Model == "" {
		d.Model = i.ModelPath
	}
	if d.Model == "" {
		return d, errors.New("sglang: the engine serves no model")
	}
	if i.Events != nil && i.Events.BlockSize > 0 {
		d.BlockSize = i.Events.BlockSize
	}
	if d.BlockSize > 0 {
		d.GPUBlocks = i.MaxTokens / d.BlockSize
	}
	d.Models = []string{d.Model}
	switch i.Mode {
	case "prefill":
		d.Role = kv.Prefill
		if u, err := url.Parse(c.URL); err == nil && i.BootstrapPort > 0 {
			d.Bootstrap = net.JoinHostPort(u.Hostname(), strconv.Itoa(i.BootstrapPort))
		}
	case "decode":
		d.Role = kv.Decode
	}
	return d, nil
}

// Events asks where the client's rank publishes: each rank has the port after
// that of the one before it.
func (c *Client) Events(ctx context.Context) (vllm.Events, error) {
	i, err := c.info(ctx)
	if err != nil {
		return vllm.Events{}, err
	}
	e := i.Events
	if e == nil || e.Publisher != "zmq" || e.Port == 0 {
		return vllm.Events{}, fmt.Errorf("%w; SGLang has the same flag", vllm.ErrNoEvents)
	}
	at := func(port int) string {
		if port == 0 {
			return ""
		}
		return c.Reachable("tcp://" + net.JoinHostPort(e.Host, strconv.Itoa(port+c.Rank)))
	}
	return vllm.Events{Endpoint: at(e.Port), Replay: at(e.ReplayPort), Topic: e.Topic}, nil
}

// Load reads how busy the server is. It does not tell how many prompt tokens it
// found in its cache, so that nobody notices when its events stop.
func (c *Client) Load(ctx context.Context) (vllm.Load, error) {
	body, found, err := c.Get(ctx, "/v1/loads?include=core")
	if err == nil && !found {
		err = errors.New("no route /v1/loads")
	}
	if err != nil {
		return vllm.Load{}, fmt.Errorf("sglang: %w", err)
	}
	return c.parseLoad(body)
}

func (c *Client) parseLoad(body []byte) (vllm.Load, error) {
	var answer struct {
		Loads []struct {
			Rank     int     `json:"dp_rank"`
			Running  int     `json:"num_running_reqs"`
			Waiting  int     `json:"num_waiting_reqs"`
			Usage    float64 `json:"token_usage"`
			Uncached *int    `json:"num_waiting_uncached_tokens"`
		} `json:"loads"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return vllm.Load{}, fmt.Errorf("sglang: GET /v1/loads: %w", err)
	}
	l := vllm.Load{KVUsage: -1, QueuedPrefillTokens: -1}
	ranks := 0
	for _, r := range answer.Loads {
		if c.Ranks > 1 && r.Rank != c.Rank {
			continue
		}
		l.Running += max(r.Running, 0)
		l.Waiting += max(r.Waiting, 0)
		l.KVUsage = max(l.KVUsage, 0) + min(max(r.Usage, 0), 1)
		if r.Uncached != nil {
			l.QueuedPrefillTokens = max(l.QueuedPrefillTokens, 0) + max(*r.Uncached, 0)
		}
		ranks++
	}
	if ranks > 1 {
		l.KVUsage /= float64(ranks)
	}
	return l, nil
}
