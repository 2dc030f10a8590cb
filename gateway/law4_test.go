package gateway

import (
	"context"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// randomSeed is printed; KVASIR_SEED repeats a run's choices.
func randomSeed(t *testing.T) uint64 {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("KVASIR_SEED"); s != "" {
		seed, _ = strconv.ParseUint(s, 10, 64)
	}
	t.Logf("KVASIR_SEED=%d", seed)
	return seed
}

// TestLaw4ClosedBooks throws everything that can end a request at the gateway,
// at random: engines that answer, refuse, die, hang, cut their streams and send
// rubbish, clients that leave at any moment, limits that run out. Afterwards
// every load that was booked has been released, once, and nothing is in flight.
func TestLaw4ClosedBooks(t *testing.T) {
	seed := randomSeed(t)
	s := newSetting(t, 4, func(c *Config) {
		c.Limits = Limits{FirstByte: 60 * time.Millisecond, Idle: 60 * time.Millisecond, Request: 100 * time.Millisecond, InFlight: 24}
		c.Records = 64
	})
	for i, e := range s.engines {
		e.Config.ErrorLog = quiet
		rng := lockedRand(seed, uint64(i))
		e.does(func(w http.ResponseWriter, r *http.Request, b []byte) bool { return misbehave(rng(10), w, r) })
	}
	const clients, requests = 32, 25
	var wg sync.WaitGroup
	for i := range clients {
		rng := rand.New(rand.NewPCG(seed, 1000+uint64(i)))
		wg.Go(func() {
			for range requests {
				patience := time.Minute
				if rng.IntN(3) == 0 {
					patience = time.Duration(rng.IntN(40)) * time.Millisecond
				}
				body := [...]string{chatBody, streamBody, streamBody, `{"model":"m","prompt":"x"}`, `{"model":`}[rng.IntN(5)]
				impatient(s, patience, body)
			}
		})
	}
	wg.Wait()
	eventually(t, "nothing in flight", func() bool { return s.g.admission.count() == 0 })
	s.booksClosed()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.records) != clients*requests {
		// Requests whose client left before the server had read them leave none.
		t.Logf("%d records of %d requests", len(s.records), clients*requests)
	}
	outcomes := map[string]int{}
	for _, r := range s.records {
		outcomes[r.Outcome]++
		if !r.Done || r.Outcome == string(CodeInternal) {
			t.Errorf("%s ended as %s, done %v", r.RequestID, r.Outcome, r.Done)
		}
	}
	t.Logf("outcomes %v", outcomes)
	if outcomes[outcomeOK] == 0 || len(outcomes) < 4 {
		t.Errorf("the run was too tame: %v", outcomes)
	}
	if added, _ := s.g.ledger.Totals(); added == 0 {
		t.Error("nothing was booked")
	}
}

// misbehave ends a request in one of several ways; false leaves it to the
// engine's usual answer.
func misbehave(way int, w http.ResponseWriter, r *http.Request) bool {
	stream := func(payloads ...string) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Write(events(payloads...))
		w.(http.Flusher).Flush()
	}
	switch way {
	case 0:
		cut(w)
	case 1:
		w.WriteHeader(503)
	case 2:
		w.WriteHeader(500)
	case 3:
		w.WriteHeader(400)
		io.WriteString(w, `{"error":{"message":"no","type":"x","param":null,"code":400}}`)
	case 4:
		<-r.Context().Done()
	case 5:
		stream(roleChunk, contentChunk)
		panic(http.ErrAbortHandler)
	case 6:
		stream(roleChunk)
		<-r.Context().Done()
	case 7:
		stream("rubbish", `{"choices":7}`)
	default:
		return false
	}
	return true
}

func lockedRand(seed, stream uint64) func(n int) int {
	var mu sync.Mutex
	rng := rand.New(rand.NewPCG(seed, stream))
	return func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return rng.IntN(n)
	}
}

// impatient is a client that leaves when its patience is over.
func impatient(s *setting, patience time.Duration, body string) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	path := endpointChat.path()
	if strings.Contains(body, "prompt") {
		path = endpointCompletion.path()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+path, strings.NewReader(body))
	if err != nil {
		return
	}
	resp, err := s.client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body) // whatever comes is fine here
}
