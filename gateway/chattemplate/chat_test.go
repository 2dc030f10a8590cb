package chattemplate

import (
	"encoding/json"
	"errors"
	"strings"
	"sync"
	"testing"
)

// Two templates that show what they are given, one of each content form.
const (
	showMessages = "{% for m in messages %}{{ m|tojson }}\n{% endfor %}"
	showParts    = "{% for m in messages %}{{ m|tojson }}{% for p in m['content'] %}{% endfor %}{{ '\n' }}{% endfor %}"
)

func mustParse(t testing.TB, src string) *Template {
	t.Helper()
	tmpl, err := Parse(src)
	if err != nil {
		t.Fatal(err)
	}
	return tmpl
}

func TestMessagesArePreparedAsVLLMDoes(t *testing.T) {
	f := func(template, messages, want string) {
		t.Helper()
		out, err := mustParse(t, template).RenderChat(Chat{Messages: json.RawMessage(messages), Now: caseClock})
		if err != nil {
			t.Errorf("%s: %v", messages, err)
		} else if out != want {
			t.Errorf("%s:\n%s", messages, difference(out, want))
		}
	}
	// The content takes the form that the template loops over, or a string.
	f(showMessages, `[{"role":"user","content":"hi"}]`, `{"role": "user", "content": "hi"}`+"\n")
	f(showParts, `[{"role":"user","content":"hi"}]`, `{"role": "user", "content": [{"type": "text", "text": "hi"}]}`+"\n")
	parts := `[{"content":[{"type":"text","text":"a"},"b",{"type":"input_text","text":"c"},{"type":"refusal","refusal":"d"},` +
		`{"type":"thinking","thinking":"e"},{"type":"text","text":null}],"role":"user"}]`
	f(showMessages, parts, `{"role": "user", "content": "a\nb\nc\nd\ne"}`+"\n")
	f(showParts, `[{"role":"user","content":[{"type":"text","text":"a","x":1},"b"]}]`,
		`{"role": "user", "content": [{"type": "text", "text": "a", "x": 1}, {"type": "text", "text": "b"}]}`+"\n")
	f(showMessages, `[{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":""}]}]`, `{"role": "user", "content": "a"}`+"\n")
	f(showMessages, `[{"role":"assistant","content":null}]`, `{"role": "assistant", "content": ""}`+"\n")
	f(showParts, `[{"role":"assistant"}]`, `{"role": "assistant", "content": []}`+"\n")

	// The line that Claude Code puts before its system prompt goes, there alone.
	billing := `x-anthropic-billing-header: cch=1;`
	f(showMessages, `[{"role":"system","content":"`+billing+`\nYou are"}]`, `{"role": "system", "content": "You are"}`+"\n")
	f(showParts, `[{"role":"system","content":[{"type":"text","text":"`+billing+`"},{"type":"text","text":"b"}]}]`,
		`{"role": "system", "content": [{"type": "text", "text": "b"}]}`+"\n")
	f(showMessages, `[{"role":"system","content":"`+billing+`"},{"role":"user","content":"`+billing+`"}]`,
		`{"role": "system", "content": ""}`+"\n"+`{"role": "user", "content": "`+billing+`"}`+"\n")

	// Tool results are a string in either form, unless they hold more than text.
	result := `[{"role":"tool","tool_call_id":"c1","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}]`
	f(showMessages, result, `{"role": "tool", "content": "a\nb", "tool_call_id": "c1"}`+"\n")
	f(showParts, result, `{"role": "tool", "content": "a\nb", "tool_call_id": "c1"}`+"\n")
	f(showParts, `[{"role":"tool","content":[{"type":"tool_reference","name":"t"}]}]`,
		`{"role": "tool", "content": [{"type": "tool_reference", "name": "t"}]}`+"\n")
	f(showMessages, `[{"role":"tool","content":[{"type":"tool_reference","name":"t"}]}]`, `{"role": "tool", "content": "t"}`+"\n")

	// Tool calls have the fields, in the order, of the OpenAI types, and parsed arguments.
	f(showMessages, `[{"role":"assistant","tool_calls":[{"type":"function","index":0,"id":"c1",`+
		`"function":{"name":"f","arguments":"{\"z\":1.0,\"a\":[null]}"}}]}]`,
		`{"role": "assistant", "content": "", "tool_calls": [{"id": "c1", "function": `+
			`{"arguments": {"z": 1.0, "a": [null]}, "name": "f"}, "type": "function", "index": 0}]}`+"\n")
	for _, arguments := range []string{`""`, `" "`, `"nonsense"`, `null`, `"{"`, `3`, `"[1]"`, `"5"`, `[1]`} {
		f("{{ messages[0].tool_calls[0].function.arguments }}",
			`[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":`+arguments+`}}]}]`, "{}")
	}
	f(showMessages, `[{"role":"assistant","content":"x","tool_calls":[]}]`, `{"role": "assistant", "content": "x"}`+"\n")
	f(showMessages, `[{"role":"user","content":"x","tool_calls":[{}]}]`, `{"role": "user", "content": "x"}`+"\n")

	// Reasoning goes by both its names; other fields are dropped.
	f(showMessages, `[{"role":"assistant","content":"x","reasoning_content":"r","foo":1,"name":"n"}]`,
		`{"role": "assistant", "content": "x", "reasoning": "r", "reasoning_content": "r", "name": "n"}`+"\n")
	f(showMessages, `[{"role":"assistant","content":"x","reasoning":"r","reasoning_content":"q"}]`,
		`{"role": "assistant", "content": "x", "reasoning": "r", "reasoning_content": "r"}`+"\n")
	f(showMessages, `[{"role":"developer","content":"x"}]`, `{"role": "developer", "content": "x", "tools": null}`+"\n")
}

