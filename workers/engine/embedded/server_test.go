package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

func chat(content string, more object) object {
	body := object{"model": "tiny", "messages": []object{{"role": "user", "content": content}}, "max_tokens": 12, "temperature": 0, "ignore_eos": true}
	for k, v := range more {
		body[k] = v
	}
	return body
}

func decode[T any](t *testing.T, data string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(data), &v); err != nil {
		t.Fatalf("%v in %s", err, data)
	}
	return v
}

func TestChatAnswersInOnePiece(t *testing.T) {
	e := start(t, nil)
	first := into[chatBody](e, "POST", "/v1/chat/completions", chat("Hello, who are you?", object{"return_token_ids": true}), requestIDHeader, "my-7")
	c := first.Choices[0]
	if first.ID != "chatcmpl-my-7" || first.Object != "chat.completion" || c.Message.Role != "assistant" || *c.FinishReason != "length" || len(c.TokenIDs) != 12 {
		t.Errorf("got %+v %+v", first, c)
	}
	prompt := into[tokenizeResponse](e, "POST", "/tokenize", object{"messages": chat("Hello, who are you?", nil)["messages"]})
	if !slices.Equal(first.PromptTokenIDs, prompt.Tokens) || first.Usage.PromptTokens != prompt.Count || first.Usage.TotalTokens != prompt.Count+12 {
		t.Errorf("prompt %v, usage %+v; /tokenize says %+v", first.PromptTokenIDs, first.Usage, prompt)
	}
	again := into[chatBody](e, "POST", "/v1/chat/completions", chat("Hello, who are you?", nil))
	if again.Choices[0].Message.Content != c.Message.Content || again.Usage.Details.CachedTokens != (prompt.Count-1)/blockSize*blockSize {
		t.Errorf("second time: %+v, usage %+v", again.Choices[0].Message, again.Usage)
	}
}

func TestChatStreams(t *testing.T) {
	e := start(t, nil)
	whole := into[chatBody](e, "POST", "/v1/chat/completions", chat("Stream!", object{"return_token_ids": true}))
	lines := e.events("/v1/chat/completions", chat("Stream!", object{"return_token_ids": true,
		"stream_options": object{"include_usage": true, "continuous_usage_stats": true}}), requestIDHeader, "s1")
	if lines[len(lines)-1] != "[DONE]" {
		t.Fatalf("the stream ends with %q", lines[len(lines)-1])
	}
	var text string
	var ids []uint32
	for i, line := range lines[:len(lines)-1] {
		b := decode[chatBody](t, line)
		if b.ID != "chatcmpl-s1" || b.Object != "chat.completion.chunk" || b.Model != "tiny" {
			t.Fatalf("chunk %d: %s", i, line)
		}
		switch i {
		case 0:
			if d := b.Choices[0].Delta; d.Role != "assistant" || *d.Content != "" || !slices.Equal(b.PromptTokenIDs, whole.PromptTokenIDs) {
				t.Errorf("first chunk: %s", line)
			}
			continue
		case len(lines) - 2:
			if len(b.Choices) != 0 || *b.Usage != (usage{whole.Usage.PromptTokens, whole.Usage.TotalTokens, 12, promptDetails{whole.Usage.PromptTokens / blockSize * blockSize}}) {
				t.Errorf("usage chunk: %s", line)
			}
			continue
		}
		c := b.Choices[0]
		text += *c.Delta.Content
		ids = append(ids, c.TokenIDs...)
		if b.Usage == nil || b.Usage.CompletionTokens != i {
			t.Errorf("chunk %d: running usage %+v", i, b.Usage)
		}
		if (c.FinishReason != nil) != (i == len(lines)-3) {
			t.Errorf("chunk %d: finish reason %v", i, c.FinishReason)
		}
	}
	if text != whole.Choices[0].Message.Content || !slices.Equal(ids, whole.Choices[0].TokenIDs) {
		t.Errorf("streamed %q %v, whole %q %v", text, ids, whole.Choices[0].Message.Content, whole.Choices[0].TokenIDs)
	}
	if plain := e.events("/v1/chat/completions", chat("Stream!", nil)); strings.Contains(strings.Join(plain, ""), "usage") {
		t.Error("usage without being asked")
	}
}

