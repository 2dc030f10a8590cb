package embedded

import (
	"encoding/json"
	"net/http"
	"slices"
)

type completionRequest struct {
	generation
	Prompt           json.RawMessage `json:"prompt"`
	Logprobs         *int            `json:"logprobs"`
	Echo             bool            `json:"echo"`
	Suffix           string          `json:"suffix"`
	AddSpecialTokens *bool           `json:"add_special_tokens"`
}

// defaultCompletionTokens is OpenAI's and vLLM's.
const defaultCompletionTokens = 16

func (s *server) completions(w http.ResponseWriter, r *http.Request) {
	var req completionRequest
	err := read(w, r, &req)
	if err == nil {
		err = s.checkModel(req.Model)
	}
	var o options
	if err == nil {
		o, err = req.validate(s.vocab)
	}
	if o.maxTokens == 0 {
		o.maxTokens = max(defaultCompletionTokens, o.minTokens)
	}
	if err == nil && req.Logprobs != nil {
		err = o.setTopLogprobs("logprobs", *req.Logprobs)
	}
	if err == nil && req.Echo {
		err = badField("echo", "echo must be false: prompts are not scored")
	}
	if err == nil && req.Suffix != "" {
		err = badField("suffix", "suffix must be absent: the model only continues text")
	}
	var prompts []prompt
	if err == nil {
		prompts, err = parsePrompts(req.Prompt)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	tokens := make([][]uint32, len(prompts))
	for i, p := range prompts {
		if tokens[i] = p.tokens; p.tokens == nil {
			tokens[i] = s.tokenizer.Encode(nil, p.text, req.AddSpecialTokens == nil || *req.AddSpecialTokens)
		}
	}
	s.generate(w, r, "cmpl-", tokens, o, completionDialect{s})
}

// completionDialect writes text completions.
type completionDialect struct{ s *server }

type completionBody struct {
	ID      string             `json:"id"`
	Object  string             `json:"object"`
	Created int64              `json:"created"`
	Model   string             `json:"model"`
	Choices []completionChoice `json:"choices"`
	Usage   *usage             `json:"usage,omitempty"`
}

type completionChoice struct {
	Index          int                 `json:"index"`
	Text           string              `json:"text"`
	Logprobs       *completionLogprobs `json:"logprobs"`
	FinishReason   *string             `json:"finish_reason"`
	StopReason     any                 `json:"stop_reason"`
	TokenIDs       []uint32            `json:"token_ids,omitempty"`
	PromptTokenIDs []uint32            `json:"prompt_token_ids,omitempty"`
}

type completionLogprobs struct {
	TextOffset    []int                `json:"text_offset"`
	TokenLogprobs []float64            `json:"token_logprobs"`
	Tokens        []string             `json:"tokens"`
	TopLogprobs   []map[string]float64 `json:"top_logprobs"`
}

func (d completionDialect) body(r *reply, choices ...completionChoice) *completionBody {
	if choices == nil {
		choices = []completionChoice{}
	}
	return &completionBody{ID: r.id, Object: "text_completion", Created: r.created, Model: r.model, Choices: choices}
}

func (d completionDialect) choice(r *reply, it item) completionChoice {
	out := completionChoice{Index: it.index, Text: it.text, StopReason: it.stopReason}
	if it.finish != "" {
		out.FinishReason = &it.finish
	}
	if r.returnTokenIDs {
		out.TokenIDs = it.ids
	}
	return out
}

func (d completionDialect) whole(r *reply) any {
	b := d.body(r)
	b.Usage = &r.usage
	for i := range r.choices {
		c := &r.choices[i]
		out := d.choice(r, c.item)
		out.Logprobs = d.logprobs(c, c.logprobs)
		if r.returnTokenIDs {
			out.PromptTokenIDs = c.prompt
		}
		b.Choices = append(b.Choices, out)
	}
	return b
}

// opening: text completions begin with their text.
func (completionDialect) opening(*reply, *choice) any { return nil }

func (d completionDialect) chunk(r *reply, c *choice, it item) any {
	out := d.choice(r, it)
	out.Logprobs = d.logprobs(c, it.logprobs)
	if r.returnTokenIDs && !c.started {
		out.PromptTokenIDs = c.prompt
	}
	b := d.body(r, out)
	if r.continuousUsage {
		b.Usage = &r.usage
	}
	return b
}

func (d completionDialect) usageChunk(r *reply) any {
	b := d.body(r)
	b.Usage = &r.usage
	return b
}

// logprobs continues c's offsets.
func (d completionDialect) logprobs(c *choice, list []logprobs) *completionLogprobs {
	if len(list) == 0 {
		return nil
	}
	out := &completionLogprobs{}
	for _, l := range list {
		text := d.s.tokenText(l.chosen.id)
		top := make(map[string]float64, len(l.top)+1)
		for _, t := range slices.Backward(l.top) { // tokens may look alike (parts of a character): the likelier stays
			top[d.s.tokenText(t.id)] = t.logprob
		}
		top[text] = l.chosen.logprob
		out.TextOffset = append(out.TextOffset, c.textEnds)
		out.TokenLogprobs = append(out.TokenLogprobs, l.chosen.logprob)
		out.Tokens = append(out.Tokens, text)
		out.TopLogprobs = append(out.TopLogprobs, top)
		c.textEnds += characters(text)
	}
	return out
}