func TestToolsHaveTheFieldsOfTheRequestModel(t *testing.T) {
	tools := `[{"function":{"parameters":{"type":"object","properties":{"z":{},"a":{}}},"name":"f","x":1},"type":"function","y":2},
		{"type":"function","function":{"name":"g","description":"d","strict":true}}]`
	out, err := mustParse(t, "{{ tools|tojson }}").RenderChat(Chat{Messages: json.RawMessage("[]"), Tools: json.RawMessage(tools)})
	want := `[{"type": "function", "function": {"name": "f", "description": null, "parameters": ` +
		`{"type": "object", "properties": {"z": {}, "a": {}}}}}, ` +
		`{"type": "function", "function": {"name": "g", "description": "d", "parameters": null, "strict": true}}]`
	if err != nil || out != want {
		t.Errorf("%v\n%s", err, difference(out, want))
	}
}

func TestTheContextOfAChat(t *testing.T) {
	f := func(template string, c Chat, want string) {
		t.Helper()
		c.Messages, c.Now = json.RawMessage("[]"), caseClock
		out, err := mustParse(t, template).RenderChat(c)
		if err != nil || out != want {
			t.Errorf("%s: got %q, %v, want %q", template, out, err, want)
		}
	}
	f("{{ tools }}{{ documents }}{{ add_generation_prompt }}{{ bos_token is defined }}", Chat{}, "NoneNoneFalseFalse")
	f("{{ tools }}{{ documents }}", Chat{Tools: json.RawMessage("null"), Documents: json.RawMessage("null")}, "NoneNone")
	f("{{ bos_token }}{{ add_generation_prompt }}", Chat{SpecialTokens: map[string]string{"bos_token": "<s>"}, AddGenerationPrompt: true}, "<s>True")
	kwargs := Chat{Kwargs: json.RawMessage(`{"enable_thinking":false,"x":{"b":1,"a":2},"add_generation_prompt":true,"bos_token":"B"}`),
		SpecialTokens: map[string]string{"bos_token": "<s>"}}
	f("{{ enable_thinking }}{{ x }}{{ add_generation_prompt }}{{ bos_token }}", kwargs, "False{'b': 1, 'a': 2}FalseB")
	f("{{ documents[0].text }}", Chat{Documents: json.RawMessage(`[{"text":"D"}]`), Kwargs: json.RawMessage(`{"documents":[]}`)}, "D")
	f("{{ reasoning_effort }}{{ enable_thinking }}", Chat{ReasoningEffort: "high"}, "highTrue")
	f("{{ enable_thinking }}", Chat{ReasoningEffort: "none"}, "False")
	f("{{ enable_thinking }}", Chat{ReasoningEffort: "high", Kwargs: json.RawMessage(`{"enable_thinking":false}`)}, "False")
	f("{{ strftime_now('%Y') }}", Chat{}, "2026")
}

func TestTheFinalMessageIsContinued(t *testing.T) {
	const plain = "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}{% if add_generation_prompt %}<go>{% endif %}"
	const trimmed = "{% for m in messages %}<{{ m.role }}>{{ m.content|trim }}</>{% endfor %}"
	const parts = "{% for m in messages %}<{{ m.role }}>{% for p in m.content %}{{ p.text }};{% endfor %}</>{% endfor %}"
	f := func(template, content, want string) {
		t.Helper()
		messages := `[{"role":"user","content":"hi"},{"role":"assistant","content":` + content + `}]`
		c := Chat{Messages: json.RawMessage(messages), ContinueFinalMessage: true}
		out, err := mustParse(t, template).RenderChat(c)
		var invalid *InvalidError
		if errors.As(err, &invalid) {
			out = invalid.Param
		} else if err != nil {
			t.Fatal(err)
		}
		if out != want {
			t.Errorf("%s: got %q, want %q", content, out, want)
		}
	}
	f(plain, `"Sure"`, "<user>hi</><assistant>Sure")
	f(plain, `"Sure, "`, "<user>hi</><assistant>Sure, ")
	f(plain, `" Sure "`, "<user>hi</><assistant> Sure ")
	f(trimmed, `"Sure, "`, "<user>hi</><assistant>Sure,")
	f(trimmed, `" Sure"`, "<user>hi</><assistant>Sure")
	f(plain, `""`, "<user>hi</><assistant>")
	f(parts, `[{"type":"text","text":"a"},{"type":"text","text":"b "}]`, "<user>hi;</><assistant>a;b ")
	f(parts, `"x"`, "<user>hi;</><assistant>x")
	f(parts, `[]`, "continue_final_message")
	f("{% for m in messages[:-1] %}{{ m.content }}{% endfor %}", `"x"`, "continue_final_message")
	f("{{ messages|length }}", `"x"`, "continue_final_message")
	f(`{{ messages[-1]["con" ~ "tent"] }}`, `"x"`, "continue_final_message")

	_, err := mustParse(t, plain).RenderChat(Chat{
		Messages: json.RawMessage(`[{"role":"assistant","content":"x"}]`), ContinueFinalMessage: true, AddGenerationPrompt: true,
	})
	var invalid *InvalidError
	if !errors.As(err, &invalid) || invalid.Param != "continue_final_message" {
		t.Errorf("both continuing and prompting: %v", err)
	}
}

