package gateway

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	openai "github.com/sashabaranov/go-openai"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

const chatBody = `{"model":"m","messages":[{"role":"user","content":"hello there, how are you?"}]}`

// rendered is chatBody's prompt.
const rendered = "user:hello there, how are you?;assistant:"

func TestTheEngineGetsTheClientsOwnBytes(t *testing.T) {
	s := newSetting(t, 1, nil)
	odd := "{ \"model\" : \"m\",\n\t\"messages\":[{\"content\":\"h\\u00e9\",\"role\":\"user\"}], \"x-unknown\": 1.50e+1, \"seed\":18446744073709551616 }"
	r := s.post("/v1/chat/completions", odd, "X-Request-Id", "mine-1")
	if r.status != 200 {
		t.Fatalf("%d %s", r.status, r.body)
	}
	got := s.engines[0].received()
	if len(got) != 1 || string(got[0].body) != odd || got[0].path != "/v1/chat/completions" {
		t.Fatalf("the engine got %+v", got)
	}
	if id := got[0].header.Get("X-Request-Id"); id != "mine-1" || r.header.Get("X-Request-Id") != "mine-1" {
		t.Errorf("request id %q at the engine, %q in the answer", id, r.header.Get("X-Request-Id"))
	}
	if cut := got[0].header.Get("X-Kvasir-Restore-Blocks"); cut != "0" {
		t.Errorf("restore blocks %q", cut)
	}
}

func TestTwoRequestsNeverShareAnID(t *testing.T) {
	s := newSetting(t, 1, nil)
	a := s.post("/v1/chat/completions", chatBody, "X-Request-Id", "same")
	b := s.post("/v1/chat/completions", chatBody, "X-Request-Id", "same")
	c := s.post("/v1/chat/completions", chatBody, "X-Request-Id", "not sane\"")
	if a.header.Get("X-Request-Id") != "same" || b.header.Get("X-Request-Id") != "same~2" || len(c.header.Get("X-Request-Id")) != 32 {
		t.Errorf("ids %q %q %q", a.header.Get("X-Request-Id"), b.header.Get("X-Request-Id"), c.header.Get("X-Request-Id"))
	}
}

// TestConversation is two streamed turns by a real OpenAI client, with usage.
func TestConversation(t *testing.T) {
	s := newSetting(t, 2, nil)
	c := openai.DefaultConfig("any key")
	c.BaseURL = s.server.URL + "/v1"
	c.HTTPClient = s.client
	client := openai.NewClientWithConfig(c)
	talk := openai.ChatCompletionRequest{
		//lint:ignore SA1019 most clients still send max_tokens
		Model: "m", Stream: true, MaxTokens: 5, StreamOptions: &openai.StreamOptions{IncludeUsage: true},
		Messages: []openai.ChatCompletionMessage{{Role: "user", Content: "tell me a story"}},
	}
	for turn := range 2 {
		stream, err := client.CreateChatCompletionStream(t.Context(), talk)
		if err != nil {
			t.Fatal(err)
		}
		var text strings.Builder
		var usage *openai.Usage
		for {
			chunk, err := stream.Recv()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if chunk.Usage != nil {
				usage = chunk.Usage
			}
			for _, choice := range chunk.Choices {
				text.WriteString(choice.Delta.Content)
			}
		}
		stream.Close()
		worker := stream.Header().Get("X-Kvasir-Worker")
		if want := strings.Repeat(worker+" ", 5); worker == "" || text.String() != want {
			t.Errorf("turn %d: %q, want %q", turn, text.String(), want)
		}
		if usage == nil || usage.CompletionTokens != 5 || usage.PromptTokensDetails.CachedTokens != 4 {
			t.Errorf("turn %d: usage %+v", turn, usage)
		}
		talk.Messages = append(talk.Messages, openai.ChatCompletionMessage{Role: "assistant", Content: text.String()},
			openai.ChatCompletionMessage{Role: "user", Content: "go on"})
	}
	list, err := client.ListModels(t.Context())
	if err != nil || len(list.Models) != 1 || list.Models[0].ID != "m" {
		t.Errorf("models %+v, %v", list, err)
	}
	var api *openai.APIError
	if _, err = client.GetModel(t.Context(), "other/model"); !errors.As(err, &api) || api.HTTPStatusCode != 404 || api.Code != "model_not_found" {
		t.Errorf("wrong model: %v", err)
	}
	talk.Stream, talk.StreamOptions, talk.Messages = false, nil, nil
	if _, err = client.CreateChatCompletion(t.Context(), talk); !errors.As(err, &api) || api.HTTPStatusCode != 400 || api.Param == nil || *api.Param != "messages" {
		t.Errorf("no messages: %v", err)
	}
	s.booksClosed()
}

