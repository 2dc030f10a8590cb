package workers

import (
	"context"
	"net/http"
	"sync/atomic"

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

// NewEngine is the way to ask the engine that info describes. One that info does
// not name is recognized when it first describes itself.
func NewEngine(c *http.Client, info Info) Engine {
	ask := vllm.Client{HTTP: c, URL: info.URL, Rank: info.Rank, Ranks: info.Ranks, Authorize: info.Authorize}
	if info.Engine == "" {
		return &unnamed{asVLLM: &ask}
	}
	return engineOf(info.Engine, &ask)
}

// engineOf takes all but those that it knows for vLLM, as which the embedded
// engine speaks.
func engineOf(name string, ask *vllm.Client) Engine {
	switch name {
	case "sglang":
		return &sglang.Client{Client: *ask}
	case "trtllm":
		return &trtllm.Client{Client: *ask}
	}
	return ask
}

// owners names engines by whom they say their models are owned by.
var owners = map[string]string{"vllm": "vllm", "sglang": "sglang", "tensorrt_llm": "trtllm", "kvasir": "embedded"}

// unnamed is an engine that nobody named. Until it is recognized it is asked as
// vLLM would be; an owner that is not known, say of a proxy, is taken for vLLM.
type unnamed struct {
	asVLLM     *vllm.Client
	recognized atomic.Pointer[Engine]
}

func (u *unnamed) engine() Engine {
	if e := u.recognized.Load(); e != nil {
		return *e
	}
	return u.asVLLM
}

func (u *unnamed) Health(ctx context.Context) error                { return u.engine().Health(ctx) }
func (u *unnamed) Load(ctx context.Context) (vllm.Load, error)     { return u.engine().Load(ctx) }
func (u *unnamed) Events(ctx context.Context) (vllm.Events, error) { return u.engine().Events(ctx) }

// Describe recognizes the engine, anew each time: another one may have come up
// at its address.
func (u *unnamed) Describe(ctx context.Context) (vllm.Description, error) {
	owner, err := u.asVLLM.Owner(ctx)
	if err != nil {
		return vllm.Description{}, err
	}
	name := owners[owner]
	e := engineOf(name, u.asVLLM)
	u.recognized.Store(&e)
	d, err := e.Describe(ctx)
	d.Engine = name
	return d, err
}

// PollsEvents is how to ask an engine for its events that publishes none but
// keeps them; nil for others.
func PollsEvents(e Engine) func(context.Context) ([]byte, error) {
	if u, ok := e.(*unnamed); ok {
		e = u.engine()
	}
	if t, ok := e.(*trtllm.Client); ok {
		return t.PollEvents
	}
	return nil
}

// vllmClient is how to ask what only vLLM tells; nil where the engine is
// another one.
func vllmClient(e Engine) *vllm.Client {
	if u, ok := e.(*unnamed); ok {
		e = u.engine()
	}
	c, _ := e.(*vllm.Client)
	return c
}
