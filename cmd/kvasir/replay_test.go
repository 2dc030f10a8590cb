package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// runReplay is what replay prints.
func runReplay(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	c := newReplay()
	c.SilenceUsage, c.SilenceErrors = true, true
	c.SetOut(&out)
	c.SetErr(&out)
	c.SetArgs(args)
	err := c.Execute()
	return out.String(), err
}

// TestReplayJSON has the fields that scripts read, the same however many policies
// run at a time.
func TestReplayJSON(t *testing.T) {
	page := filepath.Join(t.TempDir(), "report.html")
	args := []string{"--synthetic", "multi-round-qa", "--requests", "200", "--workers", "3", "--policy", "all", "--json", "--seed", "5"}
	out, err := runReplay(t, append(args, "--report", page)...)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Policies        []map[string]any
		Workers         *int
		BlocksPerWorker *int    `json:"blocks_per_worker"`
		TraceSHA256     string  `json:"trace_sha256"`
		Seed            *uint64 `json:"seed"`
	}
	if err := json.Unmarshal([]byte(out), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Policies) != 9 || *got.Workers != 3 || *got.BlocksPerWorker != 0 || len(got.TraceSHA256) != 64 || *got.Seed != 5 {
		t.Errorf("%s", out)
	}
	for _, p := range got.Policies {
		for _, field := range []string{"name", "hit_rate", "ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "load_max_over_mean", "requests"} {
			if _, ok := p[field]; !ok {
				t.Errorf("%v has no %s", p["name"], field)
			}
		}
	}
	if again, err := runReplay(t, append(args, "--parallel", "4")...); err != nil || again != out {
		t.Errorf("again: %v\n%s\nfirst:\n%s", err, again, out)
	}
	if b, err := os.ReadFile(page); err != nil || !bytes.Contains(b, []byte("<svg")) {
		t.Errorf("the report: %v", err)
	}
}

// TestReplayRefuses what makes no sense, and says what does.
func TestReplayRefuses(t *testing.T) {
	f := func(want string, args ...string) {
		t.Helper()
		if out, err := runReplay(t, args...); err == nil || !strings.Contains(err.Error(), want) || out != "" {
			t.Errorf("%v: %v, want %q; printed %q", args, err, want, out)
		}
	}
	f("--trace FILE or --synthetic")
	f("no such file", "--trace", "none.jsonl")
	f("use one of", "--synthetic", "chat")
	f("no policy", "--synthetic", "rag", "--policy", "best")
	f("no number", "--synthetic", "rag", "--slower", "1,x")
	f("join:N@TIME", "--synthetic", "rag", "--change", "stop:1@3s")
	f("mocker", "--synthetic", "rag", "--timing", "h100")
	f("--rate", "--synthetic", "rag", "--rate", "0")
	f("only measured timings", "--synthetic", "rag", "--timing", "mocker", "--calibrate", "none.json")
}
