package e2e

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// vllmFleet is real vLLM on CPUs: one process that has imported vLLM and forks
// engines from that (vllm/engines.py).
type vllmFleet struct {
	t       *testing.T
	cmd     *exec.Cmd
	in      io.Writer
	answers *bufio.Scanner
	logs    string
}

// vllmEngine is one `vllm serve`.
type vllmEngine struct {
	name, model, folder   string
	port, events, replays int
	args                  []string
	env                   map[string]string
	ranks                 int // data-parallel; fewer than two: none
}

func (e *vllmEngine) url() string { return fmt.Sprintf("http://127.0.0.1:%d", e.port) }

// vllmModel is a folder that make test-vllm installed.
func vllmModel(t *testing.T, variable string) string {
	t.Helper()
	dir := os.Getenv(variable)
	if dir == "" {
		t.Skipf("%s is not set: make test-vllm installs vLLM and runs this", variable)
	}
	return dir
}

// startVLLM brings up the process that engines are forked from.
func startVLLM(t *testing.T) *vllmFleet {
	t.Helper()
	venv := vllmModel(t, "KVASIR_VLLM")
	f := &vllmFleet{t: t, logs: t.TempDir()}
	f.cmd = exec.Command(filepath.Join(venv, "bin", "python"), "vllm/engines.py")
	in, err := f.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := f.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := os.Create(filepath.Join(f.logs, "engines.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer stderr.Close()
	f.cmd.Stderr = stderr
	if err := f.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.in, f.answers = in, bufio.NewScanner(out)
	t.Cleanup(func() {
		_ = f.cmd.Process.Signal(syscall.SIGTERM)
		_ = f.cmd.Wait()
		if t.Failed() {
			f.showLogs()
		}
	})
	f.expect("ready")
	return f
}

func (f *vllmFleet) showLogs() {
	files, _ := filepath.Glob(filepath.Join(f.logs, "*.log"))
	for _, file := range files {
		b, _ := os.ReadFile(file)
		lines := strings.Split(string(b), "\n")
		f.t.Logf("%s:\n%s", filepath.Base(file), strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}

func (f *vllmFleet) expect(answer string) {
	f.t.Helper()
	if !f.answers.Scan() || f.answers.Text() != answer {
		f.showLogs()
		f.t.Fatalf("engines.py said %q (%v), not %q", f.answers.Text(), f.answers.Err(), answer)
	}
}

func (f *vllmFleet) tell(command map[string]any) {
	f.t.Helper()
	b, err := json.Marshal(command)
	if err != nil {
		f.t.Fatal(err)
	}
	if _, err := f.in.Write(append(b, '\n')); err != nil {
		f.t.Fatal(err)
	}
	f.expect("ok")
}

// engine describes a stock engine of a model's folder, with events on.
func (f *vllmFleet) engine(name, model, folder string, blocks int, args ...string) *vllmEngine {
	f.t.Helper()
	e := &vllmEngine{name: name, model: model, folder: folder, port: freePort(f.t), events: freePort(f.t), replays: freePort(f.t)}
	e.args = append([]string{
		folder, "--served-model-name", model, "--host", "127.0.0.1", "--port", fmt.Sprint(e.port),
		"--enforce-eager", "--dtype", "bfloat16", "--seed", "0", "--block-size", "32", "--num-gpu-blocks-override", fmt.Sprint(blocks),
		"--max-model-len", "1024", "--max-num-seqs", "8", "--max-num-batched-tokens", "1024", "--enable-prompt-tokens-details",
		"--kv-events-config", fmt.Sprintf(`{"enable_kv_cache_events":true,"endpoint":"tcp://*:%d","replay_endpoint":"tcp://*:%d","topic":"kv@%s"}`, e.events, e.replays, name),
	}, args...)
	return e
}

// up starts engines side by side and waits for them.
func (f *vllmFleet) up(engines ...*vllmEngine) {
	f.t.Helper()
	for _, e := range engines {
		f.run(e)
	}
	for _, e := range engines {
		f.await(e)
	}
}

// run starts an engine, or starts it again.
func (f *vllmFleet) run(e *vllmEngine) {
	f.t.Helper()
	command := map[string]any{"start": e.name, "args": e.args, "log": filepath.Join(f.logs, e.name+".log"), "env": e.env}
	if e.ranks > 1 { // processes that vLLM's coordinator starts, and that cannot be forked
		command["fork"], command["env"] = false, map[string]string{"VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
		command["args"] = append(slices.Clone(e.args), "--data-parallel-size", fmt.Sprint(e.ranks))
	}
	f.tell(command)
}

func (f *vllmFleet) kill(e *vllmEngine) { f.tell(map[string]any{"kill": e.name}) }

// await waits until the engine answers a completion: it is healthy before it
// can do that.
func (f *vllmFleet) await(e *vllmEngine) {
	f.t.Helper()
	deadline := time.Now().Add(10 * time.Minute)
	for {
		_, err := e.complete(map[string]any{"model": e.model, "prompt": []int{11, 12, 13}, "max_tokens": 1})
		if err == nil {
			return
		}
		f.tell(map[string]any{"check": e.name})
		if time.Now().After(deadline) {
			f.showLogs()
			f.t.Fatalf("%s does not serve: %v", e.name, err)
		}
		time.Sleep(200 * time.Millisecond)
	}
}

// vllmAnswer is what a request's books hold: the engine's count of cached
// tokens, and what was predicted where a gateway was asked.
type vllmAnswer struct {
	text              string
	prompt, cached    int
	predicted, worker string
	request           string
}

func (e *vllmEngine) complete(body map[string]any) (vllmAnswer, error) {
	return askVLLM(e.url()+"/v1/completions", body)
}

// askVLLM posts a request that is no stream, with headers as name and value.
func askVLLM(url string, body map[string]any, headers ...string) (vllmAnswer, error) {
	b, err := json.Marshal(body)
	if err != nil {
		return vllmAnswer{}, err
	}
	req, err := http.NewRequest(http.MethodPost, url, bytes.NewReader(b))
	if err != nil {
		return vllmAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	r, err := http.DefaultClient.Do(req)
	if err != nil {
		return vllmAnswer{}, err
	}
	defer r.Body.Close()
	if b, err = io.ReadAll(r.Body); err != nil {
		return vllmAnswer{}, err
	}
	if r.StatusCode != http.StatusOK {
		return vllmAnswer{}, fmt.Errorf("%s: %s", r.Status, b)
	}
	var a struct {
		Choices []struct {
			Text    string
			Message struct{ Content string }
		}
		Usage struct {
			PromptTokens int `json:"prompt_tokens"`
			Details      struct {
				CachedTokens int `json:"cached_tokens"`
			} `json:"prompt_tokens_details"`
		}
	}
	if err := json.Unmarshal(b, &a); err != nil {
		return vllmAnswer{}, fmt.Errorf("%w: %s", err, b)
	}
	if len(a.Choices) == 0 || a.Usage.PromptTokens == 0 {
		return vllmAnswer{}, fmt.Errorf("no choice or no usage: %s", b)
	}
	return vllmAnswer{
		text: a.Choices[0].Text + a.Choices[0].Message.Content, prompt: a.Usage.PromptTokens, cached: a.Usage.Details.CachedTokens,
		predicted: r.Header.Get("X-Kvasir-Cached-Tokens"), worker: r.Header.Get("X-Kvasir-Worker"),
		request: r.Header.Get("X-Request-Id"),
	}, nil
}

// agrees reports whether the engine found in its cache what was predicted.
func (a vllmAnswer) agrees() bool { return a.predicted == fmt.Sprint(a.cached) }

// serveVLLM starts a gateway that is told nothing but where engines are.
func serveVLLM(t *testing.T, args []string, engines ...*vllmEngine) gateway {
	t.Helper()
	args = append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)
	for _, e := range engines {
		args = append(args, "--worker", e.url())
	}
	g := ready(t, start(t, "kvasir serve", nil, binary, args...))
	g.awaitWorkers(len(engines))
	return g
}

// tokenChecks is the result of each worker's start-up check.
func (g gateway) tokenChecks() (results []string) {
	g.t.Helper()
	var fleet struct {
		Workers []struct {
			TokenCheck struct{ Result string } `json:"token_check"`
		}
	}
	g.getJSON("/kvasir/v1/workers", &fleet)
	for _, w := range fleet.Workers {
		results = append(results, w.TokenCheck.Result)
	}
	return results
}

// awaitTokenChecks waits until every worker was checked, with this result.
func (g gateway) awaitTokenChecks(want string) {
	g.t.Helper()
	g.eventually("every worker's tokens were checked: "+want, func() error {
		results := g.tokenChecks()
		for _, r := range results {
			if r != want {
				return fmt.Errorf("%v", results)
			}
		}
		return nil
	})
}
