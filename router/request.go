package router

import (
	"fmt"
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Request is what a decision needs to know of a request.
type Request struct {
	ID        string    `json:"id"`
	Session   string    `json:"session,omitempty"` // what requests of one conversation share; "": the ID
	Tokens    int       `json:"tokens"`            // of the prompt
	BlockSize int       `json:"block_size"`        // in tokens
	MaxTokens int       `json:"max_tokens"`        // of the answer; 0: not given
	LoRA      string    `json:"lora,omitempty"`    // the adapter asked for; its state is the candidates'
	Now       time.Time `json:"now"`
}

// blocks is the prompt's length in blocks, a last partial one included.
func (r Request) blocks() int {
	if r.BlockSize <= 0 {
		return 0
	}
	return (r.Tokens + r.BlockSize - 1) / r.BlockSize
}

// maxCut is the longest reusable prefix in blocks: an engine must compute at
// least one token to have logits to sample from.
func (r Request) maxCut() int {
	if r.BlockSize <= 0 || r.Tokens <= 0 {
		return 0
	}
	return (r.Tokens - 1) / r.BlockSize
}

// Candidate is a worker, or one data-parallel rank of a worker, that could serve
// the request or a leg of it.
type Candidate struct {
	Worker kv.WorkerID `json:"worker"`
	// Role is the legs that it serves: a Prefill worker only the first one, the
	// others any.
	Role    kv.Role   `json:"role,omitempty"`
	Adapter Adapter   `json:"adapter,omitempty"`
	Spans   []kv.Span `json:"spans"` // what it holds of the prompt, from the first block on
	// Predicted is how many of the blocks, the last ones, are held by prediction:
	// the worker was sent them and tells nothing.
	Predicted int   `json:"predicted,omitempty"`
	Load      Load  `json:"load"`
	Rates     Rates `json:"rates"`
}

// Load is how busy a worker is.
type Load struct {
	QueuedPrefillMS float64 `json:"queued_prefill_ms"` // predicted time to drain the prefill work ahead
	Running         int     `json:"running"`           // requests past their first token
	Waiting         int     `json:"waiting"`           // requests before it
	FreeKVShare     float64 `json:"free_kv_share"`     // 0 to 1; below 0: unknown

	// What only other routers' formulas go by.
	QueuedPrefillTokens int `json:"queued_prefill_tokens"` // to be computed for those waiting
	ActiveBlocks        int `json:"active_blocks"`         // of the prompts of all its requests
}

// Adapter is how a worker stands to the LoRA adapter that the request asks for.
type Adapter uint8

// The states of an adapter.
const (
	AdapterReady Adapter = iota // loaded, or none is asked for
	AdapterFree                 // not loaded; there is a free slot
	AdapterFull                 // not loaded, and another one must make room
)

var adapterNames = [...]string{"ready", "free", "full"}

// MarshalText writes the state's name.
func (a Adapter) MarshalText() ([]byte, error) { return []byte(adapterNames[a]), nil }

// UnmarshalText reads a state's name.
func (a *Adapter) UnmarshalText(b []byte) error {
	i := slices.Index(adapterNames[:], string(b))
	if i < 0 {
		return fmt.Errorf("router: unknown adapter state %q (ready, free or full)", b)
	}
	*a = Adapter(i)
	return nil
}

// Link is the way blocks take from a tier up to the gpu tier.
type Link struct {
	LatencyMS   float64 `json:"latency_ms"`
	BytesPerMS  float64 `json:"bytes_per_ms"` // 0: the tier is not usable
	QueuedBytes int64   `json:"queued_bytes"` // ahead of a new transfer
}

// fixedMS is what the link costs before the first byte arrives.
func (l *Link) fixedMS() float64 {
	if l.QueuedBytes == 0 {
		return l.LatencyMS
	}
	return l.LatencyMS + float64(l.QueuedBytes)/l.BytesPerMS
}

// Rates are a worker's speeds.
type Rates struct {
	// A prefill takes PrefillBaseMS, plus PrefillPerTokenMS for each token
	// computed, plus PrefillPerTokenContextMS for each pair of a token computed
	// and a token that it attends to.
	PrefillBaseMS            float64 `json:"prefill_base_ms"`
	PrefillPerTokenMS        float64 `json:"prefill_per_token_ms"`
	PrefillPerTokenContextMS float64 `json:"prefill_per_token_context_ms"`

	Links      [kv.NumTiers]Link `json:"links"`       // from each tier up to gpu; gpu's own is unused
	BlockBytes int               `json:"block_bytes"` // 0: unknown, only the gpu tier is usable

	// Handoff is the way into a decode worker's gpu from a prefill worker's.
	Handoff Link `json:"handoff,omitzero"`
	// AdapterLoadMS is what loading a LoRA adapter takes.
	AdapterLoadMS float64 `json:"adapter_load_ms,omitempty"`
}

// PrefillMS predicts the time to compute the last tokens of a prompt of context
// tokens in all, the others being in the KV cache.
func (r *Rates) PrefillMS(tokens, context int) float64 {
	return r.PrefillBaseMS + r.PrefillPerTokenMS*float64(tokens) + r.PrefillPerTokenContextMS*attended(tokens, context)
}

// attended is the number of (computed token, token it attends to) pairs when
// the last tokens of context are computed: the work of causal attention.
func attended(tokens, context int) float64 {
	m := float64(tokens)
	return m * (float64(context) - m/2)
}

// usable reports whether blocks can be brought up from t.
func (r *Rates) usable(t kv.Tier) bool {
	return t == kv.GPU || r.BlockBytes > 0 && r.Links[t].BytesPerMS > 0
}

// blockMS is the time one block takes on t's link.
func (r *Rates) blockMS(t kv.Tier) float64 {
	return float64(r.BlockBytes) / r.Links[t].BytesPerMS
}
