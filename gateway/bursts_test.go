package gateway

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// Fast streamed answers over connections that are used again and again: each one
// must be whole. A plain httputil.ReverseProxy cuts some short, because the server
// closes the request's body at the answer's first byte while the transport may
// still read it. And none may wait for a delayed acknowledgement, 40 ms, which is
// what a proxy without TCP_NODELAY has them do.
//
// KVASIR_BURSTS says how many there are; 5,000 were seen to be whole.
func TestFastStreamsAreWhole(t *testing.T) {
	n := 600
	if s, err := strconv.Atoi(os.Getenv("KVASIR_BURSTS")); err == nil {
		n = s
	}
	s := newSetting(t, 2, func(c *Config) { c.Limits.QueueAhead = -1 }) // whatever this machine does besides
	const tokens = 32
	var answer []byte
	for i := range tokens {
		answer = append(answer, events(strings.Replace(contentChunk, " hi", fmt.Sprint(" w", i), 1))...)
	}
	answer = append(answer, events(lastChunk, "[DONE]")...)
	for _, e := range s.engines {
		e.does(func(w http.ResponseWriter, _ *http.Request, _ []byte) bool {
			w.Header().Set("Content-Type", "text/event-stream")
			for part := range bytes.SplitAfterSeq(answer, []byte("\n\n")) {
				_, _ = w.Write(part)
				w.(http.Flusher).Flush()
			}
			return true
		})
	}
	var mu sync.Mutex
	var took []time.Duration
	var wg sync.WaitGroup
	const clients = 4
	for c := range clients {
		wg.Go(func() {
			for i := c; i < n; i += clients {
				began := time.Now()
				resp, err := s.client.Post(s.server.URL+endpointChat.path(), "application/json", strings.NewReader(chatOf(200+i%2000, true)))
				if err != nil {
					t.Error(err)
					return
				}
				got, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				if err != nil || !bytes.Equal(got, answer) {
					t.Errorf("answer %d: status %d, %d bytes of %d, %v; ends in %q", i, resp.StatusCode, len(got), len(answer), err, got[max(0, len(got)-300):])
					return
				}
				mu.Lock()
				took = append(took, time.Since(began))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	slices.Sort(took)
	t.Logf("%d answers, none cut short; half took %v at most, 99 of 100 %v", n, took[n/2], took[n*99/100])
	// With the stall every answer takes 40 ms; on a busy machine some take longer
	// than that without it, but the quickest of hundreds does not.
	if took[len(took)/20] >= 40*time.Millisecond {
		t.Errorf("19 of 20 answers took %v or more: is TCP_NODELAY off?", took[len(took)/20])
	}
	s.booksClosed()
}
