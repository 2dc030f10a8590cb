package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"strings"
	"testing"
)

// cli runs kvasir with stdin and returns its output and exit code.
func cli(t *testing.T, stdin string, args ...string) (string, int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdin = strings.NewReader(stdin)
	out, err := cmd.CombinedOutput()
	return string(out), exitCode(err)
}

// Bad usage exits 2, a failure 1.
func TestCommandLine(t *testing.T) {
	good, bad := writeFile(t, "good.yaml", "listen: :8000\n"), writeFile(t, "bad.yaml", "listne: :8000\n")
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"replay --trace x --workers 4 --policy all --blocks-per-worker 100 --json", 1, "no such file"},
		{"top --url http://127.0.0.1:1", 1, "refused"},
		{"bench serve --workload nonsense", 2, "want qa, fixed or trace"},
		{"bench serve --url http://127.0.0.1:1", 1, "refused"},
		{"bench tiers --gpu 99", 1, "bench of the gpu tier"},
		{"nonsense", 2, "unknown command"},
		{"bench nonsense", 2, "unknown command"},
		{"up --nonsense", 2, "unknown flag"},
		{"up --workers 0", 2, "at least 1"},
		{"serve", 2, "no workers"},
		{"worker", 2, "no name"},
		{"explain", 2, "give one of a request id"},
		{"explain x --url http://127.0.0.1:1", 1, "refused"},
		{"tokenize", 2, "--model is missing"},
		{"validate " + good, 0, "valid: " + good},
		{"validate " + good + " " + bad, 1, bad + ":1: unknown setting"},
		{"version", 0, "kvasir "},
		{"completion bash", 0, "kvasir"},
		{"doctor", 0, "machine"},
	} {
		out, code := cli(t, "", strings.Fields(c.args)...)
		if code != c.code || !strings.Contains(out, c.says) {
			t.Errorf("kvasir %s: exit %d, want %d; want %q in\n%s", c.args, code, c.code, c.says, out)
		}
	}
}

func TestTokenizeAndRender(t *testing.T) {
	model := smollm2(t)
	text := "Wie hoch ist 3.14 × 2? 漢字\n"
	ids, code := cli(t, text, "tokenize", "--model", model)
	var tokens []int
	if err := json.Unmarshal([]byte(ids), &tokens); code != 0 || err != nil || len(tokens) < 8 {
		t.Fatalf("exit %d, %v: %s", code, err, ids)
	}
	if back, code := cli(t, ids, "tokenize", "--model", model, "--decode"); code != 0 || back != text {
		t.Errorf("exit %d: %q came back as %q", code, text, back)
	}
	out, code := cli(t, "\"a b\"\n\"c\"\n", "tokenize", "--model", model, "--jsonl")
	if code != 0 || strings.Count(out, "\n") != 2 {
		t.Errorf("exit %d: %s", code, out)
	}
	out, code = cli(t, `{"template":"{{ x|tojson }} {{ strftime_now('%Y') }}","context":{"x":{"b":1.0,"a":[true,null]}},"now":"2026-11-23T07:08:09"}
{"template":"{{ raise_exception('no') }}","context":{}}
`, "render", "--jsonl")
	if code != 0 || out != `{"output":"{\"b\": 1.0, \"a\": [true, null]} 2026"}`+"\n"+`{"error":"chat template line 1: TemplateError: no"}`+"\n" {
		t.Errorf("exit %d: %s", code, out)
	}
	out, code = cli(t, `[{"role":"user","content":"hi"}]`+"\n", "render", "--model", model)
	var chat struct {
		Output string `json:"output"`
		Tokens []int  `json:"tokens"`
	}
	if err := json.Unmarshal([]byte(out), &chat); code != 0 || err != nil || !strings.HasSuffix(chat.Output, "user\nhi<|im_end|>\n<|im_start|>assistant\n") || len(chat.Tokens) < 8 {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
}

// The benches print every field that scripts read.
func TestBenchFields(t *testing.T) {
	text := writeFile(t, "text", strings.Repeat("The quick brown fox, 42 times.\n", 500))
	checks := map[string][]string{
		"bench index --json --blocks 20000 --workers 4 --prompt-blocks 100 --write-rate 10000 --duration 200ms": {
			"lookup_p50_us", "lookup_p99_us", "allocs_per_lookup", "write_block_ops_per_s", "bytes_per_membership"},
		"bench tiers --json --block 64Ki --dir " + t.TempDir(): {"tiers"},
	}
	if f := os.Getenv("KVASIR_SMOLLM2"); f != "" {
		checks["bench tokenizer --json --tokenizer "+f+" --file "+text] = []string{
			"mb_per_s_new", "mb_per_s", "mb_per_s_first", "mb_per_s_warm", "tokens", "allocs_per_call", "load_ms"}
	}
	for args, fields := range checks {
		out, code := cli(t, "", strings.Fields(args)...)
		var got map[string]any
		if err := json.Unmarshal([]byte(out), &got); code != 0 || err != nil {
			t.Errorf("kvasir %s: exit %d, %v in %s", args, code, err, out)
		}
		for _, f := range fields {
			if _, ok := got[f]; !ok {
				t.Errorf("kvasir %s: no %s in %s", args, f, out)
			}
		}
	}
}
