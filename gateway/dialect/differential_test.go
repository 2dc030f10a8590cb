package dialect

import (
	"encoding/json"
	"errors"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
)

var clock = time.Date(2026, 11, 23, 7, 8, 9, 0, time.UTC)

// chatOf reads a request's fields as the gateway does.
func chatOf(t testing.TB, request []byte) chattemplate.Chat {
	t.Helper()
	fields := struct {
		Messages json.RawMessage `json:"messages"`
		Tools    json.RawMessage `json:"tools"`
		Kwargs   json.RawMessage `json:"chat_template_kwargs"`
		Effort   string          `json:"reasoning_effort"`
		Add      bool            `json:"add_generation_prompt"`
		Continue bool            `json:"continue_final_message"`
	}{Add: true}
	if err := json.Unmarshal(request, &fields); err != nil {
		t.Fatal(err)
	}
	return chattemplate.Chat{
		Messages: fields.Messages, Tools: fields.Tools, Kwargs: fields.Kwargs, ReasoningEffort: fields.Effort,
		AddGenerationPrompt: fields.Add, ContinueFinalMessage: fields.Continue, Now: clock,
	}
}

func load(t testing.TB, path string) *Dialect {
	t.Helper()
	d, err := Load(path, clock)
	if err != nil {
		t.Fatal(err)
	}
	if d.Renderer == nil || d.Broken != nil {
		t.Fatalf("%s: renderer %v, %v", path, d.Renderer, d.Broken)
	}
	return d
}

// compare renders n random chats here and there. What the engine refuses must be
// refused as the request's fault.
func compare(t *testing.T, d *Dialect, r *reference, g *chatGen, n int, job func(object) (request, asked object)) {
	t.Helper()
	refused := 0
	for range n {
		request, asked := job(g.request())
		want := r.render(asked)
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		prompt, err := d.Renderer.Prompt(chatOf(t, body))
		var invalid *chattemplate.InvalidError
		switch {
		case want.Error != "":
			refused++
			if !errors.As(err, &invalid) {
				t.Fatalf("the engine refuses (%s), and we: %v\n%s", want.Error, err, body)
			}
			continue
		case err != nil:
			t.Fatalf("we refuse what the engine accepts: %v\n%s", err, body)
		case want.IDs == nil:
			if got := prompt.String(); got != want.Text {
				at := common(got, want.Text)
				t.Fatalf("from byte %d on\ngot  %.300q\nwant %.300q\n%s", at, got[at:], want.Text[at:], body)
			}
			continue
		}
		got, err := d.EncodePrompt(nil, prompt, true)
		if err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		if !slices.Equal(got, want.IDs) {
			at := 0
			for at < min(len(got), len(want.IDs)) && got[at] == want.IDs[at] {
				at++
			}
			t.Fatalf("from id %d on\ngot  %q\nwant %q\n%s", at, d.words(got[max(0, at-8):]), d.words(want.IDs[max(0, at-8):]), body)
		}
	}
	t.Logf("%d chats, %d of them refused; 0 differ", n, refused)
}

// words shows tokens.
func (d *Dialect) words(ids []uint32) (words []string) {
	for _, id := range ids {
		w, _ := d.Tokenizer.Token(id)
		words = append(words, w)
	}
	return words
}

func TestHarmonyGivesTheEnginesTokens(t *testing.T) {
	r := newReference(t)
	d := load(t, sharedTokenizer(t, "gptoss", `{"model_type": "gpt_oss"}`))
	compare(t, d, r, &chatGen{Rand: seeded(t)}, 800*effort(t), func(request object) (object, object) {
		return request, object{"engine", "harmony", "date", "2026-11-23", "request", request}
	})
}

func TestDeepSeekGivesTheEnginesText(t *testing.T) {
	r := newReference(t)
	for name, architecture := range map[string]string{"deepseek_v32": "DeepseekV32ForCausalLM", "deepseek_v4": "DeepseekV4ForCausalLM"} {
		t.Run(name, func(t *testing.T) {
			d := load(t, sharedTokenizer(t, "qwen", `{"architectures": ["`+architecture+`"]}`))
			g := &chatGen{Rand: seeded(t)}
			compare(t, d, r, g, 1500*effort(t), func(request object) (object, object) {
				kwargs := object{}
				for _, name := range []string{"thinking", "enable_thinking", "drop_thinking"} {
					if g.chance(3) {
						kwargs = append(kwargs, name, pick[any](g, true, false, nil))
					}
				}
				request = append(request, "chat_template_kwargs", kwargs)
				if g.chance(8) {
					messages := request[1].([]object)
					i := g.IntN(len(messages))
					messages[i] = append(messages[i], "task", pick(g, "action", "query", "title", "nonsense"))
				}
				return request, object{"engine", name, "request", request}
			})
		})
	}
}

func TestMistralGivesTheEnginesTokens(t *testing.T) {
	r := newReference(t)
	for _, file := range mistralModels(t) {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			d := load(t, filepath.Dir(file))
			g := &chatGen{Rand: seeded(t), mistral: d.Renderer.(chattemplate.Mistral).Version}
			compare(t, d, r, g, 400*effort(t), func(request object) (object, object) {
				messages := request[1].([]object)
				if last := messages[len(messages)-1]; last[1] == "assistant" {
					request = append(request, "add_generation_prompt", g.chance(6), "continue_final_message", !g.chance(6))
				}
				return request, object{"engine", "mistral", "model", file, "request", request}
			})
		})
	}
}

// common is how long a and b are the same.
func common(a, b string) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	return i
}
