package embedded

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
)

// conversation is what a prompt is rendered from; /tokenize takes it, too.
type conversation struct {
	Messages            json.RawMessage `json:"messages"`
	Tools               json.RawMessage `json:"tools"`
	Documents           json.RawMessage `json:"documents"`
	AddGenerationPrompt *bool           `json:"add_generation_prompt"`
	ContinueFinal       bool            `json:"continue_final_message"`
	TemplateKwargs      json.RawMessage `json:"chat_template_kwargs"`
	Template            string          `json:"chat_template"`
	AddSpecialTokens    bool            `json:"add_special_tokens"`
}

type chatRequest struct {
	generation
	conversation
	MaxCompletionTokens *int            `json:"max_completion_tokens"`
	Logprobs            bool            `json:"logprobs"`
	TopLogprobs         *int            `json:"top_logprobs"`
	ToolChoice          json.RawMessage `json:"tool_choice"`
}

func (s *server) chatCompletions(w http.ResponseWriter, r *http.Request) {
	var req chatRequest
	err := read(w, r, &req)
	if err == nil {
		err = s.checkModel(req.Model)
	}
	if req.MaxCompletionTokens != nil {
		req.MaxTokens = req.MaxCompletionTokens
	}
	var o options
	if err == nil {
		o, err = req.validate(s.vocab)
	}
	if err == nil && req.TopLogprobs != nil && !req.Logprobs {
		err = badField("top_logprobs", "top_logprobs needs logprobs to be true")
	}
	if err == nil && req.Logprobs {
		n := 0
		if req.TopLogprobs != nil {
			n = *req.TopLogprobs
		}
		err = o.setTopLogprobs("top_logprobs", n)
	}
	if err == nil && !mayAnswerInText(req.ToolChoice) {
		err = badField("tool_choice", `tool_choice must be "auto" or "none": this engine answers in text and parses no tool calls`)
	}
	var tokens []uint32
	if err == nil {
		tokens, err = s.render(&req.conversation)
	}
	if err != nil {
		writeError(w, err)
		return
	}
	s.generate(w, r, "chatcmpl-", [][]uint32{tokens}, o, chatDialect{s})
}

func mayAnswerInText(toolChoice json.RawMessage) bool {
	var choice string
	return absent(toolChoice) || json.Unmarshal(toolChoice, &choice) == nil && (choice == "auto" || choice == "none")
}

// render turns a conversation into tokens.
func (s *server) render(c *conversation) ([]uint32, *apiError) {
	switch {
	case s.template == nil:
		return nil, badField("messages", "the model %q has no chat template; use /v1/completions", s.name)
	case c.Template != "":
		return nil, badField("chat_template", "chat_template must be absent: the model's own is used")
	case absent(c.Messages):
		return nil, badField("messages", "messages must be a list of messages")
	}
	present := func(raw json.RawMessage) json.RawMessage {
		if absent(raw) {
			return nil
		}
		return raw
	}
	text, err := s.template.RenderChat(chattemplate.Chat{
		Messages: c.Messages, Tools: present(c.Tools), Documents: present(c.Documents), Kwargs: present(c.TemplateKwargs),
		AddGenerationPrompt: c.AddGenerationPrompt == nil || *c.AddGenerationPrompt, ContinueFinalMessage: c.ContinueFinal,
		SpecialTokens: s.tokenizer.SpecialTokens(), Now: time.Now(),
	})
	var invalid *chattemplate.InvalidError
	if errors.As(err, &invalid) {
		return nil, badField(invalid.Param, "%v", err)
	} else if err != nil {
		return nil, badField("messages", "%v", err) // templates refuse conversations by raising
	}
	return s.tokenizer.Encode(nil, text, c.AddSpecialTokens), nil
}

// chatDialect writes chat completions.
type chatDialect struct{ s *server }

type chatBody struct {
	ID             string       `json:"id"`
	Object         string       `json:"object"`
	Created        int64        `json:"created"`
	Model          string       `json:"model"`
	Choices        []chatChoice `json:"choices"`
	Usage          *usage       `json:"usage,omitempty"`
	PromptTokenIDs []uint32     `json:"prompt_token_ids,omitempty"`
}

type chatChoice struct {
	Index        int           `json:"index"`
	Message      *chatMessage  `json:"message,omitempty"`
	Delta        *chatDelta    `json:"delta,omitempty"`
	Logprobs     *chatLogprobs `json:"logprobs"`
	FinishReason *string       `json:"finish_reason"`
	StopReason   any           `json:"stop_reason"`
	TokenIDs     []uint32      `json:"token_ids,omitempty"`
}

type chatMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

type chatDelta struct {
	Role    string  `json:"role,omitempty"`
	Content *string `json:"content,omitempty"`
}

type chatLogprobs struct {
	Content []chatTokenLogprob `json:"content"`
}

type chatTokenLogprob struct {
	chatToken
	Top []chatToken `json:"top_logprobs"`
}

type chatToken struct {
	Token   string  `json:"token"`
	Logprob float64 `json:"logprob"`
	Bytes   []int   `json:"bytes"`
}

func (d chatDialect) body(r *reply, object string, choices ...chatChoice) *chatBody {
	if choices == nil {
		choices = []chatChoice{}
	}
	return &chatBody{ID: r.id, Object: object, Created: r.created, Model: r.model, Choices: choices}
}

func (d chatDialect) choice(r *reply, it item) chatChoice {
	c := chatChoice{Index: it.index, Logprobs: d.logprobs(it.logprobs), StopReason: it.stopReason}
	if it.finish != "" {
		c.FinishReason = &it.finish
	}
	if r.returnTokenIDs {
		c.TokenIDs = it.ids
	}
	return c
}

func (d chatDialect) whole(r *reply) any {
	b := d.body(r, "chat.completion")
	b.Usage = &r.usage
	for _, c := range r.choices {
		out := d.choice(r, c.item)
		out.Message = &chatMessage{Role: "assistant", Content: c.text}
		b.Choices = append(b.Choices, out)
	}
	if r.returnTokenIDs {
		b.PromptTokenIDs = r.choices[0].prompt
	}
	return b
}

func (d chatDialect) chunk(r *reply, c *choice, it item) any {
	out := d.choice(r, it)
	out.Delta = &chatDelta{Content: &it.text}
	b := d.body(r, "chat.completion.chunk", out)
	if r.continuousUsage {
		b.Usage = &r.usage
	}
	return b
}

// opening is the chunk before a choice's first item: it names the role.
func (d chatDialect) opening(r *reply, c *choice) any {
	empty := ""
	b := d.body(r, "chat.completion.chunk", chatChoice{Index: c.index, Delta: &chatDelta{Role: "assistant", Content: &empty}})
	if r.returnTokenIDs {
		b.PromptTokenIDs = c.prompt
	}
	return b
}

func (d chatDialect) usageChunk(r *reply) any {
	b := d.body(r, "chat.completion.chunk")
	b.Usage = &r.usage
	return b
}

func (d chatDialect) logprobs(list []logprobs) *chatLogprobs {
	if len(list) == 0 {
		return nil
	}
	token := func(t tokenLogprob) chatToken {
		text := d.s.tokenText(t.id)
		bytes := make([]int, len(text))
		for i := range len(text) {
			bytes[i] = int(text[i])
		}
		return chatToken{text, t.logprob, bytes}
	}
	out := &chatLogprobs{}
	for _, l := range list {
		e := chatTokenLogprob{chatToken: token(l.chosen), Top: []chatToken{}}
		for _, t := range l.top {
			e.Top = append(e.Top, token(t))
		}
		out.Content = append(out.Content, e)
	}
	return out
}
