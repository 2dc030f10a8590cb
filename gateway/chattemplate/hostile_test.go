package chattemplate

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// smallBudget lets a template do little more than these tests need: what ends within it
// ends within the full one as well.
var smallBudget = budget{steps: maxSteps / 64, work: maxWork / 8}

// A template may come from a model that nobody checked. Each of these asks for far more
// than there is, and must end as an error.
func TestHostileTemplatesEndAsErrors(t *testing.T) {
	f := func(name, template string) {
		t.Helper()
		tmpl, err := Parse(template)
		if err == nil {
			_, err = tmpl.render(&dict{}, caseClock, 0, smallBudget)
		}
		var e *Error
		if !errors.As(err, &e) {
			t.Errorf("%s: got %v, want an *Error", name, err)
		}
	}
	loop := "{% for a in range(100000) %}{% for b in range(100000) %}"
	ends := "{% endfor %}{% endfor %}"
	f("endless recursion", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}")
	f("endless recursion through a call block", "{% macro m() %}{% call m() %}{% endcall %}{{ caller }}{% endmacro %}{{ m() }}")
	f("endless recursion in a loop", "{% for a in [1] recursive %}{{ loop([1]) }}{% endfor %}")
	f("nested loops", loop+ends)
	f("nested loops that print", loop+"{{ a }}xxxxxxxxxxxxxxxx"+ends)
	f("nested loops over text", "{% set s = 'x' * 10000000 %}"+loop+"{{ 'y' in s }}"+ends)
	f("nested loops that compare", "{% set s = 'x' * 10000000 %}{% set u = 'x' * 10000000 %}"+loop+"{% if s != u %}{% endif %}"+ends)
	f("nested loops that copy", "{% set s = 'x' * 10000000 %}"+loop+"{% set q = s + 'y' %}"+ends)
	f("nested loops that index", "{% set s = 'é' * 5000000 %}"+loop+"{% set q = s[4000000] %}"+ends)
	f("nested loops that measure", "{% set s = 'é' * 5000000 %}"+loop+"{% set q = s|length %}"+ends)
	f("doubling text", "{% set ns = namespace(s='xx') %}{% for a in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}")
	f("doubling a list", "{% set ns = namespace(l=[1]) %}{% for a in range(100) %}{% set ns.l = ns.l + ns.l %}{% endfor %}")
	f("doubling by a macro", "{% macro m(s, n) %}{{ m(s ~ s, n - 1) if n else s }}{% endmacro %}{{ m('x', 100) }}")
	f("nesting a list", "{% set ns = namespace(l=[]) %}{% for a in range(100000) %}{% set ns.l = [ns.l] %}{% endfor %}{{ ns.l }}")
	for _, use := range []string{"{{ ns.l }}", "{{ ns.l|tojson }}", "{{ ns.l == ns.k }}", "{{ ns.l < ns.k }}", "{{ {ns.t: 1} }}", "{{ '%s' % [ns.l] }}", "{{ ns.l|pprint }}"} {
		f("using a deep value: "+use, "{% set ns = namespace(l=[], k=[], t=()) %}{% for a in range(100000) %}"+
			"{% set ns.l = [ns.l] %}{% set ns.k = [ns.k] %}{% set ns.t = (ns.t,) %}{% endfor %}"+use)
	}
	for _, x := range []string{
		"'x' * 10**12", "'x' * 10**100", "[1] * 10**12", "[[]] * 2000000000", "range(10**9)", "range(10**30)", "range(0, 10**30, 10**29)",
		"10 ** (10 ** 10)", "2 ** (10 ** 9)", "9 ** 999999", "(10 ** 4000) ** 4000", "10 ** 5000", "-(10 ** 10000)",
		"'%1000000000d' % 1", "'%.1000000000f' % 1", "'%*d' % (10 ** 12, 1)", "'%.99999999999999999999f' % 1",
		"'{:1000000000}'.format(1)", "'{:.1000000000f}'.format(1.0)", "'{:{}}'.format(1, 10 ** 12)", "'{:{:{}}}'.format(1, 2, 3)",
		"'x'.center(10 ** 12)", "'x'.ljust(10 ** 12)", "'x'.zfill(10 ** 30)", "'\t'.expandtabs(10 ** 12)", "'x'|center(10 ** 12)",
		"'x'|indent(10 ** 12)", "'a\nb'|indent('x' * 10 ** 9)", "[1]|tojson(indent=10 ** 12)", "[1]|batch(10 ** 12, 1)|list", "[]|slice(10 ** 12)|list",
		"('x' * 10000).replace('', 'x' * 1000000)", "('x' * 1000000).join('x' * 1000000)", "'x'|replace('x', 'y' * 10 ** 10)",
		"range(100000)|join('x' * 100000)", "strftime_now('%1000000000Y')", "('%Y' * 100000000)", "'x' * 100000000 * 2",
		"(('x' * 1000000)|list)|map('center', 1000000)|list", "1.5|round(10 ** 400)|round(-(10 ** 400)) / 0", "('9' * 5000)|int + none",
		"('9' * 5000)|int + ''", "'{}'.format(10 ** 5000)", "[10 ** 5000]|tojson", "'%d' % 10 ** 5000", "range(100000)|map('string')|map('list')|list|string * 1000",
		strings.Repeat("(", 1000) + "1" + strings.Repeat(")", 1000), strings.Repeat("[", 100000), strings.Repeat("-", 5000) + "1",
		strings.Repeat("not ", 100000) + "1", "1" + strings.Repeat("+1", 100000), "a" + strings.Repeat(".b", 100000), "1" + strings.Repeat("|abs", 100000),
		"1" + strings.Repeat(" if 1", 100000), strings.Repeat("1 if 1 else ", 100000) + "1", strings.Repeat("{1:", 100000), "f" + strings.Repeat("(f", 100000),
		"1" + strings.Repeat(" is odd", 100000), strings.Repeat("a[", 100000), "1" + strings.Repeat(" and 1", 100000),
	} {
		f(x[:min(60, len(x))], "{{ "+x+" }}")
	}
	f("deep statements", strings.Repeat("{% if 1 %}", 100000))
	f("deep loops", strings.Repeat("{% for a in [1] %}", 1000)+strings.Repeat("{% endfor %}", 1000))
	f("a target as deep as that", "{% set "+strings.Repeat("(", 100000))
	var sets, chain strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&sets, "{%% set a%d=1 %%}{%% if a %%}{%% endif %%}", i)
		fmt.Fprintf(&chain, "{%% set a%d=a%d %%}", i, i+1)
	}
	f("many names in many branches", sets.String())
	f("a long chain of names", chain.String()+"{% set a20000=messages %}")
	f("nested loops that look up", "{% set s = 'x' * 10000000 %}{% set d = {s: 1} %}"+loop+"{% set q = d[s] %}"+ends)
	f("nested loops that strip tags", "{% set s = '<' * 1000000 %}"+loop+"{% set q = s|striptags %}"+ends)
	f("wrapping hyphens", "{{ ('a' ~ '-' * 10000000)|wordwrap }}")
	f("a huge template", strings.Repeat("x", maxSource+1))
	f("an integer too long to read", "{{ "+strings.Repeat("9", 10000)+" }}")
}

