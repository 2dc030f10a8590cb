package gateway

import (
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// saying is what the engines of these tests would answer, one byte a token. Its
// characters of several bytes come out whole, as engines detokenize.
const saying = `"Ein schöner Tag," said the owl 🦉 – and added a \ and a tab	before it flew to the end of the line.`

// teller is an engine that tells the saying: from its start to a chat, and from
// where the prompt's tokens end to a completion of tokens. It breaks off as told.
type teller struct {
	t  *testing.T
	mu sync.Mutex
	// cuts are the numbers of tokens after which the next answers end, and hows the
	// ways in which they do; none left: they end well.
	cuts []int
	hows []string
}

type told struct {
	Prompt         []uint32
	MaxTokens      int  `json:"max_tokens"`
	ReturnTokenIDs bool `json:"return_token_ids"`
	Logprobs       any
	StreamOptions  struct {
		IncludeUsage bool `json:"include_usage"`
	} `json:"stream_options"`
	Temperature *float64
}

const tellerPrompt = "user:go on;assistant:"

func (e *teller) answer(w http.ResponseWriter, r *http.Request, body []byte) bool {
	var q told
	if err := json.Unmarshal(body, &q); err != nil || !q.ReturnTokenIDs || q.Temperature == nil {
		e.t.Errorf("%v: %s", err, body)
	}
	chat := strings.HasSuffix(r.URL.Path, "chat/completions")
	at := 0
	if !chat {
		so := make([]byte, len(q.Prompt))
		for i, id := range q.Prompt {
			so[i] = byte(id)
		}
		said, ok := strings.CutPrefix(string(so), tellerPrompt)
		if !ok || !strings.HasPrefix(saying, said) || !utf8.ValidString(said) || at+q.MaxTokens+len(said) != 200 {
			e.t.Errorf("asked to go on from %q with %d tokens", so, q.MaxTokens)
		}
		at = len(said)
	}
	e.mu.Lock()
	cut, how := len(saying)+1, ""
	if len(e.cuts) > 0 {
		cut, how = at+e.cuts[0], e.hows[0]
		e.cuts, e.hows = e.cuts[1:], e.hows[1:]
	}
	e.mu.Unlock()
	e.tell(w, r, &q, chat, at, cut, how)
	return true
}

func (e *teller) tell(w http.ResponseWriter, r *http.Request, q *told, chat bool, at, cut int, how string) {
	w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
	send := func(payload string) {
		fmt.Fprintf(w, "data: %s\n\n", payload)
		w.(http.Flusher).Flush()
	}
	prompt := len(tellerPrompt)
	if chat {
		send(`{"id":"first","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"prompt_token_ids":[1,2]}`)
	} else {
		prompt += at
	}
	var held []byte
	began := at
	for ; at < len(saying) && at < cut; at++ {
		held = append(held, saying[at])
		text := ""
		if utf8.Valid(held) {
			text, held = string(held), nil
		}
		quoted, _ := json.Marshal(text)
		if chat {
			send(fmt.Sprintf(`{"id":"first","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{"content":%s},"logprobs":null,"finish_reason":null,"token_ids":[%d]}]}`, quoted, saying[at]))
		} else {
			send(fmt.Sprintf(`{"id":"other","object":"text_completion","created":9,"model":"m","choices":[{"index":0,"text":%s,"logprobs":null,"finish_reason":null,"stop_reason":null,"prompt_token_ids":null,"token_ids":[%d]}]}`, quoted, saying[at]))
		}
	}
	switch {
	case at == len(saying) && at < cut:
	case how == "resets":
		panic(http.ErrAbortHandler)
	case how == "garbles":
		send("<html>502 Bad Gateway</html>")
		return
	case how == "truncates":
		io.WriteString(w, "data: {\"id\":\"first\",\"choices\":[{\"delta\":{\"content\":\"\xc3")
		return
	case how == "fails":
		send(`{"error":{"message":"EngineCore died","type":"InternalServerError","param":null,"code":500}}`)
		send("[DONE]")
		return
	case how == "hangs":
		<-r.Context().Done()
		return
	}
	finish := `{"id":"x","object":"text_completion","created":9,"model":"m","choices":[{"index":0,"text":"","finish_reason":"stop","token_ids":[]}]}`
	if chat {
		finish = `{"id":"first","object":"chat.completion.chunk","created":7,"model":"m","choices":[{"index":0,"delta":{},"finish_reason":"stop","token_ids":[]}]}`
	}
	send(finish)
	if how == "forgets its end" {
		panic(http.ErrAbortHandler)
	}
	if q.StreamOptions.IncludeUsage {
		send(fmt.Sprintf(`{"id":"first","object":"chat.completion.chunk","created":7,"model":"m","choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,"prompt_tokens_details":{"cached_tokens":4}}}`,
			prompt, len(saying)-began, prompt+len(saying)-began))
	}
	send("[DONE]")
}

// A stream survives workers that reset, garble, truncate, fail and hang at random
// places: the client sees one stream, with one id, every character once, and the
// usage of the whole.
func TestAStreamSurvivesItsWorkers(t *testing.T) {
	rng := rand.New(rand.NewPCG(randomSeed(t), 0))
	hows := []string{"resets", "garbles", "truncates", "fails", "hangs", "forgets its end"}
	for range 30 {
		e := &teller{t: t}
		for range 1 + rng.IntN(4) {
			e.cuts = append(e.cuts, 1+rng.IntN(len(saying)/3))
			e.hows = append(e.hows, hows[rng.IntN(len(hows)-1)])
		}
		if rng.IntN(3) == 0 {
			e.cuts, e.hows = append(e.cuts, len(saying)), append(e.hows, "forgets its end")
		}
		t.Run(fmt.Sprint(e.cuts, e.hows), func(t *testing.T) {
			s := newSetting(t, 3, func(c *Config) { c.Limits.Idle = 100 * time.Millisecond })
			for _, w := range s.engines {
				w.Config.ErrorLog = quiet
				w.does(e.answer)
			}
			r := s.post("/v1/chat/completions", `{"model":"m","stream":true,"stream_options":{"include_usage":true},"temperature":0,"max_tokens":200,"messages":[{"role":"user","content":"go on"}]}`)
			s.oneStream(t, r, e)
		})
	}
}

// oneStream checks what the client of a carried stream got.
func (s *setting) oneStream(t *testing.T, r response, e *teller) {
	t.Helper()
	var text strings.Builder
	finish, usages := "", 0
	for payload := range payloads(r.body) {
		if string(payload) == "[DONE]" {
			continue
		}
		var c struct {
			ID      string
			Object  string
			Created int
			Choices []struct {
				Delta        struct{ Content string }
				FinishReason *string `json:"finish_reason"`
				TokenIDs     []int   `json:"token_ids"`
			}
			Usage *Usage
		}
		if err := json.Unmarshal(payload, &c); err != nil || c.ID != "first" || c.Object != "chat.completion.chunk" || c.Created != 7 {
			t.Fatalf("%v: %s", err, payload)
		}
		for _, choice := range c.Choices {
			text.WriteString(choice.Delta.Content)
			if choice.FinishReason != nil {
				finish += *choice.FinishReason
			}
			if choice.TokenIDs != nil {
				t.Errorf("token ids that nobody asked for: %s", payload)
			}
		}
		if u := c.Usage; u != nil {
			usages++
			if u.PromptTokens != len(tellerPrompt) || u.CompletionTokens != len(saying) {
				t.Errorf("usage %+v, want %d and %d", u, len(tellerPrompt), len(saying))
			}
		}
	}
	if text.String() != saying || finish != "stop" || usages != 1 || !strings.HasSuffix(string(r.body), "data: [DONE]\n\n") {
		t.Fatalf("%q, finish %q, %d usages\n%s", text.String(), finish, usages, r.body)
	}
	rec := s.record(r.header.Get("X-Request-Id"))
	if rec.Outcome != outcomeOK || rec.Migrations == 0 && len(rec.Failed) > 0 && rec.Legs == nil {
		t.Errorf("outcome %s, %d migrations, failed %+v", rec.Outcome, rec.Migrations, rec.Failed)
	}
	s.booksClosed()
}

// What cannot be exact elsewhere is not carried on: the stream ends in an error
// that says why, and the engine is not asked for ids in vain.
func TestWhatCannotGoOnElsewhereSaysWhy(t *testing.T) {
	for extra, why := range map[string]string{
		`"n":2`: "several answers",
		`"response_format":{"type":"json_object"}`:              "guided by a grammar",
		`"tools":[{"type":"function","function":{"name":"f"}}]`: "may call tools",
		`"seed":1,"temperature":0.5`:                            "sampled from a seed",
		`"presence_penalty":0.5`:                                "penalises",
		`"structured_outputs":{"choice":["a"]}`:                 "guided by a grammar",
		`"echo":true`:                                           "echoes",
		`"chat_template":"{{ messages[0].content }}"`:           "tokens are not known",
		`"response_format":{"type":"text"},"x":"(moves)"`:       "",
	} {
		t.Run(extra, func(t *testing.T) {
			s := newSetting(t, 2, func(c *Config) { c.EngineTokens = noTokens })
			for _, e := range s.engines {
				e.Config.ErrorLog = quiet
				e.does(func(w http.ResponseWriter, r *http.Request, body []byte) bool {
					if strings.HasSuffix(r.URL.Path, "/v1/completions") {
						return false
					}
					if asked := strings.Contains(string(body), "return_token_ids"); asked != (why == "") {
						t.Errorf("asked for ids: %v", asked)
					}
					w.Header().Set("Content-Type", "text/event-stream")
					w.Write(events(roleChunk, contentChunk))
					w.(http.Flusher).Flush()
					panic(http.ErrAbortHandler)
				})
			}
			r := s.post("/v1/chat/completions", `{"model":"m","stream":true,"max_tokens":4,`+extra+`,"messages":[{"role":"user","content":"x"}]}`)
			if why == "" {
				if !strings.HasSuffix(string(r.body), "data: [DONE]\n\n") {
					t.Errorf("%s", r.body)
				}
				return
			}
			if body := string(r.body); !strings.Contains(body, why) || !strings.Contains(body, "cannot go on elsewhere") {
				t.Errorf("want %q in %s", why, body)
			}
		})
	}
}

// Logprobs of a continued chat have the chat's form, and offsets of a continued
// completion count from the stream's start.
func TestContinuedLogprobs(t *testing.T) {
	a, b := -0.5, -1.5
	l := &completionLogprobs{TextOffset: []int{0}, TokenLogprobs: []*float64{&a}, Tokens: []string{"é"}, TopLogprobs: []map[string]float64{{"x": b, "é": a}}}
	l.shift(3)
	got, err := json.Marshal(l.chat())
	if err != nil {
		t.Fatal(err)
	}
	want := `{"content":[{"token":"é","logprob":-0.5,"bytes":[195,169],"top_logprobs":[{"token":"é","logprob":-0.5,"bytes":[195,169]},{"token":"x","logprob":-1.5,"bytes":[120]}]}]}`
	if string(got) != want || l.TextOffset[0] != 3 {
		t.Errorf("%s, offset %d", got, l.TextOffset[0])
	}
}

// Ids become null and nothing else changes, whatever they are.
func TestIDsAreTakenOut(t *testing.T) {
	in := `data: {"choices":[{"delta":{"content":"say \"token_ids\":[1] or so"},"token_ids":[5]}],"prompt_token_ids":[1,2,3]}` + "\n\n"
	want := `data: {"choices":[{"delta":{"content":"say \"token_ids\":[1] or so"},"token_ids":null}],"prompt_token_ids":null}` + "\n\n"
	if got := string(appendWithoutIDs(nil, []byte(in+in))); got != want+want {
		t.Errorf("%s", got)
	}
	var h heard
	h.event(endpointChat, []byte(strings.TrimPrefix(strings.TrimSpace(in), "data: ")))
	if string(h.text) != `say \"token_ids\":[1] or so` || len(h.ids) != 1 || h.ids[0] != 5 || h.unnamed {
		t.Errorf("%+v", h)
	}
}
