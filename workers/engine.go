package workers

import (
	"context"
	"net/http"

	"github.com/kvasir-ai/kvasir/workers/engine/sglang"
	"github.com/kvasir-ai/kvasir/workers/engine/trtllm"
	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
)

// Engine asks an engine about itself.
type Engine interface {
	Health(context.Context) error
	Describe(context.Context) (vllm.Description, error)
	Load(context.Context) (vllm.Load, error)
	// Events is where it publishes KV events.
	Events(context.Context) (vllm.Events, error)
}

// NewEngine is the way to ask the engine that info describes. One that is not
// named is taken for vLLM, as which the embedded engine speaks.
func NewEngine(c *http.Client, info Info) Engine {
	ask := vllm.Client{HTTP: c, URL: info.URL, Rank: info.Rank, Ranks: info.Ranks, Authorize: info.Authorize}
	switch info.Engine {
	case "sglang":
		return &sglang.Client{Client: ask}
	case "trtllm":
		return &trtllm.Client{Client: ask}
	}
	return &ask
}

// PollsEvents is how to ask an engine for its events that publishes none but
// keeps them; nil for others.
func PollsEvents(e Engine) func(context.Context) ([]byte, error) {
	if t, ok := e.(*trtllm.Client); ok {
		return t.PollEvents
	}
	return nil
}
