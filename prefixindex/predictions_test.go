package prefixindex

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

func TestPredictionsEnd(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	p := NewPredictions(10*time.Second, 100)
	a, b, c := p.OfWorker(), p.OfWorker(), p.OfWorker()
	prompt := randomChain(rng, 8)
	start := time.Unix(1000, 0)
	blocks := func(w *Predicted, after time.Duration, want int) {
		t.Helper()
		if got := w.Blocks(prompt, 0, start.Add(after)); got != want {
			t.Errorf("after %v: %d blocks, want %d", after, got, want)
		}
	}
	blocks(a, 0, 0)
	a.Sent(prompt, start)
	b.Sent(prompt[:3], start)
	a.Sent(nil, start)
	blocks(a, 9*time.Second, 8)
	blocks(b, 9*time.Second, 3)
	blocks(c, 0, 0)
	if got := b.Blocks(prompt, 5, start); got != 5 {
		t.Errorf("%d blocks, want the 5 that are known", got)
	}
	// The beginning is sent again, so it holds for longer.
	a.Sent(prompt[:5], start.Add(6*time.Second))
	blocks(a, 9*time.Second, 8)
	blocks(a, 11*time.Second, 5)
	blocks(b, 11*time.Second, 0)
	blocks(a, 17*time.Second, 0)
	c.Sent(prompt[:1], start.Add(20*time.Second))
	if len(a.until)+len(b.until) != 0 || len(p.queue)-p.head != 1 {
		t.Errorf("%d blocks and %d predictions are left, want one", len(a.until)+len(b.until), len(p.queue)-p.head)
	}
}

// TestPredictionsAgainstSets: within the bound, predictions are what was sent in
// the last seconds; beyond it they are fewer, never more, and never without the
// blocks before them.
func TestPredictionsAgainstSets(t *testing.T) {
	s := seed(t)
	for _, bound := range []int{1 << 20, 300} {
		w := newWorld(s, 3, 60, 20)
		p, of := NewPredictions(time.Second, bound), map[kv.WorkerID]*Predicted{}
		for _, id := range w.workers {
			of[id] = p.OfWorker()
		}
		sent := map[kv.WorkerID]map[kv.Hash]time.Time{}
		now := time.Unix(1000, 0)
		for range steps(5000) {
			now = now.Add(time.Duration(w.rng.IntN(20)) * time.Millisecond)
			id, prompt := w.worker(), w.prompt()[1:]
			if w.rng.IntN(3) == 0 {
				of[id].Sent(prompt, now)
				if sent[id] == nil {
					sent[id] = map[kv.Hash]time.Time{}
				}
				for _, h := range prompt[:min(len(prompt), bound)] {
					sent[id][h] = now
				}
			}
			want, sure := 0, 0 // at most, and at least: an eighth of the time may be left out
			for want < len(prompt) && now.Sub(sent[id][prompt[want]]) < time.Second {
				want++
			}
			for sure < want && now.Sub(sent[id][prompt[sure]]) < time.Second*7/8 {
				sure++
			}
			got := of[id].Blocks(prompt, 0, now)
			if got > want || bound > 300 && got < sure {
				t.Fatalf("%d blocks of %s, want %d to %d", got, id, sure, want)
			}
			for i := range got {
				if of[id].until[prompt[i]] <= now.UnixNano() {
					t.Fatalf("block %d of %d is not predicted", i, got)
				}
			}
			if n := len(p.queue) - p.head; n > bound {
				t.Fatalf("%d predictions, more than %d", n, bound)
			}
		}
	}
}
