package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"testing"
	"time"
)

// talks are conversations of several turns, asked of the engine by some clients
// at once. What a conversation's turn is answered is then asked again under a
// salt of its own, so that nothing is cached: that is the truth.
type talks struct {
	mu      sync.Mutex
	answers map[string]string // by prompt
	cached  int
	tokens  int
}

func (s *tiered) talk(t *testing.T, rng *rand.Rand, conversations, turns int, during func(done int)) *talks {
	t.Helper()
	k := &talks{answers: map[string]string{}}
	var open []string
	for i := range conversations {
		open = append(open, essay(fmt.Sprint(t.Name(), i%(conversations/2+1), " ", rng.IntN(3)), 60+rng.IntN(140)))
	}
	done := 0
	for range turns {
		rng.Shuffle(len(open), func(i, j int) { open[i], open[j] = open[j], open[i] })
		inParallel(8, len(open), func(i int) {
			if i%5 == 0 { // some clients go away at once, and ask again
				s.abandon(prompt(open[i], 8), time.Duration(i%40)*time.Millisecond)
			}
			got, err := s.e.complete(prompt(open[i], 8))
			k.mu.Lock()
			defer k.mu.Unlock()
			if err != nil {
				t.Errorf("a request failed: %v", err)
				return
			}
			k.answers[open[i]] = got.text
			k.cached, k.tokens = k.cached+got.cached, k.tokens+got.prompt
			open[i] += got.text + fmt.Sprintf(" And then, %d?", i)
			done++
			during(done)
		})
	}
	return k
}

// abandon asks and leaves after a moment.
func (s *tiered) abandon(body map[string]any, after time.Duration) {
	ctx, cancel := context.WithTimeout(s.t.Context(), after)
	defer cancel()
	s.e.abandonable(ctx, body)
}

// abandonable asks for what nobody may wait for.
func (e *vllmEngine) abandonable(ctx context.Context, body map[string]any) {
	b, _ := json.Marshal(body)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, e.url()+"/v1/completions", bytes.NewReader(b))
	if err != nil {
		return
	}
	req.Header.Set("Content-Type", "application/json")
	if r, err := http.DefaultClient.Do(req); err == nil {
		_, _ = io.Copy(io.Discard, r.Body)
		r.Body.Close()
	}
}

// verify compares every answer with a cold run's.
func (k *talks) verify(t *testing.T, s *tiered) {
	t.Helper()
	var prompts []string
	for p := range k.answers {
		prompts = append(prompts, p)
	}
	inParallel(8, len(prompts), func(i int) {
		body := prompt(prompts[i], 8)
		body["cache_salt"] = fmt.Sprint("cold", len(prompts), "-", i)
		cold, err := s.e.complete(body)
		switch {
		case err != nil:
			t.Errorf("a cold run failed: %v", err)
		case cold.cached != 0:
			t.Errorf("a cold run found %d tokens cached", cold.cached)
		case cold.text != k.answers[prompts[i]]:
			t.Errorf("%.40s...: %q, cold it is %q", prompts[i], k.answers[prompts[i]], cold.text)
		}
	})
	t.Logf("%d different prompts answered as when cold; %d of %d tokens asked were cached", len(prompts), k.cached, k.tokens)
}

func inParallel(clients, n int, do func(i int)) {
	var wg sync.WaitGroup
	next := make(chan int)
	for range clients {
		wg.Go(func() {
			for i := range next {
				do(i)
			}
		})
	}
	for i := range n {
		next <- i
	}
	close(next)
	wg.Wait()
}
