package embedded

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/engine/embedded/llama"
)

var tiny struct {
	once sync.Once
	dir  string
	err  error
}

// tinyModel writes the built-in model once for all tests.
func tinyModel(t testing.TB) string {
	tiny.once.Do(func() {
		if tiny.dir, tiny.err = os.MkdirTemp("", "tiny"); tiny.err == nil {
			tiny.err = llama.WriteTiny(tiny.dir, 1)
		}
	})
	if tiny.err != nil {
		t.Fatal(tiny.err)
	}
	return tiny.dir
}

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if tiny.dir != "" {
			os.RemoveAll(tiny.dir)
		}
		os.Exit(code)
	}))
}

const blockSize = 16

// testEngine is an engine on the tiny model and a client of it.
type testEngine struct {
	*Engine
	t      testing.TB
	client *http.Client
}

func start(t testing.TB, change func(*Config)) *testEngine {
	t.Helper()
	c := Config{Model: tinyModel(t), Name: "tiny", GPUBlocks: 256, BlockSize: blockSize, Threads: 1}
	if change != nil {
		change(&c)
	}
	e, err := Start(context.Background(), c)
	if err != nil {
		t.Fatal(err)
	}
	te := &testEngine{e, t, &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 64}}}
	t.Cleanup(te.stop)
	return te
}

// stop checks the books on the way out: no sequence left anything behind.
func (e *testEngine) stop() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	e.client.CloseIdleConnections()
	if err := e.Close(ctx); err != nil {
		e.t.Errorf("close: %v", err)
	}
	s := e.Manager().Stats().Tiers[kv.GPU]
	if s.Filling+s.Leased != 0 || s.Free+s.Filling+s.Committed+s.Evicting != s.Capacity {
		e.t.Errorf("pages after close: %+v", s)
	}
}

// object is a JSON object.
type object = map[string]any

func (e *testEngine) request(ctx context.Context, method, path string, body any, header ...string) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			e.t.Fatal(err)
		}
		r = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(ctx, method, e.URL()+path, r)
	if err != nil {
		e.t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	return e.client.Do(req)
}

// call makes a request and reads its whole answer.
func (e *testEngine) call(method, path string, body any, header ...string) (status int, answer []byte) {
	e.t.Helper()
	resp, err := e.request(context.Background(), method, path, body, header...)
	if err != nil {
		e.t.Error(err)
		return 0, nil
	}
	defer resp.Body.Close()
	answer, err = io.ReadAll(resp.Body)
	if err != nil {
		e.t.Error(err)
	}
	return resp.StatusCode, answer
}

// into makes a request that must succeed and decodes its answer.
func into[T any](e *testEngine, method, path string, body any, header ...string) (v T) {
	e.t.Helper()
	status, answer := e.call(method, path, body, header...)
	if status != http.StatusOK {
		e.t.Errorf("%s %s: %d %s", method, path, status, answer)
		return v
	}
	if err := json.Unmarshal(answer, &v); err != nil {
		e.t.Errorf("%s %s: %v in %s", method, path, err, answer)
	}
	return v
}

// outcome is one completion.
type outcome struct {
	tokens []uint32
	text   string
	finish string
	cached int
	usage  usage
}

// complete continues a prompt of tokens, greedily unless told otherwise.
func (e *testEngine) complete(prompt []uint32, tokens int, more object, header ...string) outcome {
	e.t.Helper()
	body := object{"model": "tiny", "prompt": prompt, "max_tokens": tokens, "temperature": 0, "ignore_eos": true, "return_token_ids": true}
	for k, v := range more {
		body[k] = v
	}
	b := into[completionBody](e, "POST", "/v1/completions", body, header...)
	if len(b.Choices) != 1 {
		e.t.Errorf("%d choices", len(b.Choices))
		return outcome{}
	}
	c := b.Choices[0]
	return outcome{c.TokenIDs, c.Text, *c.FinishReason, b.Usage.Details.CachedTokens, *b.Usage}
}

// events reads the data lines of a stream.
func (e *testEngine) events(path string, body object, header ...string) (lines []string) {
	e.t.Helper()
	body["stream"] = true
	resp, err := e.request(context.Background(), "POST", path, body, header...)
	if err != nil {
		e.t.Fatal(err)
	}
	defer resp.Body.Close()
	if ct := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || !strings.HasPrefix(ct, "text/event-stream") {
		answer, _ := io.ReadAll(resp.Body)
		e.t.Fatalf("%s: %d %s %s", path, resp.StatusCode, ct, answer)
	}
	for s := bufio.NewScanner(resp.Body); s.Scan(); {
		if s.Text() == "" {
			continue
		}
		data, ok := strings.CutPrefix(s.Text(), "data: ")
		if !ok {
			e.t.Fatalf("not a data line: %q", s.Text())
		}
		lines = append(lines, data)
	}
	return lines
}

// metric reads one sample.
func (e *testEngine) metric(name string) float64 {
	e.t.Helper()
	_, answer := e.call("GET", "/metrics", nil)
	for line := range strings.Lines(string(answer)) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == '{' || rest[0] == ' ') {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			if err != nil {
				e.t.Fatal(err)
			}
			return v
		}
	}
	e.t.Fatalf("no metric %s in\n%s", name, answer)
	return 0
}

func randomPrompt(rng *rand.Rand, n int) []uint32 {
	p := make([]uint32, n)
	for i := range p {
		p[i] = rng.Uint32N(256)
	}
	return p
}

// bytesOf is a text in the tiny model's tokens.
func bytesOf(text string) (p []uint32) {
	for _, b := range []byte(text) {
		p = append(p, uint32(b))
	}
	return p
}

// hashesOf names the full blocks of a prompt.
func hashesOf(prompt []uint32) []kv.Hash {
	return kv.Chain(nil, kv.RootSpec{Model: "tiny", BlockSize: blockSize}.Hash(), prompt, blockSize)
}

var kvbmTooSmall = kvbm.Config{CPUBytes: 1}