func TestCompletionForms(t *testing.T) {
	s := newSetting(t, 1, nil)
	for prompt, tokens := range map[string]int{
		`"abcdefghi"`: 9, `["abc"]`: 3, `["abc","de"]`: 5, `[1,2,3,4,5]`: 5, `[[1,2],[3]]`: 3,
	} {
		r := s.post("/v1/completions", `{"model":"m","prompt":`+prompt+`}`)
		if r.status != 200 {
			t.Fatalf("%s: %d %s", prompt, r.status, r.body)
		}
		if rec := s.record(r.header.Get("X-Request-Id")); rec.Tokens != tokens {
			t.Errorf("%s: %d tokens, want %d", prompt, rec.Tokens, tokens)
		}
	}
}

// TestRefusals sends what must be refused and checks status, code and param.
func TestRefusals(t *testing.T) {
	s := newSetting(t, 1, func(c *Config) { c.Limits.Body = 64 << 10 })
	chat := func(name, body string, status int, code Code, param string) {
		t.Helper()
		r := s.post("/v1/chat/completions", body)
		gotCode, gotParam, message := r.problem(t)
		if r.status != status || gotCode != string(code) || gotParam != param || r.header.Get("X-Request-Id") == "" {
			t.Errorf("%s: %d %s %q (%s), want %d %s %q", name, r.status, gotCode, gotParam, message, status, code, param)
		}
	}
	chat("not JSON", `{"model":`, 400, CodeInvalidJSON, "")
	chat("not an object", `[]`, 400, CodeInvalidJSON, "")
	chat("not UTF-8", "{\"model\":\"\xff\"}", 400, CodeInvalidJSON, "")
	chat("too deep", `{"a":`+strings.Repeat("[", 1000)+strings.Repeat("]", 1000)+`}`, 400, CodeInvalidJSON, "")
	chat("no model", `{"messages":[{"role":"user","content":"x"}]}`, 400, CodeMissingParameter, "model")
	chat("model a number", `{"model":1}`, 400, CodeInvalidType, "model")
	chat("unknown model", `{"model":"x","messages":[{"role":"user","content":"x"}]}`, 404, CodeModelNotFound, "model")
	chat("no messages", `{"model":"m"}`, 400, CodeMissingParameter, "messages")
	chat("null messages", `{"model":"m","messages":null}`, 400, CodeMissingParameter, "messages")
	chat("empty messages", `{"model":"m","messages":[]}`, 400, CodeInvalidValue, "messages")
	chat("messages a string", `{"model":"m","messages":"x"}`, 400, CodeInvalidType, "messages")
	chat("message a string", `{"model":"m","messages":["x"]}`, 400, CodeInvalidType, "messages[0]")
	chat("no role", `{"model":"m","messages":[{"role":"user","content":"a"},{"content":"x"}]}`, 400, CodeMissingParameter, "messages[1].role")
	chat("content a number", `{"model":"m","messages":[{"role":"user","content":1}]}`, 400, CodeInvalidType, "messages[0].content")
	chat("stream a string", `{"model":"m","messages":[{"role":"user","content":"x"}],"stream":"yes"}`, 400, CodeInvalidType, "stream")
	chat("options without stream", `{"model":"m","messages":[{"role":"user","content":"x"}],"stream_options":{}}`, 400, CodeInvalidValue, "stream_options")
	chat("negative max_tokens", `{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":-1}`, 400, CodeInvalidValue, "max_tokens")
	chat("fractional max_tokens", `{"model":"m","messages":[{"role":"user","content":"x"}],"max_tokens":1.5}`, 400, CodeInvalidType, "max_tokens")
	chat("model twice", `{"model":"m","messages":[{"role":"user","content":"x"}],"mod\u0065l":"m"}`, 400, CodeDuplicateKey, "model")
	chat("template refuses", `{"model":"m","messages":[{"role":"user","content":"x"},{"role":"system","content":"x"}]}`, 400, CodeInvalidMessages, "messages")
	chat("prompt too long", `{"model":"m","messages":[{"role":"user","content":"`+strings.Repeat("x", 5000)+`"}]}`, 400, CodeContextLength, "messages")
	chat("body too large", `{"model":"m","messages":[{"role":"user","content":"`+strings.Repeat("x", 70<<10)+`"}]}`, 413, CodeBodyTooLarge, "")

	for _, prompt := range []string{`1`, `{}`, `[1,"a"]`, `["a",1]`, `[[1],2]`, `[-1]`, `[4294967296]`, `[1.5]`} {
		if code, param, _ := s.post("/v1/completions", `{"model":"m","prompt":`+prompt+`}`).problem(t); code != string(CodeInvalidType) || param != "prompt" {
			t.Errorf("prompt %s: %s %q", prompt, code, param)
		}
	}
	if n := len(s.engines[0].received()); n != 0 {
		t.Errorf("%d bad requests reached the engine", n)
	}
	s.booksClosed()
}

