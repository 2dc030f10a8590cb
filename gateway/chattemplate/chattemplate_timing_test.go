package chattemplate

import (
	"encoding/json"
	"strings"
	"testing"
)

const chatML = `{%- if tools %}
    {{- '<|im_start|>system\n' }}
    {%- for tool in tools %}
        {{- tool | tojson }}
    {%- endfor %}
    {{- '<|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
    {%- if message.role == 'user' or message.role == 'system' or (message.role == 'assistant' and not message.tool_calls) %}
        {{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>' + '\n' }}
    {%- elif message.role == 'assistant' %}
        {{- '<|im_start|>' + message.role }}
        {%- for tool_call in message.tool_calls %}
            {{- '\n<tool_call>\n{"name": "' + tool_call.function.name + '", "arguments": ' }}
            {{- tool_call.function.arguments | tojson }}
            {{- '}\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\n' }}
{%- endif %}
`

// benchmarkChat renders a chat of turns messages of size bytes, from the request's JSON.
func benchmarkChat(b *testing.B, turns, size int) {
	tmpl := mustParse(b, chatML)
	var messages []map[string]string
	for i := range turns {
		role := []string{"user", "assistant"}[i%2]
		text := strings.Repeat("The quick brown fox says \"hi\".\n", size/31+1)[:size]
		messages = append(messages, map[string]string{"role": role, "content": text})
	}
	raw, err := json.Marshal(messages)
	if err != nil {
		b.Fatal(err)
	}
	c := Chat{Messages: raw, AddGenerationPrompt: true, Now: caseClock}
	b.SetBytes(int64(len(raw)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := tmpl.RenderChat(c); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkRenderSmallChat(b *testing.B) { benchmarkChat(b, 3, 200) }

func BenchmarkRenderLongChat(b *testing.B) { benchmarkChat(b, 240, 2000) }

// BenchmarkRenderSharedTemplates renders every shared case once, without preparing.
func BenchmarkRenderSharedTemplates(b *testing.B) {
	type prepared struct {
		t   *Template
		ctx Value
	}
	var all []prepared
	for _, c := range sharedCases(b) {
		t, err := Parse(c.Template)
		if err != nil {
			continue
		}
		ctx, err := FromJSON(c.Context)
		if err != nil {
			b.Fatal(err)
		}
		all = append(all, prepared{t, ctx})
	}
	b.ReportAllocs()
	for b.Loop() {
		for _, p := range all {
			p.t.Render(p.ctx, caseClock) // some cases are to fail
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*len(all)), "us/render")
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(chatML); err != nil {
			b.Fatal(err)
		}
	}
}
