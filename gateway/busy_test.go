package gateway

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// narrow has each engine take so many requests at once and refuse more, as one
// whose own queue is full.
func (s *setting) narrow(places int, status int, lasts time.Duration) {
	for _, e := range s.engines {
		taken := make(chan struct{}, places)
		e.does(func(w http.ResponseWriter, r *http.Request, _ []byte) bool {
			select {
			case taken <- struct{}{}:
			default:
				w.Header().Set("Retry-After", "1")
				e.refuse(w, status, "too many requests are waiting")
				return true
			}
			defer func() { <-taken }()
			time.Sleep(lasts)
			return false
		})
	}
}

// Engines that have no place for a request are no failures: the requests wait,
// whether the gateway's own queue is on or not, and all are answered.
func TestRequestsWaitForEnginesThatAreFull(t *testing.T) {
	for _, ahead := range []time.Duration{time.Minute, -1} {
		for _, status := range []int{http.StatusServiceUnavailable, http.StatusTooManyRequests} {
			t.Run(fmt.Sprint(status, " ahead ", ahead), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					s := newBubble(t, 3, func(c *Config) { c.Limits.QueueAhead = ahead })
					s.narrow(2, status, 100*time.Millisecond)
					began := time.Now()
					var all sync.WaitGroup
					for i := range 60 {
						body := streamBody
						if i%2 == 0 {
							body = chatBody
						}
						all.Go(func() {
							if r := s.post("/v1/chat/completions", body); r.status != 200 || !strings.Contains(string(r.body), "w") {
								t.Errorf("%d %s", r.status, r.body)
							}
						})
					}
					all.Wait()
					// Ten rounds of six; a place that is free is not left so for long.
					if d := time.Since(began); d > 2*time.Second {
						t.Errorf("it took %s", d)
					}
					if n := len(s.g.serving("m", nil)); n != 3 {
						t.Errorf("%d workers are ready", n)
					}
					tried := 0
					for _, e := range s.engines {
						tried += len(e.received())
					}
					if tried < 61 || tried > 400 {
						t.Errorf("%d tries", tried)
					}
					s.booksClosed()
				})
			})
		}
	}
}

// A wait for a place ends with the request's patience, and with the right error.
func TestEnginesThatStayFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newBubble(t, 2, nil)
		s.narrow(0, http.StatusServiceUnavailable, 0)
		for _, c := range []struct {
			header []string
			status int
			code   Code
		}{
			{[]string{headerDeadline, "2000"}, 429, CodeOverloaded},
			{nil, 429, CodeOverloaded},
		} {
			r := s.post("/v1/chat/completions", streamBody, c.header...)
			if code, _, _ := r.problem(t); r.status != c.status || code != string(c.code) || r.header.Get("Retry-After") == "" {
				t.Errorf("%d %s %v", r.status, code, r.header)
			}
		}
		s.booksClosed()
	})
}