func TestCompletionsStreamAndTakeSeveralPrompts(t *testing.T) {
	e := start(t, nil)
	body := object{"prompt": []string{"one", "two"}, "n": 2, "max_tokens": 5, "temperature": 0, "ignore_eos": true}
	whole := into[completionBody](e, "POST", "/v1/completions", body)
	if len(whole.Choices) != 4 || *whole.Usage != (usage{6, 26, 20, promptDetails{}}) {
		t.Fatalf("choices %+v, usage %+v", whole.Choices, whole.Usage)
	}
	if c := whole.Choices; c[0].Text != c[1].Text || c[2].Text != c[3].Text || c[0].Text == c[2].Text {
		t.Errorf("texts of prompts 0, 0, 1, 1: %+v", c)
	}
	var texts [4]string
	for _, line := range e.events("/v1/completions", body) {
		if line != "[DONE]" {
			c := decode[completionBody](t, line).Choices[0]
			texts[c.Index] += c.Text
		}
	}
	for i, c := range whole.Choices {
		if texts[i] != c.Text {
			t.Errorf("choice %d: streamed %q, whole %q", i, texts[i], c.Text)
		}
	}
	if c := into[completionBody](e, "POST", "/v1/completions", object{"prompt": "x"}); c.Usage.CompletionTokens > 16 {
		t.Errorf("the default of 16 tokens was exceeded: %+v", c.Usage)
	}
}

func TestStopping(t *testing.T) {
	e, prompt := start(t, nil), bytesOf("Tell me")
	free := e.complete(prompt, 30, nil)
	third := free.tokens[2]
	if got := e.complete(prompt, 30, object{"stop_token_ids": []uint32{third}}); got.finish != "stop" || len(got.tokens) > 3 || got.tokens[len(got.tokens)-1] != third {
		t.Errorf("stop token %d: %+v", third, got)
	}
	if got := e.complete(prompt, 30, object{"stop_token_ids": []uint32{third}, "min_tokens": 10}); len(got.tokens) < 11 {
		t.Errorf("min_tokens of 10 gave %d tokens", len(got.tokens))
	}
	// Find some text that appears, and stop there.
	text := e.complete(prompt, 30, object{"skip_special_tokens": false}).text
	runes := []rune(text)
	stop := string(runes[4:6])
	want := text[:strings.Index(text, stop)]
	if got := e.complete(prompt, 30, object{"stop": stop, "skip_special_tokens": false}); got.text != want || got.finish != "stop" {
		t.Errorf("stop %q: %q (%s), want %q", stop, got.text, got.finish, want)
	}
	if got := e.complete(prompt, 30, object{"stop": []string{stop}, "include_stop_str_in_output": true, "skip_special_tokens": false}); got.text != want+stop {
		t.Errorf("stop %q included: %q", stop, got.text)
	}
}

func TestSeedsReproduce(t *testing.T) {
	e, prompt := start(t, nil), bytesOf("Once upon")
	warm := func(seed int) object {
		return object{"temperature": 1.5, "seed": seed, "top_p": .95, "top_k": 40}
	}
	a := e.complete(prompt, 30, warm(7))
	if b := e.complete(prompt, 30, warm(7)); !slices.Equal(a.tokens, b.tokens) {
		t.Errorf("seed 7 gave %v and %v", a.tokens, b.tokens)
	}
	if b := e.complete(prompt, 30, warm(8)); slices.Equal(a.tokens, b.tokens) {
		t.Error("seed 8 gave what seed 7 gave")
	}
}

