package router

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// seed is KVASIR_SEED or a random one, which the log shows.
func seed(t testing.TB) uint64 {
	s := rand.Uint64()
	if v := os.Getenv("KVASIR_SEED"); v != "" {
		var err error
		if s, err = strconv.ParseUint(v, 10, 64); err != nil {
			t.Fatalf("KVASIR_SEED: %v", err)
		}
	}
	t.Logf("KVASIR_SEED=%d", s)
	return s
}

// booked is a request as the test remembers it.
type booked struct {
	id      string
	worker  kv.WorkerID
	e       Estimate
	started bool
}

// TestLedgerBooksClose is law 4: however requests come, move, start and end, in
// whatever order and however often their end is told, each load is added once
// and released once.
func TestLedgerBooksClose(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	workers := []kv.WorkerID{"a", "b", "c"}
	l := NewLedger()
	now := time.Unix(0, 0)
	var open []booked // in order of arrival
	find := func(id string) int { return slices.IndexFunc(open, func(b booked) bool { return b.id == id }) }
	drop := func(id string) {
		if i := find(id); i >= 0 {
			open = slices.Delete(open, i, i+1)
		}
	}
	var added, released uint64
	for range 20_000 {
		now = now.Add(time.Duration(rng.IntN(5)) * time.Millisecond)
		id := fmt.Sprint("r", rng.IntN(40))
		switch rng.IntN(4) {
		case 0: // new, or a retry on another worker
			if find(id) >= 0 {
				released++
			}
			added++
			drop(id)
			b := booked{id: id, worker: workers[rng.IntN(3)], e: Estimate{RestoreMS: float64(rng.IntN(10)),
				PrefillMS: float64(rng.IntN(100)), Cut: rng.IntN(50), RecomputeBlocks: rng.IntN(50), ComputeTokens: rng.IntN(1000)}}
			open = append(open, b)
			l.Add(id, b.worker, b.e, now)
		case 1:
			if i := find(id); i >= 0 {
				open[i].started = true
			}
			l.FirstToken(id, now)
		case 2, 3:
			if find(id) >= 0 {
				released++
			}
			drop(id)
			l.Done(id, now)
		}
		for _, w := range workers {
			compareLoad(t, l, w, open, now)
		}
		if a, r := l.Totals(); a != added || r != released || l.Open() != len(open) || a-r != uint64(l.Open()) {
			t.Fatalf("added %d, released %d, open %d; want %d, %d, %d", a, r, l.Open(), added, released, len(open))
		}
	}
	for len(open) > 0 {
		l.Done(open[0].id, now)
		drop(open[0].id)
	}
	for _, w := range workers {
		if got := l.Load(w, now); got != (Load{FreeKVShare: -1}) {
			t.Fatalf("worker %s has a load of %+v when all is done", w, got)
		}
	}
	for _, w := range workers {
		l.Forget(w)
	}
	if len(l.workers) != 0 {
		t.Fatalf("%d accounts are left", len(l.workers))
	}
}

// compareLoad computes w's load from scratch. The queue can only be bounded:
// the worker is somewhere in its head.
func compareLoad(t *testing.T, l *Ledger, w kv.WorkerID, open []booked, now time.Time) {
	t.Helper()
	want := Load{FreeKVShare: -1}
	var whole, head float64
	for _, b := range open {
		if b.worker != w {
			continue
		}
		want.ActiveBlocks += b.e.Cut + b.e.RecomputeBlocks
		if b.started {
			want.Running++
			continue
		}
		if want.Waiting++; want.Waiting == 1 {
			head = b.e.RestoreMS + b.e.PrefillMS
		}
		want.QueuedPrefillTokens += b.e.ComputeTokens
		whole += b.e.RestoreMS + b.e.PrefillMS
	}
	got := l.Load(w, now)
	queue := got.QueuedPrefillMS
	got.QueuedPrefillMS = 0
	if got != want {
		t.Fatalf("worker %s: load %+v, want %+v", w, got, want)
	}
	if queue < whole-head-1e-6 || queue > whole+1e-6 || math.IsNaN(queue) {
		t.Fatalf("worker %s: a queue of %g ms, want %g to %g", w, queue, whole-head, whole)
	}
}

// TestLedgerQueueDrains: the head is worked on while time passes, the others
// wait; an overdue head is not counted, the others still are.
func TestLedgerQueueDrains(t *testing.T) {
	l := NewLedger()
	start := time.Unix(100, 0)
	l.Add("first", "w", Estimate{PrefillMS: 100}, start)
	l.Add("second", "w", Estimate{RestoreMS: 10, PrefillMS: 40}, start)
	for _, c := range []struct{ after, want float64 }{{0, 150}, {30, 120}, {100, 50}, {500, 50}} {
		now := start.Add(time.Duration(c.after * 1e6))
		if got := l.Load("w", now).QueuedPrefillMS; got != c.want {
			t.Errorf("after %g ms: %g ms are queued, want %g", c.after, got, c.want)
		}
	}
	l.FirstToken("first", start.Add(120*time.Millisecond))
	if got := l.Load("w", start.Add(130*time.Millisecond)); got.QueuedPrefillMS != 40 || got.Running != 1 || got.Waiting != 1 {
		t.Errorf("10 ms after the first token of the first: %+v, want 40 ms queued, 1 running, 1 waiting", got)
	}
}
