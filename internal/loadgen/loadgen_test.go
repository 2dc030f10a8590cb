package loadgen

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/trace"
)

// engine answers every chat with two chunks, or as answer says.
func engine(t *testing.T, answer func(n int64, body string, w http.ResponseWriter)) *httptest.Server {
	t.Helper()
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/v1/models" {
			fmt.Fprint(w, `{"object":"list","data":[{"id":"m"}]}`)
			return
		}
		body, _ := io.ReadAll(r.Body)
		answer(n.Add(1), string(body), w)
	}))
	t.Cleanup(s.Close)
	return s
}

const (
	roleChunk = "data: {\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"}}]}\n\n"
	textChunk = "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\"%s\"}}]}\n\n"
	usageLine = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":10,\"completion_tokens\":2,\"prompt_tokens_details\":{\"cached_tokens\":4}}}\n\n"
	doneLine  = "data: [DONE]\n\n"
)

func whole(_ int64, _ string, w http.ResponseWriter) {
	fmt.Fprintf(w, roleChunk+textChunk+textChunk+usageLine+doneLine, "Hel", "lo")
}

func options(sessions []Session, urls ...string) Options {
	o := Options{Sessions: sessions, Timeout: 10 * time.Second, Seed: 1}
	for i, u := range urls {
		o.Targets = append(o.Targets, Target{Name: fmt.Sprint("t", i), URL: u})
	}
	return o
}

func qa(t *testing.T, users, rounds int) []Session {
	t.Helper()
	s, err := QA{Users: users, Rounds: rounds, Rate: 1000, SystemTokens: 5, HistoryTokens: 5, QuestionTokens: 3, AnswerTokens: 2}.Sessions(1)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Each turn carries the whole conversation, the engine's own answers included,
// to every target.
func TestConversationsGrow(t *testing.T) {
	var longest atomic.Int64
	s := engine(t, func(n int64, body string, w http.ResponseWriter) {
		longest.Store(max(longest.Load(), int64(strings.Count(body, `"content":"Hello"`))))
		whole(n, body, w)
	})
	r, err := Run(t.Context(), options(qa(t, 2, 3), s.URL, s.URL))
	if err != nil {
		t.Fatal(err)
	}
	if r.Model != "m" || len(r.Targets) != 2 || r.Requests != 6 || r.Errors != 0 {
		t.Fatalf("%+v", r)
	}
	if longest.Load() != 2 {
		t.Errorf("the third turn carries %d answers, want 2", longest.Load())
	}
	if r.CachedTokenShare != 0.4 || r.PromptTokens != 60 || r.OutputTokens != 12 {
		t.Errorf("cached %g of %d, %d out", r.CachedTokenShare, r.PromptTokens, r.OutputTokens)
	}
	if len(r.Paired) != 1 || r.Paired[0].Turns != 6 {
		t.Errorf("paired %+v, want all 6 turns", r.Paired)
	}
}

// A broken stream, an error event, a refusal and an empty answer are errors,
// and end their conversations.
func TestEveryFailureIsCounted(t *testing.T) {
	s := engine(t, func(n int64, _ string, w http.ResponseWriter) {
		switch n {
		case 1:
			fmt.Fprintf(w, textChunk, "cut")
		case 2:
			fmt.Fprint(w, "data: {\"error\":{\"message\":\"boom\"}}\n\n"+doneLine)
		case 3:
			http.Error(w, "full", http.StatusTooManyRequests)
		case 4:
			fmt.Fprint(w, roleChunk+doneLine)
		default:
			whole(n, "", w)
		}
	})
	r, err := Run(t.Context(), options(qa(t, 5, 1), s.URL))
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 5 || r.Errors != 4 || len(r.FirstErrors) != 4 {
		t.Fatalf("%d requests, %d errors: %q", r.Requests, r.Errors, r.FirstErrors)
	}
}

func TestWorkloadsFollowFromTheirSeed(t *testing.T) {
	f := Fixed{Requests: 20, Rate: 10, PromptTokens: 40, SharedShare: 0.5, Prefixes: 2, AnswerTokens: 4}
	a, err := f.Sessions(7)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := f.Sessions(7)
	c, _ := f.Sessions(8)
	if !reflect.DeepEqual(a, b) || reflect.DeepEqual(a, c) {
		t.Error("want equal sessions from equal seeds, others from others")
	}
	starts := map[string]int{}
	for _, s := range a {
		words := strings.Fields(s.Turns[0].Text)
		if len(words) != 40 {
			t.Fatalf("a prompt of %d words", len(words))
		}
		starts[strings.Join(words[:20], " ")]++
	}
	if len(starts) != 2 {
		t.Errorf("%d different prefixes, want 2", len(starts))
	}
	if _, err := (Fixed{Requests: 1, Prefixes: 1}).Sessions(1); err == nil {
		t.Error("a rate of 0 was taken")
	}
	if _, err := (QA{Users: 1, Rate: 1}).Sessions(1); err == nil {
		t.Error("no round was taken")
	}
}

// Requests that share blocks share text, and nothing more.
func TestATraceBecomesText(t *testing.T) {
	w, err := trace.Synthesize(trace.Synthetic{Kind: trace.Kinds()[0], Requests: 40, PerSecond: 10, BlockSize: 16, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	sessions := FromTrace(w)
	shared := 0
	for i := range w.Requests {
		a := strings.Fields(sessions[i].Turns[0].Text)
		if len(a) != w.Requests[i].Input {
			t.Fatalf("request %d has %d words, want %d", i, len(a), w.Requests[i].Input)
		}
		for j := range i {
			blocks, words := 0, 0
			for b := range min(len(w.Requests[i].Blocks), len(w.Requests[j].Blocks)) {
				if w.Requests[i].Blocks[b] != w.Requests[j].Blocks[b] {
					break
				}
				blocks++
			}
			b := strings.Fields(sessions[j].Turns[0].Text)
			for k := range min(len(a), len(b)) {
				if a[k] != b[k] {
					break
				}
				words++
			}
			shared += blocks
			if most := (blocks + 1) * w.BlockSize; words >= most || words < min(blocks*w.BlockSize, len(a), len(b)) {
				t.Fatalf("requests %d and %d share %d blocks and %d words", j, i, blocks, words)
			}
		}
	}
	if shared == 0 {
		t.Fatal("no two requests share anything")
	}
}

func TestSpreadTakesTheNearestRank(t *testing.T) {
	values := make([]float64, 200)
	for i := range values {
		values[i] = float64(200 - i)
	}
	want := Spread{Mean: 100.5, P50: 100, P90: 180, P99: 198, Max: 200}
	if got := spread(values); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	if got := spread([]float64{3}); got != (Spread{3, 3, 3, 3, 3}) {
		t.Errorf("one value: %+v", got)
	}
}

func TestAProcessIsMeasured(t *testing.T) {
	s := engine(t, whole)
	o := options(qa(t, 1, 1), s.URL)
	o.Targets[0].PID = os.Getpid()
	r, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	if r.RSSMiB == nil || *r.RSSMiB < 1 || r.CPUMSPerRequest == nil || r.CPUUSPerEvent == nil {
		t.Errorf("RSS %v, CPU %v", r.RSSMiB, r.CPUMSPerRequest)
	}
	o.Targets[0].PID = 1 << 30
	if _, err := Run(t.Context(), o); err == nil {
		t.Error("a process that does not exist was taken")
	}
}
