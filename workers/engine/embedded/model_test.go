package embedded

import (
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

// TestSmolLM2AnswersSensibly runs on the demo model where KVASIR_SMOLLM2 names
// its file.
func TestSmolLM2AnswersSensibly(t *testing.T) {
	path := os.Getenv("KVASIR_SMOLLM2")
	if path == "" {
		t.Skip("KVASIR_SMOLLM2 is not set to SmolLM2-135M-Instruct.Q4_1.gguf; the real model stays untested here")
	}
	e := start(t, func(c *Config) { c.Model, c.Name, c.GPUBlocks, c.Threads = path, "smollm2", 128, 0 })
	text := into[completionBody](e, "POST", "/v1/completions", object{"prompt": "The capital of France is", "max_tokens": 8, "temperature": 0}).Choices[0].Text
	if !strings.Contains(text, "Paris") {
		t.Errorf("the capital of France is%s", text)
	}
	turns := []object{{"role": "user", "content": "What is the capital of France? Answer in one word."}}
	first := into[chatBody](e, "POST", "/v1/chat/completions", object{"messages": turns, "max_tokens": 20, "temperature": 0})
	answer := first.Choices[0].Message.Content
	if !strings.Contains(answer, "Paris") || *first.Choices[0].FinishReason != "stop" {
		t.Errorf("answered %q (%s)", answer, *first.Choices[0].FinishReason)
	}
	turns = append(turns, object{"role": "assistant", "content": answer}, object{"role": "user", "content": "And of Italy?"})
	second := into[chatBody](e, "POST", "/v1/chat/completions", object{"messages": turns, "max_tokens": 20, "temperature": 0})
	if second.Usage.Details.CachedTokens == 0 || !strings.Contains(second.Choices[0].Message.Content, "Rome") {
		t.Errorf("second turn: %q, usage %+v", second.Choices[0].Message.Content, second.Usage)
	}
}

// BenchmarkSmolLM2 measures the demo model through HTTP: one client, a prompt of
// 1,000 tokens that is never cached, 64 tokens of answer.
func BenchmarkSmolLM2(b *testing.B) {
	path := os.Getenv("KVASIR_SMOLLM2")
	if path == "" {
		b.Skip("KVASIR_SMOLLM2 is not set")
	}
	e := start(b, func(c *Config) { c.Model, c.Name, c.GPUBlocks, c.Threads = path, "tiny", 256, 0 })
	rng := rand.New(rand.NewPCG(1, 1))
	var prefill, decode time.Duration
	for b.Loop() {
		prompt := randomPrompt(rng, 1000)
		begin := time.Now()
		e.complete(prompt, 1, nil)
		prefill += time.Since(begin)
		begin = time.Now()
		e.complete(prompt, 65, nil) // the prompt's last block is computed again
		decode += time.Since(begin)
	}
	b.ReportMetric(float64(b.N)*1000/prefill.Seconds(), "prefill-tok/s")
	b.ReportMetric(float64(b.N)*65/decode.Seconds(), "decode-tok/s")
}
