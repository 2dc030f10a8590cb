package e2e

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/protobuf/proto"
)

// span is what a collector keeps of one.
type span struct {
	process, name, id, parent string
	start, end                uint64
}

// One trace goes from the client's own context through the gateway's steps, the
// agent and its transfer, to the engine: each span within its parent. The
// collector is a stand-in that reads OTLP with the official messages.
func TestOneTraceOfARequest(t *testing.T) {
	const traceID, clientSpan = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	var mu sync.Mutex
	var spans []span
	otlp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		var req collector.ExportTraceServiceRequest
		if err := proto.Unmarshal(b, &req); err != nil {
			t.Errorf("%s: %v", r.URL.Path, err)
		}
		mu.Lock()
		defer mu.Unlock()
		for _, rs := range req.GetResourceSpans() {
			process := ""
			for _, a := range rs.GetResource().GetAttributes() {
				if a.GetKey() == "service.name" {
					process = a.GetValue().GetStringValue()
				}
			}
			for _, ss := range rs.GetScopeSpans() {
				for _, s := range ss.GetSpans() {
					if hex.EncodeToString(s.GetTraceId()) == traceID {
						spans = append(spans, span{process, s.GetName(), hex.EncodeToString(s.GetSpanId()), hex.EncodeToString(s.GetParentSpanId()), s.GetStartTimeUnixNano(), s.GetEndTimeUnixNano()})
					}
				}
			}
		}
	}))
	defer otlp.Close()
	etcdPort := freePort(t)
	etcdServer(t, etcdPort, freePort(t), t.TempDir())
	config := writeFile(t, "fleet.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
models: [{name: smol, tokenizer: %[1]q}]
discovery: {etcd: {endpoints: ["127.0.0.1:%[2]d"]}}
agent: {model: smol, engine: embedded, embedded: {model: %[1]q, gpu_blocks: 64}}
tiers: {cpu: 128MiB}
telemetry: {otlp: %[3]q}
`, smollm2(t), etcdPort, otlp.URL))
	w := start(t, "worker", []string{"TMPDIR=" + t.TempDir()}, binary, "worker", "--config", config, "--id", "w0")
	w.waitLine("worker is up")
	g := ready(t, start(t, "gateway", nil, binary, "serve", "--config", config))
	prompt := func(topic string) string {
		return fmt.Sprintf(`{"model":"smol","stream":true,"max_tokens":4,"temperature":0,"prompt":%q}`, essay(topic, 250))
	}
	ask := func(topic, traceparent string) string {
		t.Helper()
		req, err := http.NewRequest(http.MethodPost, g.url+"/v1/completions", bytes.NewBufferString(prompt(topic)))
		if err != nil {
			t.Fatal(err)
		}
		if traceparent != "" {
			req.Header.Set("traceparent", traceparent)
		}
		r, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer r.Body.Close()
		if b, err := io.ReadAll(r.Body); err != nil || r.StatusCode != 200 {
			t.Fatalf("%s %v %s", r.Status, err, b)
		}
		return r.Header.Get("X-Request-Id")
	}
	// What comes first is pushed out of the engine's 64 pages by what follows, and
	// so is restored when it is asked for again.
	first := ask("alpha", "")
	blocks := g.explain(first).Candidates[0].RecomputeBlocks
	g.eventually("the first prompt is in cpu", func() error {
		if n := g.committed("cpu"); n < blocks-1 {
			return fmt.Errorf("%d of %d blocks", n, blocks)
		}
		return nil
	})
	for i := range 4 {
		ask(fmt.Sprint("filler", i), "")
	}
	ask("alpha", "00-"+traceID+"-"+clientSpan+"-01")

	want := []string{"kvasir.request", "kvasir.tokenize", "kvasir.decide", "kvasir.onboard", "kvasir.upstream", "kvasir.transfer", "engine.request"}
	g.eventually("the collector has every span", func() error {
		mu.Lock()
		defer mu.Unlock()
		for _, name := range want {
			if !slices.ContainsFunc(spans, func(s span) bool { return s.name == name }) {
				return fmt.Errorf("no %s in %v", name, spans)
			}
		}
		return nil
	})
	mu.Lock()
	defer mu.Unlock()
	slices.SortFunc(spans, func(a, b span) int { return int(int64(a.start) - int64(b.start)) })
	for _, s := range spans {
		t.Logf("%-16s %-34s %8.3f ms from %8.3f ms on", s.process, s.name, float64(s.end-s.start)/1e6, float64(s.start-spans[0].start)/1e6)
		if s.name == "kvasir.request" {
			if s.parent != clientSpan {
				t.Errorf("the request's span is %s's, not the client's", s.parent)
			}
			continue
		}
		i := slices.IndexFunc(spans, func(p span) bool { return p.id == s.parent })
		if i < 0 {
			t.Errorf("%s has no parent in the trace", s.name)
			continue
		}
		if p := spans[i]; s.start < p.start || s.end < s.start {
			t.Errorf("%s began before %s, or ended before it began", s.name, p.name)
		}
	}
}