func TestLogprobs(t *testing.T) {
	e := start(t, nil)
	b := into[chatBody](e, "POST", "/v1/chat/completions", chat("Hi", object{"logprobs": true, "top_logprobs": 3}))
	content := b.Choices[0].Logprobs.Content
	if len(content) != 12 {
		t.Fatalf("%d positions", len(content))
	}
	for _, p := range content {
		if len(p.Top) != 3 || p.Top[0].Token != p.Token || p.Top[0].Logprob != p.Logprob || p.Logprob > 0 || p.Top[1].Logprob < p.Top[2].Logprob {
			t.Errorf("greedy position: %+v", p)
		}
	}
	c := into[completionBody](e, "POST", "/v1/completions", object{"prompt": "Hi", "max_tokens": 5, "temperature": 0, "logprobs": 2, "ignore_eos": true})
	l := c.Choices[0].Logprobs
	if len(l.Tokens) != 5 || len(l.TextOffset) != 5 || len(l.TokenLogprobs) != 5 || len(l.TopLogprobs) != 5 || l.TextOffset[0] != 0 {
		t.Fatalf("got %+v", l)
	}
	for i, token := range l.Tokens {
		if got := l.TopLogprobs[i][token]; math.Abs(got-l.TokenLogprobs[i]) > 1e-12 {
			t.Errorf("token %q: %v among the top, %v by itself", token, got, l.TokenLogprobs[i])
		}
	}
}

func TestErrorsAreOpenAIs(t *testing.T) {
	e := start(t, func(c *Config) { c.MaxContext = 256 })
	long := make([]uint32, 300)
	for _, c := range []struct {
		path        string
		body        any
		status      int
		param, code string
	}{
		{"/v1/chat/completions", chat("x", object{"model": "gpt-9"}), 404, "model", "model_not_found"},
		{"/v1/completions", object{"model": "gpt-9", "prompt": "x"}, 404, "model", "model_not_found"},
		{"/v1/completions", object{"prompt": long}, 400, "input_tokens", "context_length_exceeded"},
		{"/v1/chat/completions", chat(strings.Repeat("long ", 100), nil), 400, "input_tokens", "context_length_exceeded"},
		{"/v1/completions", object{"prompt": "x", "max_tokens": 256}, 400, "max_tokens", "context_length_exceeded"},
		{"/v1/completions", object{"prompt": ""}, 400, "prompt", ""},
		{"/v1/completions", object{}, 400, "prompt", ""},
		{"/v1/completions", object{"prompt": []uint32{9999}}, 400, "prompt", ""},
		{"/v1/completions", object{"prompt": "x", "echo": true}, 400, "echo", ""},
		{"/v1/completions", object{"prompt": "x", "suffix": "y"}, 400, "suffix", ""},
		{"/v1/completions", object{"prompt": "x", "logprobs": 21}, 400, "logprobs", ""},
		{"/v1/completions", object{"prompt": "x", "temperature": -1}, 400, "temperature", ""},
		{"/v1/chat/completions", object{"model": "tiny"}, 400, "messages", ""},
		{"/v1/chat/completions", chat("x", object{"top_logprobs": 2}), 400, "top_logprobs", ""},
		{"/v1/chat/completions", chat("x", object{"tool_choice": "required"}), 400, "tool_choice", ""},
		{"/v1/chat/completions", chat("x", object{"chat_template": "x"}), 400, "chat_template", ""},
		{"/v1/nothing", object{}, 404, "", ""},
		{"/v1/completions", "not an object", 400, "", ""},
	} {
		status, answer := e.call("POST", c.path, c.body)
		got := decode[struct{ Error apiError }](t, string(answer)).Error
		text := func(s *string) string {
			if s == nil {
				return ""
			}
			return *s
		}
		if status != c.status || got.Message == "" || got.Type == "" || text(got.Param) != c.param || text(got.Code) != c.code {
			t.Errorf("%s %v: %d %s", c.path, c.body, status, answer)
		}
	}
	resp, err := e.client.Post(e.URL()+"/v1/completions", "application/json", bytes.NewReader(bytes.Repeat([]byte(" "), maxBody+1)))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusRequestEntityTooLarge {
		t.Errorf("a body over the bound is answered %d", resp.StatusCode)
	}
}

