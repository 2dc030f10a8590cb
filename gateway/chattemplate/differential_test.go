package chattemplate

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// python renders with the reference, in a process that lives as long as the test.
type python struct {
	t   *testing.T
	in  *json.Encoder
	out *bufio.Scanner
}

// startPython needs KVASIR_PYTHON to name a Python that has jinja2 3.1.6.
func startPython(t *testing.T) *python {
	exe := os.Getenv("KVASIR_PYTHON")
	if exe == "" || exec.Command(exe, "-c", "import jinja2; assert jinja2.__version__ == '3.1.6'").Run() != nil {
		t.Skip("make test-deps installs a Python with jinja2==3.1.6 and says where in KVASIR_PYTHON")
	}
	cmd := exec.Command(exe, "-W", "ignore", filepath.Join("testdata", "jinja_reference.py"))
	cmd.Stderr = os.Stderr
	cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1")
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	})
	p := &python{t: t, in: json.NewEncoder(in), out: bufio.NewScanner(out)}
	p.out.Buffer(nil, 64<<20)
	return p
}

func (p *python) render(template string, context json.RawMessage) (c goldenCase) {
	c = goldenCase{Name: "python", Case: template, Template: template, Context: context}
	if err := p.in.Encode(map[string]any{"template": template, "context": context}); err != nil {
		p.t.Fatal(err)
	}
	if !p.out.Scan() {
		p.t.Fatalf("the reference ended: %v", p.out.Err())
	}
	if err := json.Unmarshal(p.out.Bytes(), &c); err != nil {
		p.t.Fatal(err)
	}
	return c
}