// What is deep or long but within the bounds works.
func TestWhatIsWithinTheBoundsRenders(t *testing.T) {
	f := func(template, want string) {
		t.Helper()
		out, err := (&goldenCase{Template: template, Context: []byte("{}")}).render()
		if err != nil || out != want {
			t.Errorf("%.60s: %.60q, %v", template, out, err)
		}
	}
	f("{% macro m(n) %}{% if n %}{{ m(n - 1) }}{% else %}x{% endif %}{% endmacro %}{{ m(160) }}", "x")
	f("{{ "+strings.Repeat("(", 60)+"1"+strings.Repeat(")", 60)+" }}", "1")
	f("{{ 1"+strings.Repeat("+1", 900)+" }}", "901")
	f(strings.Repeat("{% if 1 %}", 60)+"x"+strings.Repeat("{% endif %}", 60), "x")
	f("{% for i in range(100000) %}{% endfor %}{{ range(100000)|sum }}", "4999950000")
	f("{{ ('x' * 1000000)|length }}", "1000000")
	f("{{ (10 ** 4000)|string|length }}", "4001")
}

func TestJSONIsBounded(t *testing.T) {
	for _, doc := range []string{
		strings.Repeat("[", 1<<20), strings.Repeat(`{"a":`, 1<<20), strings.Repeat("9", 5000), `"\ud800"`, `"\udc00\ud800"`, "\"\xff\"",
	} {
		if v, err := FromJSON([]byte(doc)); err == nil {
			t.Errorf("%.20q: read as %T", doc, v)
		}
	}
}

func TestJSONReadsAsPythonDoes(t *testing.T) {
	f := func(doc, want string) {
		t.Helper()
		v, err := FromJSON([]byte(doc))
		got := fmt.Sprint(err)
		if err == nil {
			got = repr(v)
		}
		if !strings.HasPrefix(got, want) {
			t.Errorf("%s: got %s, want %s", doc, got, want)
		}
	}
	f(`{"b":1,"a":2,"b":3}`, `{'b': 3, 'a': 2}`)
	f(`[1, -0, 1.0, 1e5, 1E+2, -0.0, 1e400, -1e400, 0.1]`, `[1, 0, 1.0, 100000.0, 100.0, -0.0, inf, -inf, 0.1]`)
	f(`[NaN, Infinity, -Infinity]`, `[nan, inf, -inf]`)
	f(`123456789012345678901234567890`, `123456789012345678901234567890`)
	f(" \t\r\n[ null , true , false ] \n", `[None, True, False]`)
	f(`"\u00e9\ud83d\ude00\/\b\f\n\r\t\"\\"`, `'é😀/\x08\x0c\n\r\t"\\'`)
	f(`{}`, `{}`)
	f(`""`, `''`)
	for _, doc := range []string{
		``, `[1,]`, `{"a":1,}`, `{a:1}`, `{'a':1}`, `[1 2]`, `01`, `1.`, `.5`, `+1`, `-`, `1e`, `nul`, `"`, `"a`, `"\x"`, `"\u12"`,
		"\"\n\"", "\"\t\"", `[`, `{`, `{"a"`, `{"a":`, `1 2`, `nan`, `infinity`, "\ufeff1", `"\u+123"`,
	} {
		f(doc, "chat template: JSONDecodeError")
	}
}
