package gateway

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"time"
)

// BenchmarkOverhead sends the same requests through the gateway (rendering,
// tokenizing, hashing, matching, deciding) and through a bare ReverseProxy to
// the same stand-in engine. Compare their cpu-us/op within one run; direct is
// what client and engine take in this process without anything between.
func BenchmarkOverhead(b *testing.B) {
	for name, body := range map[string]string{
		"unary-200": chatOf(200, false), "unary-8k": chatOf(8000, false), "stream-200": chatOf(200, true),
	} {
		b.Run(name, func(b *testing.B) { benchmarkOverhead(b, body) })
	}
}

func benchmarkOverhead(b *testing.B, body string) {
	s := newSetting(b, 1, nil)
	s.engines[0].maxContext = 1 << 20
	engine := s.engines[0]
	plain, stream := []byte(`{"id":"x","object":"chat.completion","choices":[{"index":0,"message":{"role":"assistant","content":"hi"},"finish_reason":"stop"}],"usage":{"prompt_tokens":1,"completion_tokens":1,"total_tokens":2}}`), []byte(nil)
	for range 64 {
		stream = append(stream, events(contentChunk)...)
	}
	stream = append(stream, events(lastChunk, "[DONE]")...)
	engine.does(func(w http.ResponseWriter, r *http.Request, b []byte) bool {
		if !strings.Contains(string(b[:100]), `"stream":true`) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write(plain)
			return true
		}
		w.Header().Set("Content-Type", "text/event-stream")
		for rest := stream; len(rest) > 0; rest = rest[min(len(contentChunk)+8, len(rest)):] {
			_, _ = w.Write(rest[:min(len(contentChunk)+8, len(rest))])
			w.(http.Flusher).Flush()
		}
		return true
	})
	target, err := url.Parse(engine.URL)
	if err != nil {
		b.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(target)
	proxy.FlushInterval = -1
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).EnableFullDuplex() // else it truncates
		proxy.ServeHTTP(w, r)
	}))
	defer bare.Close()
	for _, way := range [...]struct{ name, url string }{{"direct", engine.URL}, {"proxy", bare.URL}, {"gateway", s.server.URL}} {
		b.Run(way.name, func(b *testing.B) {
			b.ReportAllocs()
			before := cpuTime()
			for b.Loop() {
				resp, err := s.client.Post(way.url+endpointChat.path(), "application/json", strings.NewReader(body))
				if err != nil {
					b.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != 200 {
					b.Fatal(resp.Status, err)
				}
				resp.Body.Close()
			}
			b.ReportMetric(float64((cpuTime()-before).Microseconds())/float64(b.N), "cpu-us/op")
		})
	}
}

// chatOf is a chat of about n bytes, each a token of byteModel.
func chatOf(n int, stream bool) string {
	s := `{"model":"m",`
	if stream {
		s += `"stream":true,`
	}
	return s + `"messages":[{"role":"user","content":"` + strings.Repeat("word ", n/5) + `"}],"metadata":"` + strings.Repeat("x", 60) + `"}`
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
