package e2e

import (
	"errors"
	"net/http"
	"strings"
	"testing"

	openai "github.com/sashabaranov/go-openai"
)

func checkGoOpenAI(t *testing.T, g gateway) {
	models, err := g.client().ListModels(t.Context())
	if err != nil || len(models.Models) != 1 || models.Models[0].ID != smolName {
		t.Errorf("models: %+v, %v", models, err)
	}
	c := g.talk(smolName)
	first := c.say("Go asks about rivers, mountains and lakes, and what they are called. "+essay("go", 40), 12)
	if second := c.say("And deserts?", 12); second.cached < first.prompt*3/4 {
		t.Errorf("turn 2 reused %d of %d tokens", second.cached, first.prompt)
	}
	ask := func(model string, content ...string) *openai.APIError {
		t.Helper()
		req := openai.ChatCompletionRequest{Model: model, Messages: []openai.ChatCompletionMessage{}}
		for _, c := range content {
			req.Messages = append(req.Messages, openai.ChatCompletionMessage{Role: "user", Content: c})
		}
		_, err := g.client().CreateChatCompletion(t.Context(), req)
		var e *openai.APIError
		if !errors.As(err, &e) {
			t.Fatalf("got %v, want an *openai.APIError", err)
		}
		return e
	}
	if e := ask(smolName); e.HTTPStatusCode != http.StatusBadRequest || e.Param == nil || *e.Param != "messages" {
		t.Errorf("no messages: %+v", e)
	}
	if e := ask("no-such-model", "x"); e.HTTPStatusCode != http.StatusNotFound || e.Code != "model_not_found" {
		t.Errorf("wrong model: %+v", e)
	}
	if e := ask(smolName, strings.Repeat("word ", 60000)); e.HTTPStatusCode != http.StatusBadRequest || e.Code != "context_length_exceeded" {
		t.Errorf("oversized: %+v", e)
	}
}