// seeded is a generator from KVASIR_SEED, or a fresh seed; the test prints it.
func seeded(t *testing.T) *rand.Rand {
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

// rounds is how many comparisons to make: def times KVASIR_EFFORT.
func rounds(t *testing.T, def int) int {
	s := os.Getenv("KVASIR_EFFORT")
	if s == "" {
		return def
	}
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 {
		t.Fatalf("KVASIR_EFFORT=%q; expected a number from 1", s)
	}
	return n * def
}

// agree compares one rendering with the reference's, unless there is nothing to compare:
// an address in the output, or a bound of ours that Python does not have.
func agree(t *testing.T, c goldenCase) {
	t.Helper()
	if c.Output != nil && (strings.Contains(*c.Output, " at 0x") || strings.Contains(*c.Output, "<class")) {
		return
	}
	if _, err := c.render(); err != nil {
		if e, ok := err.(*Error); ok && e.Kind == kindLimit {
			return
		}
	}
	c.check(t)
}

func TestRandomTemplatesRenderAsPythonDoes(t *testing.T) {
	p, rng := startPython(t), seeded(t)
	context := goldenCases(t)[0].Context
	for range rounds(t, 4000) {
		g := &templateGen{rng: rng}
		agree(t, p.render(g.body(3), context))
		if t.Failed() {
			return
		}
	}
}

func TestRandomConversationsRenderAsPythonDoes(t *testing.T) {
	p, rng := startPython(t), seeded(t)
	cases := sharedCases(t)
	for range rounds(t, 1500) {
		c := cases[rng.IntN(len(cases))]
		agree(t, p.render(c.Template, conversationContext(rng, c.Context)))
		if t.Failed() {
			return
		}
	}
}

// templateGen writes random templates, mostly sensible ones.
type templateGen struct{ rng *rand.Rand }

func (g *templateGen) pick(words string) string {
	w := strings.Split(words, " ")
	return w[g.rng.IntN(len(w))]
}

func (g *templateGen) one(options ...func() string) string {
	return options[g.rng.IntN(len(options))]()
}

const genNames = "s u ws n neg big f whole t no none_ l mixed strs d users messages emoji lines long html undef x y empty"

func (g *templateGen) atom() string {
	return g.one(
		func() string { return g.pick(genNames) },
		func() string { return g.pick(genNames) },
		func() string { return strconv.Itoa(g.rng.IntN(12) - 3) },
		func() string { return g.pick("1.5 0.1 2.0 1e16 -3.25 1e-5 123456789.125 true false none") },
		func() string {
			return g.pick(`'a' 'A,b' ' x ' '' 'é😀' '%s' '{}' 'a.b' 'l' '\n' "it's" '<b>' '12' '3.7'`)
		},
	)
}

func (g *templateGen) expr(depth int) string {
	if depth <= 0 {
		return g.atom()
	}
	sub := func() string { return g.expr(depth - 1) }
	small := func() string { return g.expr(0) }
	return g.one(
		g.atom,
		func() string {
			return "(" + sub() + " " + g.pick("+ - * / // % ~ == != < <= > >= in and or") + " " + sub() + ")"
		},
		func() string { return sub() + "[" + small() + "]" },
		func() string {
			return g.pick(genNames) + "[" + g.pick(": 1: :2 -2: :-1 ::-1 1:3 ::2 5:1:-2 -100:100") + "]"
		},
		func() string { return sub() + g.pick(".name .content .role .a .b.x .items .missing .0") },
		func() string { return "(" + sub() + " if " + small() + " else " + small() + ")" },
		func() string { return "(" + g.pick("not -") + " " + sub() + ")" },
		func() string { return "[" + sub() + ", " + small() + "]" },
		func() string { return "{" + small() + ": " + sub() + "}" },
		func() string { return "(" + sub() + ", " + small() + ")" },
		func() string { return "(" + sub() + " is " + g.pick("not ") + g.testCall() + ")" },
		func() string { return sub() + "|" + g.filterCall() },
		func() string { return sub() + "|" + g.filterCall() },
		func() string { return sub() + "|" + g.filterCall() },
		func() string { return sub() + "." + g.methodCall() },
		func() string { return sub() + "." + g.methodCall() },
	)
}

func (g *templateGen) testCall() string {
	return g.one(
		func() string {
			return g.pick("defined undefined none boolean true false integer float number string mapping sequence " +
				"iterable callable escaped lower upper odd even")
		},
		func() string { return g.pick("divisibleby eq ne lt le gt ge in sameas equalto") + "(" + g.atom() + ")" },
	)
}

func (g *templateGen) filterCall() string {
	a := g.atom
	return g.one(
		func() string {
			return g.pick("upper lower title capitalize trim length string list first last reverse int float abs round " +
				"tojson sort unique sum min max join default escape safe items dictsort wordcount striptags urlencode " +
				"forceescape filesizeformat indent center")
		},
		func() string { return "join(" + a() + ")" },
		func() string { return "default(" + a() + ", " + g.pick("true false") + ")" },
		func() string { return "replace(" + a() + ", " + a() + ")" },
		func() string { return "trim(" + a() + ")" },
		func() string { return "map('" + g.pick("upper string length int first tojson trim list") + "')|list" },
		func() string { return "map(attribute='" + g.pick("name role age addr.city 0 tags.0") + "')|list" },
		func() string {
			return g.pick("select reject") + "('" + g.pick("odd defined string number none") + "')|list"
		},
		func() string {
			return g.pick("selectattr rejectattr") + "('" + g.pick("name role addr tags age") + "', '" +
				g.pick("defined eq equalto ne in") + "', " + a() + ")|list"
		},
		func() string {
			return "sort(" + g.pick("true reverse=true attribute='age' attribute='name' case_sensitive=true") + ")"
		},
		func() string {
			return "tojson(" + g.pick("indent=2 true sort_keys=true separators=(',',':') indent=0 ensure_ascii=true") + ")"
		},
		func() string {
			return "round(" + strconv.Itoa(g.rng.IntN(7)-3) + g.pick(",'common' ,'floor' ,'ceil'") + ")"
		},
		func() string { return "indent(" + strconv.Itoa(g.rng.IntN(4)) + ", " + g.pick("true false") + ")" },
		func() string { return "truncate(" + strconv.Itoa(g.rng.IntN(30)) + ", " + g.pick("true false") + ")" },
		func() string { return "wordwrap(" + strconv.Itoa(1+g.rng.IntN(30)) + ", " + g.pick("true false") + ")" },
		func() string {
			return g.pick("batch slice") + "(" + strconv.Itoa(1+g.rng.IntN(4)) + ", " + a() + ")|list"
		},
		func() string { return "format(" + a() + ")" },
		func() string { return "groupby('" + g.pick("age name role") + "')" },
		func() string { return "int(" + a() + ", " + g.pick("10 16 2 0") + ")" },
		func() string { return "attr('" + g.pick("upper items __class__ name append") + "')" },
	)
}

func (g *templateGen) methodCall() string {
	a := g.atom
	return g.one(
		func() string {
			return g.pick("upper lower title capitalize swapcase casefold strip lstrip rstrip split rsplit splitlines items "+
				"keys values copy isdigit isalpha isspace islower isupper istitle isalnum isnumeric isascii isidentifier") + "()"
		},
		func() string {
			return g.pick("split rsplit strip lstrip rstrip startswith endswith find rfind count index join get partition "+
				"rpartition removeprefix removesuffix append format center zfill") + "(" + a() + ")"
		},
		func() string { return g.pick("split rsplit") + "(" + a() + ", " + strconv.Itoa(g.rng.IntN(4)-1) + ")" },
		func() string { return "replace(" + a() + ", " + a() + g.pick(",1 ,2 ,-1") + ")" },
		func() string { return "get(" + a() + ", " + a() + ")" },
		func() string { return g.pick("ljust rjust center") + "(" + strconv.Itoa(g.rng.IntN(20)) + ", '*')" },
	)
}

func (g *templateGen) text() string {
	return g.pick("a \n \t x\n \n\n é   <|im_start|> {") + g.pick(" \n  a \n\x20")
}

func (g *templateGen) tag(s string) string {
	open, end := "{%"+g.pick("- + "), g.pick("- + ")+"%}"
	return open + " " + s + " " + end
}

func (g *templateGen) body(depth int) string {
	var b strings.Builder
	for range 1 + g.rng.IntN(3) {
		b.WriteString(g.text())
		b.WriteString(g.statement(depth))
	}
	return b.String()
}

func (g *templateGen) statement(depth int) string {
	show := func() string { return "{{" + g.pick("- ") + " " + g.expr(1+g.rng.IntN(3)) + " " + g.pick("- ") + "}}" }
	if depth == 0 {
		return show()
	}
	in := func() string { return g.body(depth - 1) }
	e := func() string { return g.expr(g.rng.IntN(3)) }
	name := func() string { return g.pick("x y s n") }
	return g.one(
		show, show,
		func() string {
			return g.tag("if "+e()) + in() + g.tag("elif "+e()) + in() + g.tag("else") + in() + g.tag("endif")
		},
		func() string { return g.tag("if "+e()) + in() + g.tag("endif") },
		func() string { return g.tag("set " + name() + " = " + e()) },
		func() string { return g.tag("set "+name()) + in() + g.tag("endset") },
		func() string { return g.tag("set "+name()+" | "+g.filterCall()) + in() + g.tag("endset") },
		func() string {
			target := g.pick("x y x,y")
			filter := ""
			if g.rng.IntN(3) == 0 {
				filter = " if " + e()
			}
			return g.tag("for "+target+" in "+g.pick("l mixed users d messages d.items() strs range(3) s")+filter) + in() +
				"{{ loop." + g.pick("index first last length revindex previtem nextitem depth") + " }}" +
				g.pick("{%break%} {%continue%}") + g.tag("else") + in() + g.tag("endfor")
		},
		func() string { return g.tag("for x in "+e()) + in() + g.tag("endfor") },
		func() string {
			m := g.pick("m1 m2")
			return g.tag("macro "+m+"(x, y="+e()+")") + in() + "{{ varargs }}{{ kwargs }}" + g.tag("endmacro") +
				"{{ " + m + "(" + g.atom() + ") }}{{ " + m + "(" + g.atom() + ", z=" + g.atom() + ") }}"
		},
		func() string {
			return "{% macro w(x) %}<{{ caller(x) }}>{% endmacro %}" + g.tag("call(y) w("+e()+")") + in() + g.tag("endcall")
		},
		func() string {
			return "{% set ns = namespace(v=" + e() + ") %}{% for x in l %}{% set ns.v = " + e() + " %}{% endfor %}{{ ns.v }}"
		},
		func() string { return g.tag("filter "+g.filterCall()) + in() + g.tag("endfilter") },
		func() string { return g.tag("with x = "+e()+", y = x") + in() + g.tag("endwith") },
		func() string { return g.tag("generation") + in() + g.tag("endgeneration") },
	)
}

// conversationContext replaces the messages of a case by random ones.
func conversationContext(rng *rand.Rand, context json.RawMessage) json.RawMessage {
	var ctx map[string]json.RawMessage
	if err := json.Unmarshal(context, &ctx); err != nil {
		panic(err)
	}
	var messages []map[string]any
	words := []string{"Hello", " spaced ", "line\nbreak", "<think>why</think> so", "é😀", "", "{{ x }}", "</think>", "\n\n", "a\"b"}
	say := func() string { return words[rng.IntN(len(words))] + words[rng.IntN(len(words))] }
	value := func() any {
		return []any{1, 2.0, 1e16, "x", nil, true, []any{1, "é"}, map[string]any{"k": 0.1}}[rng.IntN(8)]
	}
	if rng.IntN(2) == 0 {
		messages = append(messages, map[string]any{"role": "system", "content": say()})
	}
	for i := range 1 + rng.IntN(6) {
		m := map[string]any{"role": []string{"user", "assistant"}[i%2], "content": say()}
		if rng.IntN(8) == 0 {
			m["content"] = []any{map[string]any{"type": "text", "text": say()}}
		}
		if i%2 == 1 && rng.IntN(3) == 0 {
			m["reasoning_content"] = say()
		}
		messages = append(messages, m)
		if i%2 == 1 && rng.IntN(2) == 0 {
			call := map[string]any{"name": "f" + say(), "arguments": map[string]any{"a": value(), "b": value()}}
			m["tool_calls"] = []any{map[string]any{"id": "call00001", "type": "function", "function": call}}
			messages = append(messages, map[string]any{"role": "tool", "content": say(), "tool_call_id": "call00001", "name": "f"})
		}
	}
	raw, err := json.Marshal(messages)
	if err != nil {
		panic(err)
	}
	ctx["messages"] = raw
	ctx["add_generation_prompt"] = json.RawMessage(fmt.Sprint(rng.IntN(2) == 0))
	ctx["enable_thinking"] = json.RawMessage(fmt.Sprint(rng.IntN(2) == 0))
	out, err := json.Marshal(ctx)
	if err != nil {
		panic(err)
	}
	return out
}
