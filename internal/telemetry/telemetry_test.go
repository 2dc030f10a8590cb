package telemetry

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel"
)

func TestLoggerKeepsToLevelAndFormat(t *testing.T) {
	var b bytes.Buffer
	log, err := NewLogger(&b, "warn", "json")
	if err != nil {
		t.Fatal(err)
	}
	log.Info("quiet")
	log.Warn("loud", "n", 1)
	if got := b.String(); strings.Contains(got, "quiet") || !strings.Contains(got, `"msg":"loud","n":1`) {
		t.Errorf("wrote %s", got)
	}
	for _, bad := range [][2]string{{"loud", "json"}, {"info", "xml"}} {
		if _, err := NewLogger(&b, bad[0], bad[1]); err == nil {
			t.Errorf("%v was accepted", bad)
		}
	}
}

func TestSpansReachTheCollector(t *testing.T) {
	got := make(chan string, 1)
	collector := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		got <- r.URL.Path + " " + string(b)
	}))
	defer collector.Close()
	stop, err := StartTracing(t.Context(), collector.URL, "kvasir-test", "v0")
	if err != nil {
		t.Fatal(err)
	}
	_, span := otel.Tracer("test").Start(t.Context(), "decide")
	span.End()
	if err := stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	if s := <-got; !strings.HasPrefix(s, "/v1/traces ") || !strings.Contains(s, "decide") || !strings.Contains(s, "kvasir-test") {
		t.Errorf("the collector got %q", s)
	}
}

// slow is a writer that is read while it is written to.
type slow struct {
	mu     sync.Mutex
	b      bytes.Buffer
	writes int
}

func (s *slow) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writes++
	return s.b.Write(p)
}

func (s *slow) read() (text string, writes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.b.String(), s.writes
}

func TestHeldLinesComeInOrderAndByThemselves(t *testing.T) {
	var w slow
	h := Hold(&w)
	want := ""
	for i := range 5000 { // more than is held
		line := fmt.Sprintf("line %d\n", i)
		want += line
		if n, err := h.Write([]byte(line)); n != len(line) || err != nil {
			t.Fatal(n, err)
		}
	}
	got, writes := w.read()
	for end := time.Now().Add(30 * time.Second); got != want && time.Now().Before(end); got, writes = w.read() {
		time.Sleep(time.Millisecond)
	}
	if got != want {
		t.Fatalf("%d bytes of %d came", len(got), len(want))
	}
	if writes > 100 {
		t.Errorf("%d writes for 5000 lines", writes)
	}
	_, _ = h.Write([]byte("last"))
	h.Flush()
	if got, _ := w.read(); got != want+"last" {
		t.Error("Flush left something")
	}
}