func TestInvalidChatsNameTheField(t *testing.T) {
	f := func(c Chat, param string) {
		t.Helper()
		if c.Messages == nil {
			c.Messages = json.RawMessage("[]")
		}
		out, err := mustParse(t, showMessages).RenderChat(c)
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			t.Errorf("%s: got %q, %v", param, out, err)
		} else if invalid.Param != param || !strings.HasPrefix(err.Error(), param+": ") {
			t.Errorf("%v, want it to name %s", err, param)
		}
	}
	messages := func(s string) Chat { return Chat{Messages: json.RawMessage(s)} }
	f(messages(`{}`), "messages")
	f(messages(`[`), "messages")
	f(messages(`null`), "messages")
	f(messages(strings.Repeat("[", 10000)), "messages")
	f(messages(`[3]`), "messages[0]")
	f(messages(`[{"content":"x"}]`), "messages[0].role")
	f(messages(`[{"role":"user","content":"x"},{"role":"user","content":3}]`), "messages[1].content")
	f(messages(`[{"role":"user","content":[3]}]`), "messages[0].content[0]")
	f(messages(`[{"role":"user","content":[{"text":"x"}]}]`), "messages[0].content[0].type")
	f(messages(`[{"role":"user","content":[{"type":"text","text":3}]}]`), "messages[0].content[0].text")
	f(messages(`[{"role":"user","content":[{"type":"dance"}]}]`), "messages[0].content[0].type")
	f(messages(`[{"role":"assistant","tool_calls":3}]`), "messages[0].tool_calls")
	f(messages(`[{"role":"assistant","tool_calls":[3]}]`), "messages[0].tool_calls[0]")
	f(messages(`[{"role":"assistant","tool_calls":[{}]}]`), "messages[0].tool_calls[0].function")
	f(messages(`[{"role":"assistant","tool_calls":[{"function":{}}]}]`), "messages[0].tool_calls[0].function.name")
	f(messages(`[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"\"\\ud800\""}}]}]`),
		"messages[0].tool_calls[0].function.arguments")
	f(Chat{Tools: json.RawMessage(`{}`)}, "tools")
	f(Chat{Tools: json.RawMessage(`[{}]`)}, "tools[0].function")
	f(Chat{Tools: json.RawMessage(`[{"function":{}}]`)}, "tools[0].function.name")
	f(Chat{Kwargs: json.RawMessage(`[]`)}, "chat_template_kwargs")
	f(Chat{Kwargs: json.RawMessage(`{"tokenize":true}`)}, "chat_template_kwargs.tokenize")
	f(Chat{Documents: json.RawMessage(`[`)}, "documents")

	image := messages(`[{"role":"user","content":[{"type":"text","text":"x"},{"type":"image_url","image_url":{"url":"u"}}]}]`)
	f(image, "messages[0].content[1]")
	if _, err := mustParse(t, showMessages).RenderChat(image); !errors.Is(err, ErrUnsupportedContent) {
		t.Errorf("an image: %v", err)
	}
}

func TestWhatATemplateRaisesReachesTheCaller(t *testing.T) {
	tmpl := mustParse(t, "{% if messages[0].role != 'user' %}\n{{ raise_exception('Roles must alternate') }}{% endif %}")
	_, err := tmpl.RenderChat(Chat{Messages: json.RawMessage(`[{"role":"system","content":"x"}]`)})
	var e *Error
	if !errors.As(err, &e) || e.Kind != "TemplateError" || e.Message != "Roles must alternate" || e.Line != 2 {
		t.Errorf("%#v", err)
	}
}

func TestATemplateRendersConcurrently(t *testing.T) {
	tmpl := mustParse(t, "{% macro m(x) %}{{ x.content|upper }}{% endmacro %}{% set ns = namespace(n=0) %}"+
		"{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ m(m) if m is callable else m.content }}{{ ns.n }}{% endfor %}")
	c := Chat{Messages: json.RawMessage(`[{"role":"user","content":"a"},{"role":"user","content":"b"}]`)}
	want, err := tmpl.RenderChat(c)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 100 {
				if out, err := tmpl.RenderChat(c); err != nil || out != want {
					t.Errorf("%q, %v", out, err)
				}
			}
		})
	}
	wg.Wait()
}