func TestErrorsOfTheSurface(t *testing.T) {
	s := newSetting(t, 1, nil)
	for _, c := range []struct {
		method, path string
		status       int
		code         Code
	}{
		{"GET", "/nope", 404, CodeUnknownURL},
		{"GET", "/v1/chat/completions", 405, CodeMethodNotAllowed},
		{"DELETE", "/v1/models", 405, CodeMethodNotAllowed},
		{"POST", "/v1/embeddings", 501, CodeNotImplemented},
		{"POST", "/v1/responses", 501, CodeNotImplemented},
		{"POST", "/v1/messages", 501, CodeNotImplemented},
		{"GET", "/openapi.json", 501, CodeNotImplemented},
		{"GET", "/console/", 501, CodeNotImplemented},
		{"GET", "/v1/models/none", 404, CodeModelNotFound},
		{"GET", "/kvasir/v1/decisions/none", 404, CodeDecisionNotFound},
		{"GET", "/kvasir/v1/decisions?limit=x", 400, CodeInvalidValue},
	} {
		req, _ := http.NewRequest(c.method, s.server.URL+c.path, nil)
		r := s.do(req)
		if code, _, _ := r.problem(t); r.status != c.status || code != string(c.code) || r.header.Get("X-Request-Id") == "" {
			t.Errorf("%s %s: %d %s, want %d %s", c.method, c.path, r.status, code, c.status, c.code)
		}
		if c.status == 405 && r.header.Get("Allow") == "" {
			t.Errorf("%s %s: no Allow header", c.method, c.path)
		}
	}
	r := s.post("/v1/chat/completions", chatBody, "Content-Encoding", "gzip")
	if code, _, _ := r.problem(t); r.status != 415 || code != string(CodeContentEncoding) {
		t.Errorf("compressed body: %d %s", r.status, code)
	}
}

// TestEveryCodeIsInTheTable keeps the table, which documents the errors, whole.
func TestEveryCodeIsInTheTable(t *testing.T) {
	for _, k := range ErrorKinds {
		e := fail(k.Code, "", "x")
		if e.Status() < 400 || !strings.Contains(string(e.body()), `"type":"`+k.Type+`"`) || k.Means == "" {
			t.Errorf("%s: %d %s", k.Code, e.Status(), e.body())
		}
	}
	if len(errorKinds) != len(ErrorKinds) {
		t.Error("a code is in the table twice")
	}
}

