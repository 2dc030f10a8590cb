package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

func TestQueueServesTheMostUrgentFirstAndBoundsOffloads(t *testing.T) {
	q := NewQueue[string](10)
	item := func(s string) *Item[string] { return &Item[string]{Value: s, Bytes: 5} }
	a, b, c := item("offload a"), item("offload b"), item("offload c")
	for _, it := range []*Item[string]{a, b} {
		if !q.Push(it, Offload) {
			t.Fatalf("%s did not fit", it.Value)
		}
	}
	if q.Push(c, Offload) {
		t.Fatal("an offload beyond the budget was queued")
	}
	p, d := item("prefetch"), item("demand")
	q.Push(p, Prefetch)
	if !q.Push(d, Demand) {
		t.Fatal("the offload budget held up a demand load")
	}
	q.Promote(p, Demand)
	if !q.Remove(a) || q.Remove(a) {
		t.Fatal("an item left the queue not exactly once")
	}
	if q.Len() != 3 || q.Bytes() != 15 {
		t.Fatalf("%d items of %d bytes, want 3 of 15", q.Len(), q.Bytes())
	}
	var got []string
	for it, ok := q.Pop(); ok; it, ok = q.Pop() {
		got = append(got, it.Value)
	}
	if want := []string{"demand", "prefetch", "offload b"}; !slices.Equal(got, want) {
		t.Fatalf("served %v, want %v", got, want)
	}
}

func TestQueueAgreesWithModel(t *testing.T) {
	r := trial.Rand(t)
	q := NewQueue[int](50)
	var lanes [numPriorities][]*Item[int]
	for step := range 5000 {
		switch r.IntN(4) {
		case 0, 1:
			it, p := &Item[int]{Value: step, Bytes: int64(1 + r.IntN(9))}, Priority(r.IntN(3))
			var queued int64
			for _, o := range lanes[Offload] {
				queued += o.Bytes
			}
			if fits := p != Offload || queued+it.Bytes <= 50; q.Push(it, p) != fits {
				t.Fatalf("step %d: push, fits: %v", step, fits)
			} else if fits {
				lanes[p] = append(lanes[p], it)
			}
		case 2:
			p := slices.IndexFunc(lanes[:], func(l []*Item[int]) bool { return len(l) > 0 })
			it, ok := q.Pop()
			if ok != (p >= 0) || ok && it != lanes[p][0] {
				t.Fatalf("step %d: popped the wrong item", step)
			}
			if ok {
				lanes[p] = lanes[p][1:]
			}
		case 3:
			if l := &lanes[r.IntN(3)]; len(*l) > 0 {
				i := r.IntN(len(*l))
				q.Remove((*l)[i])
				*l = slices.Delete(*l, i, i+1)
			}
		}
		n := 0
		var bytes int64
		for _, l := range lanes {
			for _, it := range l {
				n++
				bytes += it.Bytes
			}
		}
		if q.Len() != n || q.Bytes() != bytes {
			t.Fatalf("step %d: %d items of %d bytes, want %d of %d", step, q.Len(), q.Bytes(), n, bytes)
		}
	}
}

func TestBreakerOpensProbesAndCloses(t *testing.T) {
	b := Breaker{Threshold: 2, Wait: time.Second, MaxWait: 3 * time.Second}
	now := time.Unix(0, 0)
	allow := func(want bool) {
		t.Helper()
		if b.Usable(now) != want || b.Allow(now) != want {
			t.Fatalf("allowed: %v", !want)
		}
	}
	fail := func(want bool) {
		t.Helper()
		if b.Failure(now) != want {
			t.Fatalf("opened: %v", !want)
		}
	}
	allow(true)
	fail(false)
	allow(true)
	b.Success() // one failure after a success does not count with one before
	allow(true)
	fail(false)
	allow(true)
	allow(true) // two calls in flight
	fail(true)
	fail(false) // the straggler opens nothing twice
	allow(false)
	now = now.Add(time.Second)
	allow(true) // the probe
	allow(false)
	fail(false)
	now = now.Add(time.Second)
	allow(false) // the wait has doubled
	now = now.Add(time.Second)
	allow(true)
	b.Unknown() // the probe was called off: another may try at once
	allow(true)
	b.Success()
	if !b.Closed() {
		t.Fatal("a successful probe did not close the breaker")
	}
	allow(true)
	allow(true)
}

func TestRateCountsParallelTransfersTogether(t *testing.T) {
	var r Rate
	if r.BytesPerSecond() != 0 || r.Latency() != 0 {
		t.Fatal("something was measured before the first transfer")
	}
	// Two at a time, each 1000 bytes in 2 s, with a pause after each pair.
	now := time.Unix(0, 0)
	for range 300 {
		r.Start(now)
		r.Start(now)
		now = now.Add(2 * time.Second)
		r.Finish(now, 1000, 2*time.Second)
		r.Finish(now, 1000, 2*time.Second)
		now = now.Add(time.Hour)
	}
	if got := r.BytesPerSecond(); got < 980 || got > 1020 {
		t.Fatalf("%f bytes/s, want 1000", got)
	}
	if got := r.Latency(); got < 980*time.Millisecond || got > 1020*time.Millisecond {
		t.Fatalf("latency %v, want 1 s: a block takes 2 s, of which 1 s is its bytes", got)
	}
	r.Start(now)
	now = now.Add(time.Hour)
	r.Cancel(now)
	if got := r.BytesPerSecond(); got < 980 {
		t.Fatalf("a cancelled transfer changed the rate to %f", got)
	}
}

func TestPresenceForgetsByNumberAndByTime(t *testing.T) {
	p := NewPresence(2, time.Minute)
	bs := chain(1, 3)
	now := time.Unix(0, 0)
	if added, _ := p.Add(bs[0], now); !added {
		t.Fatal("a new block is no news")
	}
	p.Add(bs[1], now)
	now = now.Add(30 * time.Second)
	if added, _ := p.Add(bs[0], now); added {
		t.Fatal("a known block is news")
	}
	if _, gone := p.Add(bs[2], now); !slices.Equal(gone, []kv.Hash{bs[1].Hash}) {
		t.Fatalf("forgot %v to stay in bounds, want the one believed longest", gone)
	}
	if gone := p.Expire(now.Add(59 * time.Second)); gone != nil {
		t.Fatalf("%v expired early", gone)
	}
	if gone := p.Expire(now.Add(time.Minute)); !slices.Equal(gone, []kv.Hash{bs[0].Hash, bs[2].Hash}) {
		t.Fatalf("expired %v, want the two left", gone)
	}
	if p.Len() != 0 || p.Remove(bs[0].Hash) {
		t.Fatal("something is still believed")
	}
}

func BenchmarkTableCommitEvict(b *testing.B) {
	const capacity = 1 << 16
	tab := NewTable(LRU, capacity)
	r := rand.New(rand.NewPCG(1, 1))
	parent := hash(0)
	b.ReportAllocs()
	for i := range b.N {
		s, ok := tab.Fill(AllParts)
		if !ok {
			v, _, _ := tab.Evict(AllParts)
			tab.Evicted(v)
			s, _ = tab.Fill(AllParts)
		}
		blk := kv.Block{Hash: hash(uint64(i) + 1), Parent: parent}
		tab.Commit(s, blk)
		tab.Unlease(s)
		parent = blk.Hash
		if r.IntN(100) == 0 {
			parent = hash(0)
		}
	}
}
