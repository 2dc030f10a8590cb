package gateway

import (
	"bytes"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"unicode/utf8"
)

// errGarbage is an event that is no JSON object.
var errGarbage = errors.New("an event of its stream is not JSON")

// continuedChunk is an event of a continuing worker: a completion's.
type continuedChunk struct {
	Choices []struct {
		Text         string              `json:"text"`
		Logprobs     *completionLogprobs `json:"logprobs"`
		FinishReason *string             `json:"finish_reason"`
		StopReason   json.RawMessage     `json:"stop_reason"`
		TokenIDs     []uint32            `json:"token_ids"`
	} `json:"choices"`
	Usage *engineUsage    `json:"usage"`
	Error json.RawMessage `json:"error"`
}

type completionLogprobs struct {
	TextOffset    []int                `json:"text_offset"`
	TokenLogprobs []*float64           `json:"token_logprobs"`
	Tokens        []string             `json:"tokens"`
	TopLogprobs   []map[string]float64 `json:"top_logprobs"`
}

type engineUsage struct {
	PromptTokens     int `json:"prompt_tokens"`
	TotalTokens      int `json:"total_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	Details          *struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details,omitempty"`
}

// ownChunk is an event as the client's stream has them.
type ownChunk struct {
	chunkHead
	Choices []any        `json:"choices"`
	Usage   *engineUsage `json:"usage,omitempty"`
}

type chatChoice struct {
	Index int `json:"index"`
	Delta struct {
		Content string `json:"content"`
	} `json:"delta"`
	Logprobs     *chatLogprobs   `json:"logprobs"`
	FinishReason *string         `json:"finish_reason"`
	StopReason   json.RawMessage `json:"stop_reason,omitempty"`
	TokenIDs     []uint32        `json:"token_ids,omitempty"`
}

type completionChoice struct {
	Index        int                 `json:"index"`
	Text         string              `json:"text"`
	Logprobs     *completionLogprobs `json:"logprobs"`
	FinishReason *string             `json:"finish_reason"`
	StopReason   json.RawMessage     `json:"stop_reason,omitempty"`
	TokenIDs     []uint32            `json:"token_ids,omitempty"`
}

type chatLogprobs struct {
	Content []tokenLogprob `json:"content"`
}

type tokenLogprob struct {
	Token       string         `json:"token"`
	Logprob     float64        `json:"logprob"`
	Bytes       []int          `json:"bytes"`
	TopLogprobs []tokenLogprob `json:"top_logprobs,omitzero"`
}

// continued appends a continuing worker's events to dst as the stream's own, up
// to one that is an error or none at all.
func (x *exchange) continued(dst, events []byte) (own []byte, err error) {
	for payload := range payloads(events) {
		if string(payload) == "[DONE]" {
			dst = append(dst, "data: [DONE]\n\n"...)
			continue
		}
		var chunk continuedChunk
		if json.Unmarshal(payload, &chunk) != nil {
			return dst, errGarbage
		}
		if chunk.Error != nil {
			return dst, errors.New(errorMessage(payload))
		}
		o := x.own(&chunk)
		if o == nil {
			continue
		}
		b, err := json.Marshal(o)
		if err != nil {
			return dst, err
		}
		dst = append(dst, "data: "...)
		dst = append(dst, b...)
		dst = append(dst, "\n\n"...)
	}
	return dst, nil
}

// own is the client's form of a chunk; nil if there is nothing in it for it.
func (x *exchange) own(chunk *continuedChunk) *ownChunk {
	c := x.carry
	o := &ownChunk{chunkHead: c.head, Choices: []any{}, Usage: chunk.Usage}
	if u := o.Usage; u != nil {
		u.PromptTokens -= len(c.ids)
		u.CompletionTokens += len(c.ids)
		if u.Details != nil {
			u.Details.CachedTokens = min(u.Details.CachedTokens, u.PromptTokens)
		}
	}
	for i := range chunk.Choices {
		choice := &chunk.Choices[i]
		text := c.unsaid(choice.Text)
		x.heard.more(choice.TokenIDs, text)
		if text == "" && choice.FinishReason == nil && choice.Logprobs == nil {
			continue
		}
		ids := choice.TokenIDs
		if string(x.q.fields[fieldReturnTokenIDs]) != "true" {
			ids = nil
		}
		if x.endpoint == endpointCompletion {
			if choice.Logprobs != nil {
				choice.Logprobs.shift(utf8.RuneCountInString(c.text))
			}
			o.Choices = append(o.Choices, completionChoice{
				Text: text, Logprobs: choice.Logprobs, FinishReason: choice.FinishReason, StopReason: choice.StopReason, TokenIDs: ids,
			})
			continue
		}
		chat := chatChoice{Logprobs: choice.Logprobs.chat(), FinishReason: choice.FinishReason, StopReason: choice.StopReason, TokenIDs: ids}
		chat.Delta.Content = text
		o.Choices = append(o.Choices, chat)
	}
	if len(o.Choices) == 0 && o.Usage == nil {
		return nil
	}
	return o
}

