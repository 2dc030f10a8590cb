package embedded

import (
	"os"
	"strings"
	"testing"
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
