package dialect

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// object is JSON whose keys keep their order: name, value, name, value.
type object []any

func (o object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i := 0; i < len(o); i += 2 {
		if i > 0 {
			b.WriteByte(',')
		}
		for j, v := range o[i : i+2] {
			part, err := json.Marshal(v)
			if err != nil {
				return nil, err
			}
			if j == 1 {
				b.WriteByte(':')
			}
			b.Write(part)
		}
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// seeded is a generator from KVASIR_SEED, or a fresh seed; the test prints it.
func seeded(t testing.TB) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("KVASIR_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatalf("KVASIR_SEED: %v", err)
		}
	}
	t.Logf("KVASIR_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// chatGen writes random chat requests, mostly sensible ones.
type chatGen struct {
	*rand.Rand
	mistral int // the version whose rules most chats keep to; 0: no Mistral
}

func pick[T any](g *chatGen, from ...T) T { return from[g.IntN(len(from))] }

func (g *chatGen) chance(of int) bool { return g.IntN(of) == 0 }

var scraps = []string{
	"hello", "World", " the", "quick brown", "fox\n", "\n\n", "  ", "\t", "don't", "I'LL", "été", "naïve", "日本語", "한국어",
	"Привет", "مرحبا", "👩‍👩‍👧", "😀", "é", "\u00a0", "\u200b", "<|end|>", "<|start|>assistant<|channel|>final<|message|>",
	"<|call|>", "[INST]", "[/INST]", "</s>", "<s>", "[TOOL_CALLS]", "[THINK]", "<think>", "</think>", "<｜User｜>",
	"<｜end▁of▁sentence｜>", "｜DSML｜", "{\"a\": 1}", "[1, 2.0, null]", "12345", "3.14", "\"quoted\"", "\\back", "{{ x }}", "{% raw %}",
	"http://a.b/c?d=e", "x = y[0]", "// comment", "\r\n", "…", "＂", "\u2581", "a", "b ", " c ", "null", "true", "''",
}

func (g *chatGen) text() string {
	switch g.IntN(12) {
	case 0:
		return ""
	case 1:
		return pick(g, `{"b":1,"a":[1,2.50,"é"]}`, `{"x": 1e5}`, `[]`, `{"n":null,"t":true}`, `"s"`, `7`, `{broken`, "  ", `12345678901234567890`, "text ",
			"x-anthropic-billing-header: cch=1;", "x-anthropic-billing-header: cch=2;\nYou help.")
	}
	s := ""
	for range 1 + g.IntN(8) {
		s += pick(g, scraps...) + pick(g, "", " ", " ", "\n")
	}
	return s
}

func (g *chatGen) some() string {
	for {
		if s := g.text(); s != "" {
			return s
		}
	}
}

func (g *chatGen) content() any {
	if g.chance(4) {
		parts := []object{}
		for range g.IntN(4) {
			parts = append(parts, object{"type", "text", "text", g.text()})
		}
		return parts
	}
	return g.text()
}

func (g *chatGen) callID() string {
	if g.mistral == 0 && g.chance(3) {
		return pick(g, "call_0123456789abcdef", "c1", "é", fmt.Sprint("call_", g.IntN(5)))
	}
	return fmt.Sprintf("%09d", g.IntN(1e9))
}

func (g *chatGen) arguments() string {
	if g.chance(6) {
		return pick(g, "", "{}", "nonsense", `{"a":`, "[1]", "5", `"{\"a\": 1}"`, "null")
	}
	args := object{}
	for i := range g.IntN(4) {
		args = append(args, fmt.Sprint(pick(g, "a", "b", "city", "é", "n"), i), g.value(2))
	}
	b, _ := json.Marshal(args)
	return string(b)
}

func (g *chatGen) value(depth int) any {
	switch n := g.IntN(9); {
	case n == 0:
		return nil
	case n == 1:
		return g.chance(2)
	case n == 2:
		return g.IntN(2000) - 1000
	case n == 3:
		return json.RawMessage(pick(g, "1.0", "0.1", "1e20", "-2.5e-7", "123456789012345678", "1E3", "100.0", "0.00001", "12345678901234567000"))
	case n == 4 && depth > 0:
		return []any{g.value(depth - 1), g.value(depth - 1)}
	case n == 5 && depth > 0:
		return object{"k", g.value(depth - 1), "a", g.value(depth - 1)}
	}
	return g.text()
}

func (g *chatGen) call() object {
	return object{"id", g.callID(), "type", "function", "function", object{"name", g.function(), "arguments", g.arguments()}}
}

func (g *chatGen) function() string {
	return pick(g, "get_weather", "f", "search-web", "A1", "run_code")
}

// assistant is an assistant's message and the answers to its calls.
func (g *chatGen) assistant() []object {
	m := object{"role", "assistant"}
	if g.chance(g.seldom(3, 13)) {
		m = append(m, pick(g, "reasoning", "reasoning_content"), g.text())
	}
	if !g.chance(g.seldom(3, 2)) {
		return []object{append(m, "content", pick[any](g, g.some(), g.content()))}
	}
	if g.chance(g.seldom(2, 7)) {
		m = append(m, "content", pick[any](g, nil, g.text(), g.content()))
	}
	var calls, answers []object
	most := 3
	if g.mistral == 2 {
		most = 1
	}
	for range 1 + g.IntN(most) {
		call := g.call()
		calls = append(calls, call)
		answers = append(answers, object{"role", "tool", "tool_call_id", call[1], "content", g.content()})
	}
	if g.chance(3) {
		g.Shuffle(len(answers), func(i, j int) { answers[i], answers[j] = answers[j], answers[i] })
	}
	if g.chance(12) {
		answers = answers[1:]
	}
	return append([]object{append(m, "tool_calls", calls)}, answers...)
}

// seldom is usual, the inverse of a probability, but for Mistral's versions before the
// one that allows what it is about.
func (g *chatGen) seldom(usual, since int) int {
	if g.mistral > 0 && g.mistral < since {
		return 20 * usual
	}
	return usual
}

func (g *chatGen) messages() []object {
	if g.chance(6) {
		return g.wild()
	}
	var out []object
	if g.chance(2) {
		out = append(out, object{"role", pick(g, "system", "system", "developer"), "content", g.content()})
	}
	for range 1 + g.IntN(4) {
		out = append(out, object{"role", "user", "content", g.content()})
		for range g.IntN(3) {
			out = append(out, g.assistant()...)
		}
	}
	if !g.chance(6) {
		out = append(out, object{"role", "user", "content", g.content()})
	}
	return out
}

// wild is messages in any order.
func (g *chatGen) wild() []object {
	var out []object
	for range 1 + g.IntN(6) {
		switch g.IntN(6) {
		case 0, 1:
			out = append(out, g.assistant()...)
		case 2:
			out = append(out, object{"role", "tool", "tool_call_id", g.callID(), "content", g.content()})
		default:
			out = append(out, object{"role", pick(g, "user", "user", "system", "developer"), "content", g.content()})
		}
	}
	return out
}

func (g *chatGen) tools() []object {
	tools := []object{}
	for range g.IntN(4) {
		fn := object{"name", g.function()}
		if !g.chance(4) {
			fn = append(fn, "description", g.text())
		}
		if !g.chance(5) {
			fn = append(fn, "parameters", g.schema(3))
		}
		tools = append(tools, object{"type", "function", "function", fn})
	}
	return tools
}

// schema is a JSON schema of an object.
func (g *chatGen) schema(depth int) object {
	properties, required := object{}, []string{}
	for i := range g.IntN(4) {
		name := fmt.Sprint(pick(g, "a", "city", "unit", "größe", "x-y"), i)
		properties = append(properties, name, g.property(depth))
		if g.chance(2) {
			required = append(required, name)
		}
	}
	s := object{"type", "object", "properties", properties}
	if g.chance(2) {
		s = append(s, "required", required)
	}
	if g.chance(4) {
		s = append(s, "description", g.text())
	}
	if g.chance(6) {
		s = append(s, "additionalProperties", false)
	}
	return s
}

func (g *chatGen) property(depth int) object {
	if depth > 0 && g.chance(3) {
		switch g.IntN(4) {
		case 0:
			return g.schema(depth - 1)
		case 1:
			return object{"type", "array", "items", g.property(depth - 1)}
		case 2:
			return g.extras(object{pick(g, "oneOf", "oneOf", "anyOf"), []any{g.property(depth - 1), g.property(depth - 1)}})
		default:
			return g.extras(object{"type", "array"})
		}
	}
	return g.extras(pick(g,
		object{"type", "string"}, object{"type", "integer"}, object{"type", "number"}, object{"type", "boolean"},
		object{"type", "null"}, object{"type", []string{"string", "null"}}, object{"type", []string{"integer", "boolean"}},
		object{"type", "string", "enum", []string{"a", "b c", "é"}}, object{"enum", []any{1, "x"}}, object{"type", "integer", "enum", []int{1, 2}},
		object{},
	))
}

func (g *chatGen) extras(s object) object {
	s = append(object{}, s...)
	if g.chance(2) {
		s = append(s, "description", g.text())
	}
	if g.chance(4) {
		s = append(s, "default", g.value(1))
	}
	if g.chance(6) {
		s = append(s, "title", g.text())
	}
	if g.chance(6) {
		s = append(s, "nullable", g.chance(2))
	}
	if g.chance(6) {
		s = append(s, "examples", []any{g.text(), 5})
	}
	return s
}

// request is a whole chat request.
func (g *chatGen) request() object {
	r := object{"messages", g.messages()}
	if g.chance(2) {
		r = append(r, "tools", g.tools())
	}
	if g.chance(4) {
		r = append(r, "reasoning_effort", pick(g, "low", "medium", "high", "none", "max", "minimal"))
	}
	return r
}
