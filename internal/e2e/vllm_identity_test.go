package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// identity lets the official clients ask an engine directly and through the
// gateway: what they get is the same, but for ids and times.
func identity(t *testing.T, e *vllmEngine) {
	g := serveVLLM(t, nil, e)
	g.awaitTokenChecks("match")
	python, node := os.Getenv("KVASIR_PYTHON"), os.Getenv("KVASIR_NODE")
	need(t, python != "", "the official Python client")
	need(t, node != "", "the official Node client")
	same := func(t *testing.T, program string, args ...string) {
		t.Helper()
		ask := func(url string) string {
			t.Helper()
			out, err := run(t, nil, program, append(args, url, e.model)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			return out
		}
		ask(e.url()) // now every prompt is cached, for both that follow
		direct, through := ask(e.url()), ask(g.url)
		answers, others := strings.Split(direct, "\n"), strings.Split(through, "\n")
		if len(answers) != len(others) || len(answers) < 16 {
			t.Fatalf("%d answers directly, %d through Kvasir", len(answers), len(others))
		}
		for i, want := range answers {
			if got := others[i]; got != want {
				at := 0
				for at < min(len(got), len(want)) && got[at] == want[at] {
					at++
				}
				from := max(0, at-150)
				t.Errorf("%.30s...: directly ...%.300s\nthrough Kvasir ...%.300s", want, want[from:], got[from:])
			}
		}
		t.Logf("%d answers, %d bytes of JSON, are the same", len(answers)-1, len(direct))
	}
	t.Run("python", func(t *testing.T) { same(t, python, "testdata/clients/same.py") })
	t.Run("node", func(t *testing.T) {
		path, err := exec.LookPath("node")
		need(t, err == nil, "node")
		src, err := os.ReadFile("testdata/clients/same.mjs")
		if err != nil {
			t.Fatal(err)
		}
		script := filepath.Join(node, "same.mjs") // beside its node_modules
		if err := os.WriteFile(script, src, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(script)
		same(t, path, script)
	})
}
