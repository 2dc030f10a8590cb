package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
	"github.com/kvasir-ai/kvasir/gateway/dialect"
)

// chatLine is a chat request, as far as its prompt depends on it.
type chatLine struct {
	Messages  json.RawMessage `json:"messages"`
	Tools     json.RawMessage `json:"tools"`
	Documents json.RawMessage `json:"documents"`
	Kwargs    json.RawMessage `json:"chat_template_kwargs"`
	Effort    string          `json:"reasoning_effort"`
	Add       *bool           `json:"add_generation_prompt"`
	Continue  bool            `json:"continue_final_message"`
	Special   bool            `json:"add_special_tokens"`
	Now       string          `json:"now"`
}

// chatRenderer renders the chats of the model at path, a line each.
func chatRenderer(path string) (func([]byte) ([]byte, error), error) {
	d, err := dialect.Load(path, time.Now())
	if err == nil && d.Renderer == nil {
		if err = fmt.Errorf("%s: this model's chats are rendered by its engine only: it has neither a chat template nor rules known here", path); d.Broken != nil {
			err = fmt.Errorf("%s: this model's chats cannot be rendered here: %w", path, d.Broken)
		}
	}
	if err != nil {
		return nil, err
	}
	return func(in []byte) ([]byte, error) {
		var c chatLine
		into := any(&c)
		if in = bytes.TrimSpace(in); len(in) > 0 && in[0] == '[' {
			into = &c.Messages
		}
		if err := json.Unmarshal(in, into); err != nil {
			return nil, fmt.Errorf(`want {"messages":[...]} or the messages alone: %w`, err)
		}
		now, err := clockOf(c.Now)
		if err != nil {
			return nil, err
		}
		answer, err := c.render(d, now)
		if err != nil {
			answer = rendering{Error: err.Error()}
		}
		return answer.line()
	}, nil
}

func (c *chatLine) render(d *dialect.Dialect, now time.Time) (rendering, error) {
	prompt, err := d.Renderer.Prompt(chattemplate.Chat{
		Messages: c.Messages, Tools: c.Tools, Documents: c.Documents, Kwargs: c.Kwargs, ReasoningEffort: c.Effort,
		AddGenerationPrompt: c.Add == nil || *c.Add, ContinueFinalMessage: c.Continue,
		SpecialTokens: d.Tokenizer.SpecialTokens(), Now: now,
	})
	if err != nil {
		return rendering{}, err
	}
	out := prompt.String()
	tokens, err := d.EncodePrompt(nil, prompt, c.Special)
	return rendering{Output: &out, Tokens: tokens}, err
}
