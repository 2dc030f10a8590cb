package embedded

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
)

// generation holds the fields that both completion APIs share. Fields it does
// not know are ignored, as vLLM ignores them.
type generation struct {
	Model            string             `json:"model"`
	MaxTokens        *int               `json:"max_tokens"`
	MinTokens        int                `json:"min_tokens"`
	N                *int               `json:"n"`
	BestOf           *int               `json:"best_of"`
	Stream           bool               `json:"stream"`
	StreamOptions    *streamOptions     `json:"stream_options"`
	Temperature      *float64           `json:"temperature"`
	TopP             *float64           `json:"top_p"`
	TopK             *int               `json:"top_k"`
	MinP             *float64           `json:"min_p"`
	Seed             *int64             `json:"seed"`
	Repetition       *float64           `json:"repetition_penalty"`
	Presence         *float64           `json:"presence_penalty"`
	Frequency        *float64           `json:"frequency_penalty"`
	LogitBias        map[string]float32 `json:"logit_bias"`
	Stop             json.RawMessage    `json:"stop"`
	StopTokenIDs     []uint32           `json:"stop_token_ids"`
	IncludeStop      bool               `json:"include_stop_str_in_output"`
	IgnoreEOS        bool               `json:"ignore_eos"`
	SkipSpecial      *bool              `json:"skip_special_tokens"`
	ReturnTokenIDs   bool               `json:"return_token_ids"`
	CacheSalt        string             `json:"cache_salt"`
	ResponseFormat   *responseFormat    `json:"response_format"`
	UseBeamSearch    bool               `json:"use_beam_search"`
	StructuredOutput json.RawMessage    `json:"structured_outputs"`
}

type streamOptions struct {
	IncludeUsage    bool `json:"include_usage"`
	ContinuousUsage bool `json:"continuous_usage_stats"`
}

type responseFormat struct {
	Type string `json:"type"`
}

// maxChoices bounds how many sequences one request may start.
const maxChoices = 128

// options is a validated generation.
type options struct {
	sampling
	n               int
	maxTokens       int // 0: as the API's default says
	minTokens       int
	stops           []string
	includeStop     bool
	stopIDs         []uint32
	ignoreEOS       bool
	skipSpecial     bool
	wantLogprobs    bool
	topLogprobs     int
	stream          bool
	includeUsage    bool
	continuousUsage bool
	returnTokenIDs  bool
	salt            string
}