// unsaid is text without what the client has of it already.
func (c *carried) unsaid(text string) string {
	switch {
	case c.beyond == "":
	case strings.HasPrefix(text, c.beyond):
		text, c.beyond = text[len(c.beyond):], ""
	case strings.HasPrefix(c.beyond, text):
		text, c.beyond = "", c.beyond[len(text):]
	default:
		c.beyond = "" // the model went another way: it is sampled
	}
	return text
}

func (l *completionLogprobs) shift(characters int) {
	for i := range l.TextOffset {
		l.TextOffset[i] += characters
	}
}

// chat is the chat API's form of a completion's logprobs.
func (l *completionLogprobs) chat() *chatLogprobs {
	if l == nil {
		return nil
	}
	out := &chatLogprobs{Content: make([]tokenLogprob, len(l.Tokens))}
	for i, token := range l.Tokens {
		t := newTokenLogprob(token, 0)
		if i < len(l.TokenLogprobs) && l.TokenLogprobs[i] != nil {
			t.Logprob = *l.TokenLogprobs[i]
		}
		t.TopLogprobs = []tokenLogprob{}
		if i < len(l.TopLogprobs) {
			for other, logprob := range l.TopLogprobs[i] {
				t.TopLogprobs = append(t.TopLogprobs, newTokenLogprob(other, logprob))
			}
			slices.SortFunc(t.TopLogprobs, func(a, b tokenLogprob) int {
				if a.Logprob != b.Logprob {
					if a.Logprob > b.Logprob {
						return -1
					}
					return 1
				}
				return strings.Compare(a.Token, b.Token)
			})
		}
		out.Content[i] = t
	}
	return out
}

func newTokenLogprob(token string, logprob float64) tokenLogprob {
	t := tokenLogprob{Token: token, Logprob: logprob, Bytes: make([]int, len(token))}
	for i := range len(token) {
		t.Bytes[i] = int(token[i])
	}
	return t
}

// conclude sends the end of a stream of which nothing else is missing.
func (x *exchange) conclude() error {
	end, err := x.conclusion()
	if err != nil {
		return err
	}
	x.answer.events(end)
	if _, err := x.w.Write(end); err != nil {
		return x.clientGone(err)
	}
	if err := x.rc.Flush(); err != nil {
		return x.clientGone(err)
	}
	return nil
}

// conclusion is the end of a stream whose worker died when all of the answer but
// its end was there: the finish reason, where that is missing, the usage, where
// the client wants it, and "[DONE]".
func (x *exchange) conclusion() ([]byte, error) {
	c := x.carry
	generated := c.generated
	var events []*ownChunk
	if x.answer.finish == "" {
		length := "length"
		var choice any = chatChoice{FinishReason: &length}
		if x.endpoint == endpointCompletion {
			choice = completionChoice{FinishReason: &length}
		}
		events = append(events, &ownChunk{chunkHead: c.head, Choices: []any{choice}})
	}
	if x.answer.usage == nil && x.answer.last == nil && x.q.wantsUsage() {
		u := &engineUsage{PromptTokens: len(c.asked.tokens), CompletionTokens: generated, TotalTokens: len(c.asked.tokens) + generated}
		events = append(events, &ownChunk{chunkHead: c.head, Choices: []any{}, Usage: u})
	}
	var b bytes.Buffer
	for _, e := range events {
		line, err := json.Marshal(e)
		if err != nil {
			return nil, err
		}
		b.WriteString("data: ")
		b.Write(line)
		b.WriteString("\n\n")
	}
	b.WriteString("data: [DONE]\n\n")
	return b.Bytes(), nil
}

// wantsUsage reports whether the client asked for a usage at its stream's end.
func (q *inference) wantsUsage() bool {
	var o struct {
		IncludeUsage bool `json:"include_usage"`
	}
	return q.fields.has(fieldStreamOptions) && json.Unmarshal(q.fields[fieldStreamOptions], &o) == nil && o.IncludeUsage
}
