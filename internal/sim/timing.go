package sim

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
)

// Timing says how long an engine takes.
type Timing interface {
	// StepMS is the time of one step.
	StepMS(*Step) float64
	// TokenBytes is the size of one token's KV.
	TokenBytes() int
}

// Step is what an engine does between two looks at its queue: one token for
// each running request, and chunks of prompts.
type Step struct {
	Decodes  int // requests that get their next token
	KVTokens int // tokens in the KV cache that belong to requests in the batch
	Capacity int // tokens that fit the KV cache
	Prefills []Chunk
}

// Chunk is a part of one prompt.
type Chunk struct {
	Tokens  int  // computed in this step
	Context int  // of the prompt, up to the last of them
	Last    bool // the first token of the answer comes out of this step
}

// Measured is a timing whose numbers were measured on an engine, step = base +
// prefill + decode. Context is counted in tokens.
type Measured struct {
	StepBaseMS      float64 `json:"step_base_ms"`       // every step
	FirstTokenMS    float64 `json:"first_token_ms"`     // once a prompt, in its last chunk
	PrefillTokenMS  float64 `json:"prefill_token_ms"`   // each token computed
	PrefillSquareMS float64 `json:"prefill_square_ms"`  // times context squared, for a prompt computed from its first token
	DecodeRequestMS float64 `json:"decode_request_ms"`  // each running request
	DecodeKVTokenMS float64 `json:"decode_kv_token_ms"` // each token of theirs in the KV cache
	KVBytesPerToken int     `json:"kv_bytes_per_token"` // of all layers
	SourceOfNumbers string  `json:"source,omitempty"`   // where the numbers come from
}

// StepMS adds the terms up.
func (m *Measured) StepMS(s *Step) float64 {
	ms := m.StepBaseMS
	for _, c := range s.Prefills {
		end, begin := float64(c.Context), float64(c.Context-c.Tokens)
		ms += m.PrefillTokenMS*float64(c.Tokens) + m.PrefillSquareMS*(end*end-begin*begin)
		if c.Last {
			ms += m.FirstTokenMS
		}
	}
	if s.Decodes > 0 {
		ms += m.DecodeRequestMS*float64(s.Decodes) + m.DecodeKVTokenMS*float64(s.KVTokens)
	}
	return ms
}

// TokenBytes is the size of one token's KV.
func (m *Measured) TokenBytes() int { return m.KVBytesPerToken }

// mocker is NVIDIA Dynamo's engine mocker: its polynomials, where a step's
// prefill and its decode come one after the other, and prefill does not depend on
// what was computed before.
type mocker struct{}

func (mocker) StepMS(s *Step) float64 {
	tokens := 0.0
	for _, c := range s.Prefills {
		tokens += float64(c.Tokens)
	}
	ms := 0.0
	if tokens > 0 {
		ms = 4.209989e-7*tokens*tokens + 1.518344e-2*tokens + 16.50142
	}
	if s.Decodes > 0 {
		p := float64(s.KVTokens) / float64(s.Capacity)
		ms += max(1, -25.74*p*p+54.01*p+5.74)
	}
	return ms
}

func (mocker) TokenBytes() int { return 128 << 10 }

// h200Llama8B is Llama-3.1-8B in bf16 on one H200 under vLLM 0.26, measured:
// prefill ms = 7.2 + 24.8 k + 0.474 k^2 for k thousand (1,024) tokens, decode
// step ms = 4.81 + 0.017 a request + 0.0232 per 1,000 KV tokens.
func h200Llama8B() *Measured {
	return &Measured{
		StepBaseMS: 4.81, FirstTokenMS: 7.2 - 4.81,
		PrefillTokenMS: 24.8 / 1024, PrefillSquareMS: 0.474 / (1024 * 1024),
		DecodeRequestMS: 0.017, DecodeKVTokenMS: 0.0232 / 1000,
		KVBytesPerToken: 128 << 10,
	}
}

// Timings are the names that NewTiming knows.
func Timings() []string { return []string{"h200-llama-8b", "mocker"} }

// NewTiming is the named timing, or what a JSON file of Measured says.
func NewTiming(name string) (Timing, error) {
	switch name {
	case "h200-llama-8b":
		return h200Llama8B(), nil
	case "mocker":
		return mocker{}, nil
	}
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("sim: timing %q: use one of %s, or a file: %w", name, strings.Join(Timings(), ", "), err)
	}
	m := &Measured{}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(m); err != nil {
		return nil, fmt.Errorf("sim: timing %s: %w", name, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return nil, fmt.Errorf("sim: timing %s: more than one JSON object", name)
	}
	if err := m.check(); err != nil {
		return nil, fmt.Errorf("sim: timing %s: %w", name, err)
	}
	return m, nil
}

func (m *Measured) check() error {
	for _, v := range [...]float64{m.StepBaseMS, m.FirstTokenMS, m.PrefillTokenMS, m.PrefillSquareMS, m.DecodeRequestMS, m.DecodeKVTokenMS} {
		if !(v >= 0) {
			return errors.New("no time may be below 0")
		}
	}
	if m.StepBaseMS+m.DecodeRequestMS <= 0 || m.StepBaseMS+m.PrefillTokenMS <= 0 {
		return errors.New("a step must take time: set step_base_ms")
	}
	if m.KVBytesPerToken <= 0 {
		return errors.New("set kv_bytes_per_token")
	}
	return nil
}
