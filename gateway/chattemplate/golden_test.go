package chattemplate

import (
	"bufio"
	"encoding/json"
	"os"
	"strings"
	"testing"
)

// goldenCases reads what testdata/golden.py made: a context, then templates with what
// Python renders from it, or the name of what it raises.
func goldenCases(t testing.TB) []goldenCase {
	f, err := os.Open("testdata/golden.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var cases []goldenCase
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var c goldenCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		if len(cases) > 0 {
			c.Context = cases[0].Context
		}
		c.Name, c.Case = "golden", c.Template
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil || len(cases) < 2 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	return cases[1:]
}

func TestEachFeatureRendersAsPythonDoes(t *testing.T) {
	for _, c := range goldenCases(t) {
		c.check(t)
	}
}

// What a template may tell apart, by testing or by how it goes on, is the kind of an
// error; so the kind is held to Python's too, but for our own bounds.
func TestErrorsAreOfPythonsKind(t *testing.T) {
	for _, c := range goldenCases(t) {
		if c.Output != nil {
			continue
		}
		_, err := c.render()
		e, ok := err.(*Error)
		if !ok {
			t.Errorf("%s: %v is not an *Error", c.Template, err)
			continue
		}
		if want, _, _ := strings.Cut(c.Error, ":"); e.Kind != want {
			t.Errorf("%s: %s, Python raises %s (%s)", c.Template, e.Kind, want, e.Message)
		}
	}
}