func TestWhatElseVLLMServes(t *testing.T) {
	e := start(t, func(c *Config) { c.Topic = "kv@w0" })
	for _, path := range []string{"/health", "/ping", "/version", "/metrics"} {
		if status, _ := e.call("GET", path, nil); status != 200 {
			t.Errorf("%s: %d", path, status)
		}
	}
	models := into[struct {
		Data []struct {
			ID          string `json:"id"`
			MaxModelLen int    `json:"max_model_len"`
		}
	}](e, "GET", "/v1/models", nil)
	if len(models.Data) != 1 || models.Data[0].ID != "tiny" || models.Data[0].MaxModelLen != 256*blockSize {
		t.Errorf("models: %+v", models)
	}
	sources := into[map[string]map[string]any](e, "GET", "/kv_event_sources", nil)["0"]
	if sources["endpoint"] != e.EventSource().Endpoint || sources["replay_endpoint"] != e.EventSource().Replay || sources["topic"] != "kv@w0" || sources["enable_kv_cache_events"] != true {
		t.Errorf("event sources: %v", sources)
	}
	tok := into[tokenizeResponse](e, "POST", "/tokenize", object{"model": "tiny", "prompt": "Hé", "return_token_strs": true})
	if tok.Count != 3 || tok.MaxModelLen != 256*blockSize || len(tok.Strings) != 3 || tok.Strings[0] != "H" {
		t.Errorf("tokenize: %+v", tok)
	}
	if back := into[map[string]string](e, "POST", "/detokenize", object{"tokens": tok.Tokens}); back["prompt"] != "Hé" {
		t.Errorf("detokenize: %v", back)
	}
	if load := into[map[string]int](e, "GET", "/load", nil); load["server_load"] != 0 {
		t.Errorf("load: %v", load)
	}
	_, metrics := e.call("GET", "/metrics", nil)
	for _, want := range []string{`vllm:cache_config_info{block_size="16"`, `num_gpu_blocks="256"`, `vllm:kv_cache_usage_perc{engine="0",model_name="tiny"} 0`} {
		if !strings.Contains(string(metrics), want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestMetricsCountTokens(t *testing.T) {
	e, prompt := start(t, nil), randomPrompt(trial.Rand(t), 100)
	e.complete(prompt, 10, nil)
	e.complete(prompt, 10, nil)
	for name, want := range map[string]float64{
		"vllm:prompt_tokens_total": 200, "vllm:generation_tokens_total": 20, "vllm:prefix_cache_queries_total": 200, "vllm:prefix_cache_hits_total": 96,
		"vllm:external_prefix_cache_hits_total": 0, "vllm:time_to_first_token_seconds_count": 2, "vllm:inter_token_latency_seconds_count": 18,
	} {
		if got := e.metric(name); got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
	trial.Await(t, "the finished requests are booked", func() bool { return e.metric("vllm:e2e_request_latency_seconds_count") == 2 })
	trial.Await(t, "the queues are empty", func() bool {
		return e.metric("vllm:num_requests_running")+e.metric("vllm:num_requests_waiting")+e.metric("kvasir:queued_prefill_tokens") == 0
	})
}

// begin starts a stream and waits for its first line.
func (e *testEngine) begin(ctx context.Context, prompt []uint32, tokens int, header ...string) *http.Response {
	e.t.Helper()
	resp, err := e.request(ctx, "POST", "/v1/completions", object{"prompt": prompt, "max_tokens": tokens, "stream": true, "ignore_eos": true}, header...)
	if err != nil {
		e.t.Fatal(err)
	}
	if line, err := bufio.NewReader(resp.Body).ReadString('\n'); err != nil || !strings.HasPrefix(line, "data: {") {
		e.t.Fatalf("%q, %v", line, err)
	}
	return resp
}

func TestAClientThatLeavesFreesItsPages(t *testing.T) {
	e := start(t, nil)
	ctx, leave := context.WithCancel(context.Background())
	resp := e.begin(ctx, bytesOf("Tell me everything"), 4000)
	if e.Manager().Stats().Tiers[kv.GPU].Filling == 0 {
		t.Error("the running sequence has no page")
	}
	leave()
	resp.Body.Close()
	trial.Await(t, "the pages are free again", func() bool {
		s := e.Manager().Stats().Tiers[kv.GPU]
		return s.Filling+s.Leased == 0
	})
	trial.Await(t, "the sequence is booked as aborted", func() bool {
		_, metrics := e.call("GET", "/metrics", nil)
		return strings.Contains(string(metrics), `finished_reason="abort",model_name="tiny"} 1`)
	})
}

func TestAFullQueueRefuses(t *testing.T) {
	e := start(t, func(c *Config) { c.MaxQueue = 1 })
	pages, err := e.Manager().GPU().Reserve(256) // nothing can be admitted
	if err != nil {
		t.Fatal(err)
	}
	first := make(chan outcome, 1)
	go func() { first <- e.complete(bytesOf("wait"), 3, nil) }()
	trial.Await(t, "the first request waits", func() bool { return e.metric("vllm:num_requests_waiting") == 1 })
	resp, err := e.request(context.Background(), "POST", "/v1/completions", object{"prompt": "refuse", "max_tokens": 1})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("got %d, Retry-After %q", resp.StatusCode, resp.Header.Get("Retry-After"))
	}
	for _, p := range pages {
		p.Abort()
	}
	if got := <-first; len(got.tokens) != 3 {
		t.Errorf("with pages again the first request gave %v", got.tokens)
	}
}

func TestCloseLetsRequestsFinish(t *testing.T) {
	e := start(t, nil)
	resp := e.begin(context.Background(), bytesOf("finish me"), 200)
	defer resp.Body.Close()
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		e.stop()
	}()
	last := ""
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if s.Text() != "" {
			last = s.Text()
		}
	}
	if last != "data: [DONE]" {
		t.Errorf("the stream ends with %q", last)
	}
	<-closed
}

func TestCloseCutsOffWhatDoesNotFinishInTime(t *testing.T) {
	e := start(t, nil)
	resp := e.begin(context.Background(), bytesOf("never"), 4000)
	defer resp.Body.Close()
	now, cancel := context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if err := e.Close(now); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestResetPrefixCache(t *testing.T) {
	e, prompt := start(t, nil), randomPrompt(trial.Rand(t), 100)
	e.complete(prompt, 1, nil)
	if r := into[map[string]bool](e, "POST", "/reset_prefix_cache", nil); !r["success"] {
		t.Fatal("an idle engine could not be reset")
	}
	if got := e.complete(prompt, 1, nil).cached; got != 0 {
		t.Errorf("%d cached tokens after a reset", got)
	}
	held := e.Manager().GPU().Acquire(hashesOf(prompt))
	if r := into[map[string]bool](e, "POST", "/reset_prefix_cache", nil); r["success"] {
		t.Error("reset although blocks are in use")
	}
	for _, l := range held {
		l.Release()
	}
}

func TestBadConfigurationsSayWhatToDo(t *testing.T) {
	for want, c := range map[string]Config{
		"set Model":                     {},
		"GPUBlocks":                     {Model: tinyModel(t), GPUBlocks: -1},
		"needs at least 64 GPUBlocks":   {Model: tinyModel(t), GPUBlocks: 10, MaxContext: 1024},
		"the model's own limit is 8192": {Model: tinyModel(t), MaxContext: 9000},
		"cpu tier":                      {Model: tinyModel(t), Tiers: kvbmTooSmall},
		"endpoint":                      {Model: tinyModel(t), Events: "nonsense"},
		"unknown port":                  {Model: tinyModel(t), Listen: "127.0.0.1:x"},
	} {
		e, err := Start(context.Background(), c)
		if err == nil {
			e.Close(context.Background())
		}
		if err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("want %q in the error, got %v", want, err)
		}
	}
}
