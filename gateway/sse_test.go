package gateway

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

const (
	roleChunk    = `{"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"role":"assistant","content":""},"finish_reason":null}],"usage":null}`
	contentChunk = `{"id":"c","choices":[{"index":0,"delta":{"content":" hi"},"finish_reason":null}]}`
	lastChunk    = `{"id":"c","choices":[{"index":0,"delta":{"content":""},"finish_reason":"length"}]}`
	usageChunk   = `{"id":"c","choices":[],"usage":{"prompt_tokens":40,"completion_tokens":2,"total_tokens":42,"prompt_tokens_details":{"cached_tokens":32}}}`
)

func events(payloads ...string) []byte {
	var b strings.Builder
	for _, p := range payloads {
		b.WriteString("data: " + p + "\n\n")
	}
	return []byte(b.String())
}

func TestAnswerOfAStream(t *testing.T) {
	var a answer
	a.events(events(roleChunk))
	if a.first {
		t.Fatal("the role chunk counted as a token")
	}
	a.events(events(contentChunk))
	if !a.first {
		t.Fatal("the first content chunk did not count as a token")
	}
	a.events(events(contentChunk, lastChunk, usageChunk, "[DONE]"))
	a.end()
	if a.usage == nil || *a.usage != (Usage{40, 2, 32}) || a.finish != "length" || !a.done || a.failed {
		t.Errorf("%+v, usage %+v", a, a.usage)
	}
}

func TestWhatCountsAsTheFirstToken(t *testing.T) {
	for chunk, want := range map[string]bool{
		`{"choices":[{"delta":{"role":"assistant"}}]}`:                               false,
		`{"choices":[{"delta":{"role":"assistant","content":"a"}}]}`:                 true,
		`{"choices":[{"delta":{"reasoning_content":"a"}}]}`:                          true,
		`{"choices":[{"delta":{"tool_calls":[{"index":0}]}}]}`:                       true,
		`{"choices":[{"delta":{"tool_calls":[],"content":null}}]}`:                   false,
		`{"choices":[{"text":"a"}]}`:                                                 true,
		`{"choices":[{"text":""}]}`:                                                  false,
		`{"choices":[{"delta":{"content":""}},{"index":1,"delta":{"content":"b"}}]}`: true,
		`{"choices":[]}`: false,
		`not json`:       false,
	} {
		if got := hasContent([]byte(chunk)); got != want {
			t.Errorf("%s: %v", chunk, got)
		}
	}
}

func TestUsageIsNotTakenFromTheText(t *testing.T) {
	var a answer
	a.events(events(`{"choices":[{"delta":{"content":"\"usage\":{\"prompt_tokens\":1}"}}]}`,
		`{"choices":[{"delta":{"tool_calls":[{"x":{"usage":{"prompt_tokens":1}}}]}}]}`))
	a.end()
	if a.usage != nil {
		t.Errorf("found %+v", a.usage)
	}
}

func TestEventsEndsAtABlankLine(t *testing.T) {
	for s, want := range map[string]int{
		"": 0, "\n": 1, "\r\n": 2, "data: a": 0, "data: a\n": 0, "data: a\n\n": 9, "data: a\n\ndata: b\n": 9,
		"data: a\r\n\r\n": 11, "data: a\r\n\r": 0, ": ping\n\ndata: b\n\n": 17,
	} {
		if got := eventsEnd([]byte(s), 0); got != want {
			t.Errorf("%q: %d, want %d", s, got, want)
		}
	}
}

// FuzzStream cuts a stream into reads at arbitrary places: what is relayed and
// what is learned must not depend on the cuts.
func FuzzStream(f *testing.F) {
	f.Add(events(roleChunk, contentChunk, lastChunk, usageChunk, "[DONE]"), uint64(1))
	f.Add([]byte("data: {\"error\":{}}\r\n\r\ndata:[DONE]\n\n\n\n:c\n"), uint64(2))
	f.Fuzz(func(t *testing.T, stream []byte, seed uint64) {
		var whole answer
		end := eventsEnd(stream, 0)
		whole.events(stream[:end])
		whole.end()

		rng := rand.New(rand.NewPCG(seed, 0))
		var cut answer
		var relayed, pending []byte
		for rest := stream; len(rest) > 0; {
			n := 1 + rng.IntN(len(rest))
			known := max(0, len(pending)-2)
			pending = append(pending, rest[:n]...)
			rest = rest[n:]
			e := eventsEnd(pending, known)
			cut.events(pending[:e])
			relayed = append(relayed, pending[:e]...)
			pending = pending[e:]
		}
		cut.end()
		if !bytes.Equal(relayed, stream[:end]) {
			t.Fatalf("relayed %q of %q", relayed, stream)
		}
		if a, b := fmt.Sprintf("%v %v %v %v %v %v", whole.first, whole.chunks, whole.usage, whole.finish, whole.done, whole.failed),
			fmt.Sprintf("%v %v %v %v %v %v", cut.first, cut.chunks, cut.usage, cut.finish, cut.done, cut.failed); a != b {
			t.Fatalf("learned %s in one read, %s in several, of %q", a, b, stream)
		}
	})
}

func BenchmarkEvents(b *testing.B) {
	chunk := events(`{"id":"chatcmpl-0123456789abcdef","object":"chat.completion.chunk","created":1700000000,"model":"m","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null,"token_ids":null}]}`)
	a := answer{first: true}
	b.ReportAllocs()
	for b.Loop() {
		a.events(chunk)
	}
}
