package gateway

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Every way through take that compares an event with the one before must say and
// do what working each event out by itself does.
func TestTakeAgreesWithEventsOneByOne(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if s, err := strconv.ParseUint(os.Getenv("KVASIR_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("KVASIR_SEED=%d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range 3000 {
		x := &exchange{endpoint: endpointChat, carriable: r.IntN(4) > 0}
		if r.IntN(3) == 0 {
			x.endpoint = endpointCompletion
		}
		x.named = x.carriable && r.IntN(2) == 0
		one := &exchange{endpoint: x.endpoint, carriable: x.carriable, named: x.named}
		for range 4 {
			batch := randomEvents(r, x.endpoint)
			got, failed := x.take(&placement{}, batch)
			want, wantFailed := takeOneByOne(one, batch)
			if !bytes.Equal(got, want) || (failed == nil) != (wantFailed == nil) {
				t.Fatalf("of\n%s\nthe client is sent (%v)\n%s\nwant (%v)\n%s", batch, failed, got, wantFailed, want)
			}
			if !reflect.DeepEqual(x.heard, one.heard) || !reflect.DeepEqual(x.answer, one.answer) {
				t.Fatalf("of\n%s\nheard %+v\n want %+v\nanswer %+v\n  want %+v", batch, x.heard, one.heard, x.answer, one.answer)
			}
			if failed != nil {
				break
			}
		}
	}
}

// takeOneByOne is take without a shape.
func takeOneByOne(x *exchange, events []byte) (own []byte, failed error) {
	for line := range bytes.Lines(events) {
		if payload, ok := bytes.CutPrefix(line, []byte("data:")); ok {
			payload = bytes.TrimSpace(payload)
			if x.carriable {
				if failed = x.listen(payload); failed != nil {
					return own, failed
				}
			}
			x.answer.event(payload)
		}
		if x.named {
			line = appendWithoutIDs(nil, line)
		}
		own = append(own, line...)
	}
	return own, nil
}

// randomEvents are mostly alike, as an engine's are.
func randomEvents(r *rand.Rand, e endpoint) []byte {
	texts := []string{` word`, `o`, `a\"b`, `\\`, `\u00e9`, `{`, `"`, ``, `\"content\":\"x`, `]}`, `é`, `"usage":{`, "a\nb"}
	ids := []string{``, `,"token_ids":[7]`, `,"token_ids":[7,8]`, `,"token_ids":[]`, `,"token_ids":[1,]`, `,"token_ids":null`, `,"token_ids":[99999999999]`}
	ends := []string{`null`, `null`, `null`, `"stop"`}
	var b strings.Builder
	text, id, end := texts[0], ids[r.IntN(3)], ends[0]
	for range 1 + r.IntN(12) {
		if r.IntN(2) == 0 {
			text = texts[r.IntN(len(texts))]
		}
		if r.IntN(6) == 0 {
			id, end = ids[r.IntN(len(ids))], ends[r.IntN(len(ends))]
		}
		said := `"delta":{"content":"` + text + `"}`
		if e == endpointCompletion {
			said = `"text":"` + text + `"`
		}
		payload := `{"id":"o","choices":[{"index":0,` + said + `,"logprobs":null,"finish_reason":` + end + id + `}]}`
		switch r.IntN(24) {
		case 0:
			payload = `{"id":"o","choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2}}`
		case 1:
			payload = `{"id":"o","prompt_token_ids":[1,2],"choices":[{"index":0,` + said + id + `}]}`
		case 2:
			payload = `{"id":"o","choices":[{"index":0,"delta":{"reasoning_content":"hm","content":"x"}}]}`
		case 3:
			payload = `{"id":"o","choices":[{"index":0,"delta":{"tool_calls":[{"index":0}],"content":"x"}}]}`
		case 4:
			payload = "[DONE]"
		case 5:
			payload = []string{`{"error":{"message":"no","code":500}}`, `{"error":{"message":"no","code":400}}`, `garbage`}[r.IntN(3)]
		case 6:
			b.WriteString(": a comment\n\n")
		case 7:
			fmt.Fprintf(&b, "data:%s \r\n\r\n", payload)
			continue
		}
		b.WriteString("data: " + payload + "\n\n")
	}
	return []byte(b.String())
}

func TestEventsLikeTheLastAreNotSearched(t *testing.T) {
	x := &exchange{endpoint: endpointChat, carriable: true, named: true}
	event := func(i int) []byte {
		return events(fmt.Sprintf(`{"id":"c","choices":[{"index":0,"delta":{"content":" w%d"},"finish_reason":null,"token_ids":[%d]}]}`, i, i))
	}
	x.take(&placement{}, event(1))
	for i := range 20 {
		payload, _ := bytes.CutPrefix(bytes.TrimSpace(event(i)), []byte("data: "))
		if _, _, ok := x.shape.match(payload); !ok {
			t.Fatalf("%s has another shape", payload)
		}
	}
	batch := event(5)
	if n := testing.AllocsPerRun(100, func() {
		x.heard.text, x.heard.ids = x.heard.text[:0], x.heard.ids[:0]
		x.take(&placement{}, batch)
	}); n > 0 {
		t.Errorf("%v allocations an event", n)
	}
}

func BenchmarkTake(b *testing.B) {
	batch := events(`{"id":"chatcmpl-1234567890","object":"chat.completion.chunk","created":1790000000,"model":"mock","choices":[{"index":0,"delta":{"content":" word"},"logprobs":null,"finish_reason":null,"token_ids":[1234]}]}`)
	x := &exchange{endpoint: endpointChat, carriable: true, named: true}
	for _, way := range []struct {
		name string
		take func(*exchange, []byte) ([]byte, error)
	}{{"shape", func(x *exchange, b []byte) ([]byte, error) { return x.take(&placement{}, b) }}, {"one by one", takeOneByOne}} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				x.heard.text, x.heard.ids = x.heard.text[:0], x.heard.ids[:0]
				_, _ = way.take(x, batch)
			}
		})
	}
}
