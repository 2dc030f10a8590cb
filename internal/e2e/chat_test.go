package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strings"
	"testing"
	"time"

	openai "github.com/sashabaranov/go-openai"
)

// greedy is as near to 0 as go-openai sends: it leaves a plain 0 out, and the
// default is to sample. Engines take all below 1e-5 as greedy.
const greedy = math.SmallestNonzeroFloat32

// answer is what a client sees of one streamed turn.
type answer struct {
	text      string
	requestID string
	worker    string
	prompt    int
	cached    int
	tokens    int
	ttft      time.Duration
}

// conversation talks to one model and remembers what was said.
type conversation struct {
	t     *testing.T
	g     gateway
	model string
	said  []openai.ChatCompletionMessage
}

func (g gateway) client() *openai.Client {
	c := openai.DefaultConfig("unused")
	c.BaseURL = g.url + "/v1"
	return openai.NewClientWithConfig(c)
}

func (g gateway) talk(model string) *conversation {
	return &conversation{t: g.t, g: g, model: model}
}

// say adds a user's turn and streams the answer, greedily.
func (c *conversation) say(text string, maxTokens int) answer {
	c.t.Helper()
	c.said = append(c.said, openai.ChatCompletionMessage{Role: openai.ChatMessageRoleUser, Content: text})
	a, err := c.g.stream(c.t.Context(), openai.ChatCompletionRequest{Model: c.model, Messages: c.said, MaxCompletionTokens: maxTokens, Temperature: greedy})
	if err != nil {
		c.t.Fatalf("turn %d: %v", len(c.said)/2+1, err)
	}
	c.said = append(c.said, openai.ChatCompletionMessage{Role: openai.ChatMessageRoleAssistant, Content: a.text})
	return a
}

func (g gateway) stream(ctx context.Context, req openai.ChatCompletionRequest) (answer, error) {
	req.Stream, req.StreamOptions = true, &openai.StreamOptions{IncludeUsage: true}
	sent := time.Now()
	s, err := g.client().CreateChatCompletionStream(ctx, req)
	if err != nil {
		return answer{}, err
	}
	defer s.Close()
	h := s.Header()
	a := answer{requestID: h.Get("X-Request-Id"), worker: h.Get("X-Kvasir-Worker")}
	var finish openai.FinishReason
	for {
		r, err := s.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a, err
		}
		if r.Usage != nil {
			a.prompt, a.tokens = r.Usage.PromptTokens, r.Usage.CompletionTokens
			if d := r.Usage.PromptTokensDetails; d != nil {
				a.cached = d.CachedTokens
			}
		}
		for _, c := range r.Choices {
			if c.Delta.Content != "" && a.ttft == 0 {
				a.ttft = time.Since(sent)
			}
			a.text += c.Delta.Content
			if c.FinishReason != "" {
				finish = c.FinishReason
			}
		}
	}
	if finish == "" || a.prompt == 0 || a.tokens == 0 {
		return a, fmt.Errorf("the stream ended without finish reason or usage: %+v, %q", a, finish)
	}
	return a, nil
}

// essay is a prompt of about n words that shares no prefix with another topic.
func essay(topic string, n int) string {
	words := []string{"river", "stone", "market", "winter", "engine", "letter", "garden", "signal", "copper", "harbour", "window", "thread"}
	var b strings.Builder
	fmt.Fprintf(&b, "Topic %s.", topic)
	for i := range n {
		fmt.Fprintf(&b, " %s", words[(i*7+i/5+len(topic))%len(words)])
	}
	b.WriteString(". Summarise this in one sentence.")
	return b.String()
}

// getJSON reads one of the gateway's own endpoints.
func (g gateway) getJSON(path string, into any) {
	g.t.Helper()
	r, err := http.Get(g.url + path)
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil || r.StatusCode != http.StatusOK {
		g.t.Fatalf("GET %s: %s %v %s", path, r.Status, err, b)
	}
	if err := json.Unmarshal(b, into); err != nil {
		g.t.Fatalf("GET %s: %v in %s", path, err, b)
	}
}

// post sends a raw body and returns status, header and body.
func (g gateway) post(path, body string) (int, http.Header, string) {
	g.t.Helper()
	r, err := http.Post(g.url+path, "application/json", bytes.NewBufferString(body))
	if err != nil {
		g.t.Fatal(err)
	}
	defer r.Body.Close()
	b, err := io.ReadAll(r.Body)
	if err != nil {
		g.t.Fatal(err)
	}
	return r.StatusCode, r.Header, string(b)
}

// explanation is what `kvasir explain --json` prints.
type explanation struct {
	RequestID    string      `json:"request_id"`
	Done         bool        `json:"done"`
	Chosen       string      `json:"chosen"`
	Candidates   []candidate `json:"candidates"`
	ObservedTTFT float64     `json:"observed_ttft_ms"`
	Onboard      *struct {
		Blocks    map[string]int `json:"blocks"`
		Missed    int            `json:"missed"`
		ElapsedMS float64        `json:"ms"`
	} `json:"onboard"`
}

type candidate struct {
	Worker          string         `json:"worker"`
	QueueMS         float64        `json:"queue_ms"`
	RestoreMS       float64        `json:"restore_ms"`
	PrefillMS       float64        `json:"prefill_ms"`
	TTFTMS          float64        `json:"ttft_ms"`
	HarmMS          float64        `json:"harm_ms"`
	ScoreMS         float64        `json:"score_ms"`
	Blocks          map[string]int `json:"blocks"`
	RecomputeBlocks int            `json:"recompute_blocks"`
}

// explain asks the command line why a request went where it went, once the
// gateway has closed its record: the client may have its answer a moment before.
func (g gateway) explain(id string) (e explanation) {
	g.t.Helper()
	g.eventually("the record is closed", func() error {
		out, err := run(g.t, nil, binary, "explain", id, "--url", g.url, "--json")
		if err != nil {
			return fmt.Errorf("kvasir explain %s: %w: %s", id, err, out)
		}
		e = explanation{}
		if err := json.Unmarshal([]byte(out), &e); err != nil || !e.Done {
			return fmt.Errorf("%v in %s", err, out)
		}
		return nil
	})
	return e
}

func (e explanation) winner(t *testing.T) candidate {
	t.Helper()
	for _, c := range e.Candidates {
		if c.Worker == e.Chosen {
			return c
		}
	}
	t.Fatalf("the chosen worker %q is not among the candidates %+v", e.Chosen, e.Candidates)
	return candidate{}
}
