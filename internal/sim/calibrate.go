package sim

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// benched is the part of a `kvasir bench serve --json` result that a timing can be
// fitted to.
type benched struct {
	Targets []struct {
		Name         string `json:"name"`
		Requests     int    `json:"requests"`
		Errors       int    `json:"errors"`
		PromptTokens int    `json:"prompt_tokens"`
		OutputTokens int    `json:"output_tokens"`
		// CachedShare is of prompt tokens; below 0: the engine did not say.
		CachedShare float64 `json:"cached_token_share"`
		TTFT        struct {
			P50 float64 `json:"p50"`
		} `json:"ttft_ms"`
		TPOT struct {
			P50 float64 `json:"p50"`
		} `json:"tpot_ms"`
	} `json:"targets"`
}

// Calibrate is m at the speed that a bench result shows: prefills are scaled to
// its median TTFT for its mean prompt, decode steps to its median TPOT. One result
// says nothing of shapes, so those are kept. It must come from an engine that had
// one request at a time.
func (m *Measured) Calibrate(r io.Reader) (*Measured, error) {
	var b benched
	if err := json.NewDecoder(r).Decode(&b); err != nil {
		return nil, fmt.Errorf("sim: calibrate: not a result of bench serve --json: %w", err)
	}
	if len(b.Targets) == 0 {
		return nil, errors.New("sim: calibrate: the result has no targets")
	}
	t := &b.Targets[0]
	if n := t.Requests - t.Errors; n < 1 || t.PromptTokens < n || t.OutputTokens < n || !(t.TTFT.P50 > 0) || !(t.TPOT.P50 > 0) {
		return nil, fmt.Errorf("sim: calibrate: target %q has no streamed answers of two tokens or more", t.Name)
	}
	n := t.Requests - t.Errors
	prompt := t.PromptTokens / n
	cached := int(max(0, t.CachedShare) * float64(prompt))
	prefill := m.StepMS(&Step{Prefills: []Chunk{{Tokens: max(1, prompt-cached), Context: prompt, Last: true}}})
	decode := m.StepMS(&Step{Decodes: 1, KVTokens: prompt + t.OutputTokens/n/2})
	up, step := t.TTFT.P50/prefill, t.TPOT.P50/decode
	c := *m
	c.FirstTokenMS, c.PrefillTokenMS, c.PrefillSquareMS = up*m.FirstTokenMS, up*m.PrefillTokenMS, up*m.PrefillSquareMS
	c.StepBaseMS, c.DecodeRequestMS, c.DecodeKVTokenMS = step*m.StepBaseMS, step*m.DecodeRequestMS, step*m.DecodeKVTokenMS
	// The base belongs to both; what decode says of it, the first token makes up
	// for.
	c.FirstTokenMS = max(0, c.FirstTokenMS+up*m.StepBaseMS-c.StepBaseMS)
	c.SourceOfNumbers = fmt.Sprintf("scaled to bench serve on %s", t.Name)
	return &c, nil
}
