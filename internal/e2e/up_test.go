package e2e

import (
	"bufio"
	"encoding/json"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// smolName is the name that `kvasir up` serves the demo model under.
const smolName = "SmolLM2-135M-Instruct"

// Must show a: one command, a sensible answer, and a second turn that starts
// sooner because its prefix is cached.
func TestUpAnswers(t *testing.T) {
	g := startUp(t, nil, "--model", smollm2(t), "--workers", "2")

	status, header, body := g.post("/v1/chat/completions",
		`{"model":"`+smolName+`","messages":[{"role":"user","content":"What is the capital of France?"}],"max_tokens":24,"temperature":0}`)
	if status != http.StatusOK || !strings.Contains(body, "Paris") {
		t.Fatalf("%d %s", status, body)
	}
	for _, h := range []string{"X-Request-Id", "X-Kvasir-Worker", "X-Kvasir-Cached-Tokens", "X-Kvasir-Predicted-Ttft-Ms"} {
		if header.Get(h) == "" {
			t.Errorf("the answer lacks the header %s", h)
		}
	}

	c := g.talk(smolName)
	first := c.say(essay("one", 500), 16)
	second := c.say("Now say it in four words.", 16)
	if first.cached > 0 && first.cached >= first.prompt/4 {
		t.Errorf("a new conversation reports %d of %d tokens cached", first.cached, first.prompt)
	}
	if second.cached < first.prompt*3/4 || second.worker != first.worker {
		t.Errorf("turn two on %s reused %d of the %d tokens that %s held", second.worker, second.cached, first.prompt, first.worker)
	}
	// Turn one computes 15 times the tokens of turn two: this is no close race.
	if second.ttft >= first.ttft {
		t.Errorf("TTFT of turn two is %v, of turn one %v", second.ttft, first.ttft)
	}
	t.Logf("turn 1: %d tokens, %d cached, TTFT %v; turn 2: %d tokens, %d cached, TTFT %v",
		first.prompt, first.cached, first.ttft, second.prompt, second.cached, second.ttft)
}

// The example that `kvasir up` prints works when pasted, unary and streamed.
func TestUpPrintsExamplesThatWork(t *testing.T) {
	g := startUp(t, nil, "--model", smollm2(t), "--workers", "1")
	g.waitLine("curl ")
	var pasted int
	for _, line := range strings.Split(g.output(), "\n") {
		line = strings.TrimSpace(line)
		if !strings.HasPrefix(line, "curl ") {
			continue
		}
		pasted++
		out, err := run(t, nil, "sh", "-c", line)
		if err != nil || !strings.Contains(out, `"choices"`) {
			t.Errorf("%s\n%v %s", line, err, out)
		}
		if strings.Contains(line, `"stream":true`) != strings.Contains(out, "data: [DONE]") {
			t.Errorf("%s\nis streamed or not, but the answer is the other: %s", line, out)
		}
	}
	if pasted < 2 {
		t.Errorf("%d examples; want a unary and a streamed one", pasted)
	}
	g.waitLine("tok") // one line a request
}

// Without a model `kvasir up` serves the tiny random one, and says so.
func TestUpWithoutModel(t *testing.T) {
	g := startUp(t, []string{"KVASIR_CACHE=" + t.TempDir()})
	g.waitLine("random")
	var models struct{ Data []struct{ ID string } }
	g.getJSON("/v1/models", &models)
	if len(models.Data) != 1 {
		t.Fatalf("models: %+v", models)
	}
	if a := g.talk(models.Data[0].ID).say("hello", 8); a.tokens == 0 {
		t.Errorf("no tokens: %+v", a)
	}
}

// Must show g: for each candidate the terms add up, and the winner's sum is the
// header's.
func TestExplainAddsUp(t *testing.T) {
	g := startUp(t, []string{"KVASIR_CACHE=" + t.TempDir()}, "--workers", "3")
	g.awaitWorkers(3)
	model := tinyName(g)
	for i := range 6 {
		body := `{"model":"` + model + `","messages":[{"role":"user","content":"` + essay("x"+strconv.Itoa(i%2), 40+30*i) + `"}],"max_tokens":4,"stream":true}`
		status, h, answer := g.post("/v1/chat/completions", body)
		if status != http.StatusOK {
			t.Fatalf("%d %s", status, answer)
		}
		e := g.explain(h.Get("X-Request-Id"))
		if len(e.Candidates) != 3 || e.Chosen != h.Get("X-Kvasir-Worker") || e.ObservedTTFT <= 0 {
			t.Errorf("explained as %+v, answered by %s", e, h.Get("X-Kvasir-Worker"))
		}
		for _, c := range e.Candidates {
			if sum := c.QueueMS + c.RestoreMS + c.PrefillMS; math.Abs(sum-c.TTFTMS) > 1e-6 {
				t.Errorf("%s: %v + %v + %v = %v, not %v", c.Worker, c.QueueMS, c.RestoreMS, c.PrefillMS, sum, c.TTFTMS)
			}
			if sum := c.TTFTMS + c.HarmMS; math.Abs(sum-c.ScoreMS) > 1e-6 {
				t.Errorf("%s: TTFT %v + harm %v is not the score %v", c.Worker, c.TTFTMS, c.HarmMS, c.ScoreMS)
			}
		}
		header, err := strconv.ParseFloat(h.Get("X-Kvasir-Predicted-Ttft-Ms"), 64)
		if w := e.winner(t); err != nil || math.Abs(header-w.TTFTMS) > 0.006 {
			t.Errorf("the header says %v ms (%v), explain %v", header, err, w.TTFTMS)
		}
	}
}

func tinyName(g gateway) string {
	var models struct{ Data []struct{ ID string } }
	g.getJSON("/v1/models", &models)
	if len(models.Data) == 0 {
		g.t.Fatal("no model is served")
	}
	return models.Data[0].ID
}

// Must show b: the official clients hold a streamed conversation and get typed
// errors.
func TestOfficialClients(t *testing.T) {
	g := startUp(t, nil, "--model", smollm2(t), "--workers", "2")
	python, node := os.Getenv("KVASIR_PYTHON"), os.Getenv("KVASIR_NODE")
	t.Run("python", func(t *testing.T) {
		need(t, python != "", "openai-python")
		checkClient(t, g, python, "testdata/clients/client.py")
	})
	t.Run("node", func(t *testing.T) {
		need(t, node != "", "openai-node")
		program, err := exec.LookPath("node")
		need(t, err == nil, "node")
		// An ES module finds its packages beside itself, so it is run from there.
		src, err := os.ReadFile("testdata/clients/client.mjs")
		if err != nil {
			t.Fatal(err)
		}
		script := filepath.Join(node, "client.mjs")
		if err := os.WriteFile(script, src, 0o600); err != nil {
			t.Fatal(err)
		}
		checkClient(t, g, program, script)
	})
	t.Run("curl", func(t *testing.T) { checkCurl(t, g) })
	t.Run("go-openai", func(t *testing.T) { checkGoOpenAI(t, g) })
}

type clientTurn struct {
	Finish                     string
	Prompt, Completion, Cached int
}

type clientError struct {
	Class, Code, Param, Type string
	Status                   int
}

func checkClient(t *testing.T, g gateway, program, script string) {
	out, err := run(t, nil, program, script, g.url, smolName)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var got struct {
		Models       []string
		Turn1, Turn2 clientTurn
		Text         string
		Equal        bool         `json:"unary_equals_stream"`
		Legacy       int          `json:"completion_tokens"`
		BadRequest   *clientError `json:"bad_request"`
		BadMessages  *clientError `json:"bad_messages"`
		WrongModel   *clientError `json:"wrong_model"`
		Oversized    *clientError `json:"oversized"`
	}
	lines := strings.Split(strings.TrimSpace(out), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &got); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if len(got.Models) != 1 || got.Models[0] != smolName {
		t.Errorf("models: %v", got.Models)
	}
	if got.Turn1.Finish == "" || got.Turn1.Completion == 0 || got.Turn2.Cached < got.Turn1.Prompt*3/4 {
		t.Errorf("turns: %+v, %+v", got.Turn1, got.Turn2)
	}
	if !got.Equal || got.Legacy != 4 || strings.TrimSpace(got.Text) == "" {
		t.Errorf("unary equals stream: %v, completion tokens %d, text %q", got.Equal, got.Legacy, got.Text)
	}
	wantError := func(name string, e *clientError, class string, status int, code, param string) {
		t.Helper()
		if e == nil || e.Class != class || e.Status != status || code != "" && e.Code != code || param != "" && e.Param != param {
			t.Errorf("%s: got %+v, want %s %d %s %s", name, e, class, status, code, param)
		}
	}
	wantError("bad request", got.BadRequest, "BadRequestError", 400, "", "temperature")
	wantError("bad messages", got.BadMessages, "BadRequestError", 400, "", "messages")
	wantError("wrong model", got.WrongModel, "NotFoundError", 404, "model_not_found", "model")
	wantError("oversized prompt", got.Oversized, "BadRequestError", 400, "context_length_exceeded", "messages")
}

func checkCurl(t *testing.T, g gateway) {
	curl := func(body string) string {
		t.Helper()
		out, err := run(t, nil, "curl", "-sN", g.url+"/v1/chat/completions", "-H", "Content-Type: application/json", "-d", body)
		if err != nil {
			t.Fatalf("%v %s", err, out)
		}
		return out
	}
	first := `{"role":"user","content":"curl asks for a river in Egypt. It is one of the longest rivers in the world."}`
	out := curl(`{"model":"` + smolName + `","messages":[` + first + `],"max_tokens":12,"temperature":0,"stream":true,"stream_options":{"include_usage":true}}`)
	text, usage := readStream(t, out)
	if usage.CompletionTokens == 0 || text == "" {
		t.Fatalf("turn 1: %q %+v", text, usage)
	}
	said, _ := json.Marshal(text)
	out = curl(`{"model":"` + smolName + `","messages":[` + first + `,{"role":"assistant","content":` + string(said) +
		`},{"role":"user","content":"And one in Brazil?"}],"max_tokens":12,"temperature":0,"stream":true,"stream_options":{"include_usage":true}}`)
	if _, usage = readStream(t, out); usage.PromptTokensDetails.CachedTokens == 0 {
		t.Errorf("turn 2 reports nothing cached: %+v", usage)
	}
	for body, want := range map[string]string{
		`{`: `"invalid_request_error"`,
		`{"model":"nope","messages":[{"role":"user","content":"x"}]}`: `"model_not_found"`,
		`{"model":"` + smolName + `"}`:                                `"param":"messages"`,
	} {
		if out := curl(body); !strings.Contains(out, want) || !strings.HasPrefix(out, `{"error":{`) {
			t.Errorf("%s: %s, want %s", body, out, want)
		}
	}
	oversized := writeFile(t, "oversized.json", `{"model":"`+smolName+`","messages":[{"role":"user","content":"`+strings.Repeat("word ", 60000)+`"}]}`)
	if out := curl("@" + oversized); !strings.Contains(out, `"context_length_exceeded"`) {
		t.Errorf("oversized: %s", out)
	}
	if out, _ := run(t, nil, "curl", "-s", g.url+"/v1/models"); !strings.Contains(out, smolName) {
		t.Errorf("models: %s", out)
	}
}

type streamUsage struct {
	CompletionTokens    int `json:"completion_tokens"`
	PromptTokensDetails struct {
		CachedTokens int `json:"cached_tokens"`
	} `json:"prompt_tokens_details"`
}

// readStream parses server-sent events with nothing but the standard library.
func readStream(t *testing.T, sse string) (text string, usage streamUsage) {
	t.Helper()
	done := false
	for s := bufio.NewScanner(strings.NewReader(sse)); s.Scan(); {
		data, ok := strings.CutPrefix(s.Text(), "data: ")
		if !ok {
			continue
		}
		if data == "[DONE]" {
			done = true
			continue
		}
		var chunk struct {
			Choices []struct{ Delta struct{ Content string } }
			Usage   *streamUsage
		}
		if err := json.Unmarshal([]byte(data), &chunk); err != nil {
			t.Fatalf("%v in %s", err, data)
		}
		for _, c := range chunk.Choices {
			text += c.Delta.Content
		}
		if chunk.Usage != nil {
			usage = *chunk.Usage
		}
	}
	if !done {
		t.Fatalf("no [DONE] in %s", sse)
	}
	return text, usage
}
