package workers

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Info is what discovery knows of a worker. Its JSON form is the value of an
// etcd registration and an entry of a fleet file. What is absent is asked of
// the agent or the engine.
type Info struct {
	ID        kv.WorkerID `json:"id"`
	Model     string      `json:"model,omitempty"`
	URL       string      `json:"url"`
	Engine    string      `json:"engine,omitempty"` // vllm, sglang, trtllm, embedded
	Role      kv.Role     `json:"role,omitempty"`
	BlockSize int         `json:"block_size,omitempty"`
	Events    EventSource `json:"events,omitzero"`
	// Connector is what moves KV from a prefill worker that is vLLM: nixl (also
	// where nothing is said) or mooncake.
	Connector string `json:"connector,omitempty"`
	// Bootstrap is where decode workers meet a prefill worker that is SGLang or
	// moves KV by Mooncake, host:port. Absent: port 8998 of the URL's host.
	Bootstrap string `json:"bootstrap,omitempty"`
	Agent     string `json:"agent,omitempty"` // gRPC target: unix:///path or host:port
	Tokenizer string `json:"tokenizer,omitempty"`
	// Peer is where agents pull the worker's blocks, host:port. Only its agent
	// says so.
	Peer string `json:"-"`
	// Ranks is set when the worker is one data-parallel rank of an engine, which
	// has so many; Rank is which. They share the URL, and each has a cache and a
	// queue of its own.
	Ranks int `json:"ranks,omitempty"`
	Rank  int `json:"rank,omitempty"`
	// APIKey is the engine's. It is the file's alone: it goes into no registry,
	// answer or log.
	APIKey string `json:"-"`
}

// Connectors are what may move KV between workers that are vLLM.
var Connectors = []string{"nixl", "mooncake"}

// defaultBootstrap is the port of SGLang's and Mooncake's bootstrap servers.
const defaultBootstrap = "8998"

// BootstrapAddr is where decode workers meet this prefill worker.
func (i Info) BootstrapAddr() (host, port string) {
	if host, port, err := net.SplitHostPort(i.Bootstrap); err == nil {
		return host, port
	}
	if u, err := url.Parse(i.URL); err == nil {
		host = u.Hostname()
	}
	return host, defaultBootstrap
}

// EventSource is where an engine publishes KV events.
type EventSource struct {
	Endpoint string `json:"endpoint,omitempty"`
	Replay   string `json:"replay,omitempty"`
	Topic    string `json:"topic,omitempty"`
}

// Authorize adds to a request's header what the engine goes by: its key, if it
// wants one, and the rank that is meant, if it has several.
func (i Info) Authorize(h http.Header) {
	if i.Ranks > 1 {
		h.Set("X-data-parallel-rank", strconv.Itoa(i.Rank))
	}
	if i.APIKey != "" {
		h.Set("Authorization", "Bearer "+i.APIKey)
	}
}

// PerRank are the workers that an engine with data-parallel ranks is: one for
// each, named id/dpN. One without is itself.
func (i Info) PerRank() []Info {
	if i.Ranks < 2 {
		return []Info{i}
	}
	ranks := make([]Info, i.Ranks)
	for n := range ranks {
		ranks[n] = i
		ranks[n].ID, ranks[n].Rank = i.ID+kv.WorkerID("/dp"+strconv.Itoa(n)), n
	}
	return ranks
}

// Validate says what is wrong with an entry.
func (i Info) Validate() error {
	if i.ID == "" {
		return errors.New("worker without an id")
	}
	u, err := url.Parse(i.URL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		return fmt.Errorf("worker %s: url %q: want http://host:port", i.ID, i.URL)
	}
	if i.Ranks < 0 || i.Rank < 0 || i.Rank >= max(i.Ranks, 1) {
		return fmt.Errorf("worker %s: rank %d of %d: want one from 0 on, below the number of ranks", i.ID, i.Rank, i.Ranks)
	}
	if i.Connector != "" && !slices.Contains(Connectors, i.Connector) {
		return fmt.Errorf("worker %s: connector %q: want one of %s", i.ID, i.Connector, strings.Join(Connectors, ", "))
	}
	if _, _, err := net.SplitHostPort(i.Bootstrap); err != nil && i.Bootstrap != "" {
		return fmt.Errorf("worker %s: bootstrap %q: want host:port", i.ID, i.Bootstrap)
	}
	if i.BlockSize < 0 {
		return fmt.Errorf("worker %s: block_size %d: want a positive number of tokens, or none to ask the engine", i.ID, i.BlockSize)
	}
	return nil
}