// validate checks everything that needs no prompt. vocab bounds token ids.
func (g *generation) validate(vocab int) (o options, err *apiError) {
	o = options{sampling: defaultSampling, n: 1, minTokens: g.MinTokens, includeStop: g.IncludeStop, stopIDs: g.StopTokenIDs,
		ignoreEOS: g.IgnoreEOS, skipSpecial: g.SkipSpecial == nil || *g.SkipSpecial, stream: g.Stream, returnTokenIDs: g.ReturnTokenIDs, salt: g.CacheSalt}
	check := func(ok bool, param, want string) {
		if !ok && err == nil {
			err = badField(param, "%s must be %s", param, want)
		}
	}
	number := func(dst *float64, v *float64, lo, hi float64, param string) {
		if v != nil {
			*dst = *v
			check(lo <= *v && *v <= hi, param, fmt.Sprintf("between %g and %g", lo, hi))
		}
	}
	number(&o.temperature, g.Temperature, 0, 100, "temperature")
	number(&o.topP, g.TopP, 0, 1, "top_p")
	check(o.topP > 0, "top_p", "above 0")
	number(&o.minP, g.MinP, 0, 1, "min_p")
	number(&o.repetition, g.Repetition, 0, 100, "repetition_penalty")
	check(o.repetition > 0, "repetition_penalty", "above 0")
	number(&o.presence, g.Presence, -2, 2, "presence_penalty")
	number(&o.frequency, g.Frequency, -2, 2, "frequency_penalty")
	if g.TopK != nil {
		o.topK = max(*g.TopK, 0) // vLLM: 0 and -1 both mean all
		check(*g.TopK >= -1, "top_k", "-1 (all) or more")
	}
	if g.N != nil {
		o.n = *g.N
		check(1 <= o.n && o.n <= maxChoices, "n", fmt.Sprintf("between 1 and %d", maxChoices))
	}
	if g.MaxTokens != nil {
		o.maxTokens = *g.MaxTokens
		check(o.maxTokens >= 1, "max_tokens", "at least 1")
	}
	check(g.MinTokens >= 0 && (g.MaxTokens == nil || g.MinTokens <= *g.MaxTokens), "min_tokens", "between 0 and max_tokens")
	check(g.BestOf == nil || *g.BestOf == o.n, "best_of", "equal to n: candidates are not ranked")
	check(!g.UseBeamSearch, "use_beam_search", "false: beam search is not supported")
	check(g.ResponseFormat == nil || g.ResponseFormat.Type == "text", "response_format", `{"type":"text"}: structured output is not supported`)
	check(absent(g.StructuredOutput), "structured_outputs", "absent: structured output is not supported")
	check(g.StreamOptions == nil || g.Stream, "stream_options", "absent unless stream is true")
	if g.StreamOptions != nil {
		o.includeUsage, o.continuousUsage = g.StreamOptions.IncludeUsage, g.StreamOptions.ContinuousUsage
	}
	o.seed = rand.Uint64()
	if g.Seed != nil {
		o.seed = uint64(*g.Seed)
	}
	for _, id := range g.StopTokenIDs {
		check(int(id) < vocab, "stop_token_ids", fmt.Sprintf("ids below %d", vocab))
	}
	if len(g.LogitBias) > 0 {
		o.bias = make(map[uint32]float32, len(g.LogitBias))
	}
	for key, b := range g.LogitBias {
		id, bad := strconv.ParseUint(key, 10, 32)
		check(bad == nil && int(id) < vocab && -100 <= b && b <= 100, "logit_bias", fmt.Sprintf("token ids below %d with values between -100 and 100", vocab))
		o.bias[uint32(id)] = b
	}
	stops, ok := parseStop(g.Stop)
	check(ok, "stop", "a string or a list of strings, none empty")
	o.stops = stops
	return o, err
}

func absent(raw json.RawMessage) bool { return len(raw) == 0 || bytes.Equal(raw, []byte("null")) }

func parseStop(raw json.RawMessage) (stops []string, ok bool) {
	if absent(raw) {
		return nil, true
	}
	var one string
	if json.Unmarshal(raw, &one) == nil {
		stops = []string{one}
	} else if json.Unmarshal(raw, &stops) != nil {
		return nil, false
	}
	return stops, !slices.Contains(stops, "")
}

// setTopLogprobs bounds how many alternatives a position may report.
func (o *options) setTopLogprobs(param string, n int) *apiError {
	const most = 20
	if n < 0 || n > most {
		return badField(param, "%s must be between 0 and %d", param, most)
	}
	o.wantLogprobs, o.topLogprobs = true, n
	return nil
}

// prompt is text to be tokenized, or tokens.
type prompt struct {
	text   string
	tokens []uint32
}

// parsePrompts reads what /v1/completions accepts: a string, a list of strings,
// a list of token ids, or a list of such lists.
func parsePrompts(raw json.RawMessage) ([]prompt, *apiError) {
	wrong := badField("prompt", "prompt must be a string, a list of strings, a list of token ids or a list of lists of token ids, and not empty")
	var text string
	if json.Unmarshal(raw, &text) == nil && !absent(raw) {
		return []prompt{{text: text}}, nil
	}
	if ids, ok := parseIDs(raw); ok {
		return []prompt{{tokens: ids}}, nil
	}
	var list []json.RawMessage
	if json.Unmarshal(raw, &list) != nil || len(list) == 0 {
		return nil, wrong
	}
	prompts := make([]prompt, len(list))
	for i, e := range list {
		p := &prompts[i]
		if json.Unmarshal(e, &p.text) == nil && !absent(e) {
			continue
		}
		var ok bool
		if p.tokens, ok = parseIDs(e); !ok {
			return nil, wrong
		}
	}
	return prompts, nil
}

// parseIDs reads a list of token ids that is not empty. A null in it would
// decode as token 0.
func parseIDs(raw json.RawMessage) (ids []uint32, ok bool) {
	ok = json.Unmarshal(raw, &ids) == nil && len(ids) > 0 && !bytes.Contains(raw, []byte("null"))
	return ids, ok
}
