package chattemplate

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// caseClock is what strftime_now read when the shared cases were made.
var caseClock = time.Date(2026, 11, 23, 7, 8, 9, 0, time.UTC)

type goldenCase struct {
	Name     string          `json:"name"`
	Case     string          `json:"case"`
	Template string          `json:"template"`
	Context  json.RawMessage `json:"context"`
	Output   *string         `json:"output"`
	Error    string          `json:"error"`
}

// sharedCases reads the renderings that Python Jinja2 made of real chat templates.
func sharedCases(t testing.TB) []goldenCase {
	path := filepath.Join("..", "..", "..", "shared", "data", "chat-templates", "cases.jsonl.gz")
	f, err := os.Open(path)
	if err != nil {
		t.Skipf("the shared chat templates are not here: %v", err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var cases []goldenCase
	lines := bufio.NewScanner(z)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var c goldenCase
		if err := json.Unmarshal(lines.Bytes(), &c); err != nil {
			t.Fatal(err)
		}
		cases = append(cases, c)
	}
	if err := lines.Err(); err != nil || len(cases) == 0 {
		t.Fatalf("%d cases, %v", len(cases), err)
	}
	return cases
}

// check compares one rendering with Python's.
func (c *goldenCase) check(t *testing.T) {
	t.Helper()
	out, err := c.render()
	switch {
	case c.Output == nil && err == nil:
		t.Errorf("%s/%s: rendered, but Python raises %s", c.Name, c.Case, c.Error)
	case c.Output == nil:
		if raised, ok := strings.CutPrefix(c.Error, "TemplateError: "); ok && !strings.Contains(err.Error(), raised) {
			t.Errorf("%s/%s: error %q does not carry %q", c.Name, c.Case, err, raised)
		}
	case err != nil:
		t.Errorf("%s/%s: %v", c.Name, c.Case, err)
	case out != *c.Output:
		t.Errorf("%s/%s: %s", c.Name, c.Case, difference(out, *c.Output))
	}
}

func (c *goldenCase) render() (string, error) {
	ctx, err := FromJSON(c.Context)
	if err != nil {
		return "", err
	}
	tmpl, err := Parse(c.Template)
	if err != nil {
		return "", err
	}
	return tmpl.Render(ctx, caseClock)
}

// difference shows two texts from a little before they part.
func difference(got, want string) string {
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	show := func(s string) string { return repr(str(strings.ToValidUTF8(s[max(0, i-40):min(len(s), i+80)], "?"))) }
	return "got  " + show(got) + "\nwant " + show(want)
}

func TestSharedCasesRenderAsPythonDoes(t *testing.T) {
	for _, c := range sharedCases(t) {
		c.check(t)
	}
}