func TestTheEnginesOwnRefusalReachesTheClient(t *testing.T) {
	s := newSetting(t, 2, nil)
	for name, c := range map[string]struct{ sent, message string }{
		"OpenAI's form": {`{"error":{"message":"no top_p","type":"BadRequestError","param":"top_p","code":400}}`, "no top_p"},
		"flat form":     {`{"object":"error","message":"no top_k","type":"BadRequestError"}`, "no top_k"},
		"FastAPI form":  {`{"detail":"no"}`, "no"},
		"no JSON":       {`oops`, "the engine refused the request: 422 Unprocessable Entity"},
	} {
		for _, e := range s.engines {
			e.does(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
				w.WriteHeader(422)
				io.WriteString(w, c.sent)
				return true
			})
		}
		r := s.post("/v1/chat/completions", chatBody)
		if _, _, message := r.problem(t); r.status != 422 || message != c.message || r.header.Get("X-Kvasir-Worker") == "" {
			t.Errorf("%s: %d %q, headers %v", name, r.status, message, r.header)
		}
	}
	if n := len(s.engines[0].received()) + len(s.engines[1].received()); n != 4 {
		t.Errorf("refusals were retried: %d requests for 4", n)
	}
}

// TestTheWorkerThatHoldsThePrefixIsChosen and the answer says so in its headers.
func TestTheWorkerThatHoldsThePrefixIsChosen(t *testing.T) {
	s := newSetting(t, 3, nil)
	s.holds("w1", kv.GPU, rendered, 7)
	r := s.post("/v1/chat/completions", chatBody)
	h := r.header
	if h.Get("X-Kvasir-Worker") != "w1" || h.Get("X-Kvasir-Cached-Tokens") != "28" {
		t.Fatalf("headers %v", h)
	}
	if cut := s.engines[1].received()[0].header.Get("X-Kvasir-Restore-Blocks"); cut != "7" {
		t.Errorf("the engine was told to restore %q blocks", cut)
	}
	rec := s.record(h.Get("X-Request-Id"))
	if rec.Tokens != len(rendered) || rec.TokensFrom != "gateway" || rec.Chosen != "w1" || rec.winner().Blocks[kv.GPU] != 7 {
		t.Errorf("record %+v", rec)
	}
	// Another tenant's salt makes other blocks: law 7.
	r = s.post("/v1/chat/completions", strings.Replace(chatBody, `{"model"`, `{"cache_salt":"tenant","model"`, 1))
	if r.header.Get("X-Kvasir-Cached-Tokens") != "0" {
		t.Errorf("a salted prompt matched blocks of another salt: %v", r.header)
	}
}

// TestExplainAddsUp checks queue + restore + recompute = predicted TTFT for
// every candidate of a decision, in the record and in the header.
func TestExplainAddsUp(t *testing.T) {
	s := newSetting(t, 3, nil)
	s.holds("w0", kv.GPU, rendered, 3)
	s.holds("w2", kv.GPU, rendered, 9)
	r := s.post("/v1/chat/completions", chatBody)
	var rec struct {
		RequestID  string `json:"request_id"`
		Chosen     string
		Candidates []struct {
			Worker                                                 string
			QueueMS, RestoreMS, PrefillMS, TTFTMS, HarmMS, ScoreMS json.Number
			Queue                                                  float64        `json:"queue_ms"`
			Restore                                                float64        `json:"restore_ms"`
			Prefill                                                float64        `json:"prefill_ms"`
			TTFT                                                   json.Number    `json:"ttft_ms"`
			Harm                                                   float64        `json:"harm_ms"`
			Score                                                  json.Number    `json:"score_ms"`
			Blocks                                                 map[string]int `json:"blocks"`
			Recompute                                              int            `json:"recompute_blocks"`
		}
	}
	s.record(r.header.Get("X-Request-Id"))
	if err := json.Unmarshal(s.get("/kvasir/v1/decisions/"+r.header.Get("X-Request-Id")).body, &rec); err != nil {
		t.Fatal(err)
	}
	if rec.Chosen != "w2" || len(rec.Candidates) != 3 {
		t.Fatalf("%+v", rec)
	}
	for _, c := range rec.Candidates {
		ttft, _ := c.TTFT.Float64()
		score, _ := c.Score.Float64()
		if formatMS(c.Queue+c.Restore+c.Prefill) != formatMS(ttft) || formatMS(ttft+c.Harm) != formatMS(score) {
			t.Errorf("%s: %v + %v + %v is not %v", c.Worker, c.Queue, c.Restore, c.Prefill, c.TTFT)
		}
		if len(c.Blocks) != int(kv.NumTiers) {
			t.Errorf("%s: blocks %v", c.Worker, c.Blocks)
		}
		if c.Worker == rec.Chosen && formatMS(ttft) != r.header.Get("X-Kvasir-Predicted-Ttft-Ms") {
			t.Errorf("the record says %v, the header %s", c.TTFT, r.header.Get("X-Kvasir-Predicted-Ttft-Ms"))
		}
		if held := map[string]int{"w0": 3, "w1": 0, "w2": 9}[c.Worker]; c.Blocks["gpu"] != held || c.Blocks["gpu"]+c.Recompute != (len(rendered)+3)/4 {
			t.Errorf("%s: %d of %d blocks reused, %d recomputed", c.Worker, c.Blocks["gpu"], held, c.Recompute)
		}
	}
	// The same question without a request.
	var asked Record
	if err := json.Unmarshal(s.post("/kvasir/v1/explain", chatBody).body, &asked); err != nil {
		t.Fatal(err)
	}
	if asked.Chosen != "w2" || len(asked.Candidates) != 3 {
		t.Errorf("explain chose %q of %d", asked.Chosen, len(asked.Candidates))
	}
	if n := len(s.engines[2].received()); n != 1 {
		t.Errorf("explain dispatched: %d requests", n)
	}
	s.booksClosed()
}

