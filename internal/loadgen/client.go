package loadgen

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// Target is an endpoint under load.
type Target struct {
	Name string
	URL  string // without /v1
	Key  string // "": none
	// PID is a process whose CPU time and memory are reported; 0: none.
	PID int
}

// request is a chat as engines take it: past OpenAI's fields, an answer of
// exactly max_tokens, so that targets do equal work.
type request struct {
	openai.ChatCompletionRequest
	IgnoreEOS bool `json:"ignore_eos,omitempty"`
}

// reply is what came of one request.
type reply struct {
	text   string
	first  time.Time // of the first content
	last   time.Time
	events int // with content
	prompt int // tokens by usage; 0: not told
	output int
	cached int // tokens; -1: not told
	// predictedMS is the gateway's own prediction of the TTFT; below 0: none.
	predictedMS float64
}

type client struct {
	http  *http.Client
	model string
	// exact asks engines to ignore the end of sequence.
	exact bool
}

// chat streams one answer.
func (c *client) chat(ctx context.Context, t *Target, messages []openai.ChatCompletionMessage, maxTokens int) (*reply, error) {
	body, err := json.Marshal(request{
		ChatCompletionRequest: openai.ChatCompletionRequest{
			Model: c.model, Messages: messages, MaxCompletionTokens: maxTokens, Stream: true,
			StreamOptions: &openai.StreamOptions{IncludeUsage: true},
		},
		IgnoreEOS: c.exact,
	})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(t.URL, "/")+"/v1/chat/completions", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if t.Key != "" {
		req.Header.Set("Authorization", "Bearer "+t.Key)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 4<<10))
		return nil, fmt.Errorf("%s: %s", resp.Status, bytes.TrimSpace(text))
	}
	r := &reply{cached: -1, predictedMS: -1}
	if ms, err := strconv.ParseFloat(resp.Header.Get("X-Kvasir-Predicted-Ttft-Ms"), 64); err == nil {
		r.predictedMS = ms
	}
	return r, r.read(resp.Body)
}

// read takes the stream in. An answer that ends before "[DONE]" is an error.
func (r *reply) read(body io.Reader) error {
	lines := bufio.NewReaderSize(body, 64<<10)
	var text strings.Builder
	defer func() { r.text = text.String() }()
	for {
		line, err := lines.ReadBytes('\n')
		if payload, ok := bytes.CutPrefix(bytes.TrimSpace(line), []byte("data:")); ok {
			payload = bytes.TrimSpace(payload)
			if string(payload) == "[DONE]" {
				return nil
			}
			if err := r.event(payload, &text); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return errors.New("the stream ended before [DONE]")
		case err != nil:
			return err
		}
	}
}

func (r *reply) event(payload []byte, text *strings.Builder) error {
	var chunk struct {
		openai.ChatCompletionStreamResponse
		Error json.RawMessage `json:"error"`
	}
	if err := json.Unmarshal(payload, &chunk); err != nil {
		return fmt.Errorf("an event of the stream: %w", err)
	}
	if chunk.Error != nil {
		return fmt.Errorf("an error within the stream: %s", chunk.Error)
	}
	for _, choice := range chunk.Choices {
		d := choice.Delta
		if d.Content == "" && d.ReasoningContent == "" && len(d.ToolCalls) == 0 {
			continue
		}
		r.last = time.Now()
		if r.events == 0 {
			r.first = r.last
		}
		r.events++
		text.WriteString(d.Content)
	}
	if u := chunk.Usage; u != nil {
		r.prompt, r.output = u.PromptTokens, u.CompletionTokens
		if u.PromptTokensDetails != nil {
			r.cached = u.PromptTokensDetails.CachedTokens
		}
	}
	return nil
}

// firstModel asks a target what it serves.
func firstModel(ctx context.Context, h *http.Client, t *Target) (string, error) {
	config := openai.DefaultConfig(t.Key)
	config.BaseURL, config.HTTPClient = strings.TrimSuffix(t.URL, "/")+"/v1", h
	list, err := openai.NewClientWithConfig(config).ListModels(ctx)
	if err != nil {
		return "", fmt.Errorf("asking %s for its models: %w", t.URL, err)
	}
	if len(list.Models) == 0 {
		return "", fmt.Errorf("%s serves no model yet; name one with --model", t.URL)
	}
	return list.Models[0].ID, nil
}
