package chattemplate

import (
	"errors"
	"testing"
	"unicode/utf8"
)

// checkError fails if a refusal is not of the kind that callers are told of.
func checkError(t *testing.T, err error) {
	var e *Error
	if err != nil && !errors.As(err, &e) {
		t.Fatalf("%T is not an *Error: %v", err, err)
	}
}

func FuzzParse(f *testing.F) {
	for _, c := range goldenCases(f) {
		f.Add(c.Template)
	}
	f.Fuzz(func(t *testing.T, src string) {
		_, err := Parse(src)
		checkError(t, err)
	})
}

func FuzzRender(f *testing.F) {
	cases := goldenCases(f)
	for _, c := range cases {
		f.Add(c.Template)
	}
	ctx, err := FromJSON(cases[0].Context)
	if err != nil {
		f.Fatal(err)
	}
	before := repr(ctx)
	f.Fuzz(func(t *testing.T, src string) {
		tmpl, err := Parse(src)
		if err != nil {
			return
		}
		out, err := tmpl.Render(ctx, caseClock)
		checkError(t, err)
		if !utf8.ValidString(out) {
			t.Fatalf("the rendering is not UTF-8: %q", out)
		}
		if repr(ctx) != before {
			t.Fatal("rendering changed the context")
		}
	})
}

func FuzzFromJSON(f *testing.F) {
	for _, doc := range []string{`{"a":[1,2.5,null,true,"x\u00e9"]}`, `[1e400,-0,NaN]`, `"\ud83d\ude00"`, `{"a":{"a":{}},"a":1}`} {
		f.Add([]byte(doc))
	}
	f.Fuzz(func(t *testing.T, doc []byte) {
		v, err := FromJSON(doc)
		checkError(t, err)
		if err != nil {
			return
		}
		written, err := dump(v)
		if err != nil {
			return // an integer that is too long to print
		}
		again, err := FromJSON([]byte(written))
		if err != nil || repr(again) != repr(v) {
			t.Fatalf("%q was written as %q and read as %s, %v", doc, written, repr(again), err)
		}
	})
}

func FuzzRenderChat(f *testing.F) {
	tmpl, err := Parse("{% for m in messages %}{{ m.role }}:{% for p in m.content %}{{ p.text }}{% endfor %}" +
		"{{ m.tool_calls|tojson if m.tool_calls }}{% endfor %}{{ tools|tojson }}")
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`[{"role":"user","content":"hi"}]`), []byte(`[{"type":"function","function":{"name":"f"}}]`), true)
	f.Add([]byte(`[{"role":"assistant","tool_calls":[{"function":{"name":"f","arguments":"{}"}}]}]`), []byte(`null`), false)
	f.Fuzz(func(t *testing.T, messages, tools []byte, last bool) {
		_, err := tmpl.RenderChat(Chat{Messages: messages, Tools: tools, ContinueFinalMessage: last, Now: caseClock})
		var invalid *InvalidError
		if !errors.As(err, &invalid) {
			checkError(t, err)
		} else if invalid.Param == "" {
			t.Fatalf("%v names no field", err)
		}
	})
}

func dump(v Value) (out string, err error) {
	t, err := Parse("{{ v|tojson }}")
	if err != nil {
		return "", err
	}
	ctx := &dict{}
	ctx.setStr("v", v)
	return t.Render(ctx, caseClock)
}