func TestTokensEndpoints(t *testing.T) {
	s := newSetting(t, 1, nil)
	var a struct {
		Count  int `json:"count"`
		Max    int `json:"max_model_len"`
		Tokens []uint32
		Strs   []string `json:"token_strs"`
	}
	if err := json.Unmarshal(s.post("/tokenize", `{"model":"m","prompt":"abc","return_token_strs":true}`).body, &a); err != nil {
		t.Fatal(err)
	}
	if a.Count != 3 || a.Max != 4096 || len(a.Tokens) != 3 || a.Tokens[0] != 'a' || a.Strs[2] != "c" {
		t.Errorf("%+v", a)
	}
	if err := json.Unmarshal(s.post("/tokenize", chatBody).body, &a); err != nil || a.Count != len(rendered) {
		t.Errorf("%+v, %v", a, err)
	}
	if r := s.post("/detokenize", `{"model":"m","tokens":[104,105]}`); string(r.body) != `{"prompt":"hi"}` {
		t.Errorf("%s", r.body)
	}
}

// TestWithoutATokenizer the engine is asked, and where it can't say either the
// request is served all the same.
func TestWithoutATokenizer(t *testing.T) {
	s := newSetting(t, 1, func(c *Config) { c.Models = nil })
	r := s.post("/v1/chat/completions", chatBody)
	if rec := s.record(r.header.Get("X-Request-Id")); r.status != 200 || rec.TokensFrom != "engine" || rec.Tokens != 3 {
		t.Errorf("%d %+v", r.status, rec)
	}
	s.g.c.EngineTokens = func(context.Context, workers.Info, string, []byte) ([]uint32, error) { return nil, errors.New("no") }
	r = s.post("/v1/chat/completions", chatBody)
	if rec := s.record(r.header.Get("X-Request-Id")); r.status != 200 || rec.TokensFrom != "none" {
		t.Errorf("%d %+v", r.status, rec)
	}
	if !strings.Contains(string(s.get("/metrics").body), `kvasir_gateway_untokenized_total{model="m",reason="no_tokenizer"} 1`) {
		t.Error("not counted")
	}
	if cut := s.engines[0].received()[1].header.Values("X-Kvasir-Restore-Blocks"); len(cut) != 0 {
		t.Errorf("a plan without tokens: %q", cut)
	}
}

func TestAPictureIsRoutedWithoutTokens(t *testing.T) {
	s := newSetting(t, 1, nil)
	r := s.post("/v1/chat/completions", `{"model":"m","messages":[{"role":"user","content":[{"type":"text","text":"what?"},{"type":"image_url","image_url":{"url":"x"}}]}]}`)
	if rec := s.record(r.header.Get("X-Request-Id")); r.status != 200 || rec.TokensFrom != "none" {
		t.Errorf("%d %+v", r.status, rec)
	}
}
