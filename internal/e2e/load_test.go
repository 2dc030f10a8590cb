package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/loadgen"
)

// bench serve drives a real fleet with conversations that grow, and sees their
// prefixes cached; top shows the fleet that served them.
func TestBenchServeAndTop(t *testing.T) {
	g := startUp(t, nil, "--workers", "2", "--model", smollm2(t))
	out, code := cli(t, "", "bench", "serve", "--url", "up="+g.url, "--pid", fmt.Sprint("up=", g.cmd.Process.Pid), "--json",
		"--users", "2", "--rounds", "3", "--rate", "4", "--history-tokens", "100", "--system-tokens", "100", "--answer-tokens", "4")
	var r loadgen.Report
	if err := json.Unmarshal([]byte(out), &r); code != 0 || err != nil {
		t.Fatalf("exit %d, %v: %s", code, err, out)
	}
	if r.Requests != 6 || r.Errors != 0 || r.OutputTokens != 6*4 {
		t.Errorf("%d requests, %d errors %q, %d tokens out", r.Requests, r.Errors, r.FirstErrors, r.OutputTokens)
	}
	// Each later round repeats the 200 tokens and more of the one before.
	if r.CachedTokenShare < 0.4 {
		t.Errorf("only %.2f of the prompts was cached", r.CachedTokenShare)
	}
	if r.TTFTMS.P50 <= 0 || r.TPOTMS.P50 <= 0 || r.CPUMSPerRequest == nil || r.RSSMiB == nil || r.PredictionErrorMS == nil {
		t.Errorf("a figure is missing: %s", out)
	}
	page, code := cli(t, "", "top", "--url", g.url)
	if code != 0 || strings.Count(page, "ready") != 2 || strings.Count(page, "chat ") != 6 {
		t.Errorf("exit %d: want two workers and six decisions in\n%s", code, page)
	}
}
