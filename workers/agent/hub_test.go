package agent

import (
	"maps"
	"math/rand/v2"
	"testing"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// index is a naive index of one worker.
type index [kv.NumTiers]map[kv.Hash]kv.Hash

func newIndex() *index {
	var x index
	for t := range x {
		x[t] = map[kv.Hash]kv.Hash{}
	}
	return &x
}

func (x *index) apply(t *testing.T, events []kv.Event) {
	t.Helper()
	for _, e := range events {
		parent := e.Parent
		for _, h := range e.Hashes {
			_, held := x[e.Tier][h]
			if held != (e.Kind == kv.Removed) {
				t.Fatalf("%v of block %v in %v, held before: %v", e.Kind, h, e.Tier, held)
			}
			if e.Kind == kv.Removed {
				delete(x[e.Tier], h)
				continue
			}
			x[e.Tier][h] = parent
			parent = h
		}
		if e.Kind == kv.Cleared {
			clear(x[e.Tier])
		}
	}
}

func (x *index) equal(o *index) bool {
	for t := range x {
		if !maps.Equal(x[t], o[t]) {
			return false
		}
	}
	return true
}

// Law 3: deltas from the start, a snapshot, and deltas after a snapshot all come
// to the same, which is the union of what both origins hold.
func TestSnapshotAndDeltasAgree(t *testing.T) {
	r := trial.Rand(t)
	h := newHub(1 << 20)
	var truth [numOrigins]*index
	truth[fromEngine], truth[fromManager] = newIndex(), newIndex()
	followed := newIndex()
	late, lateSeq := newIndex(), uint64(0)
	seq := uint64(0)
	for step := range 4000 {
		by := origin(r.IntN(int(numOrigins)))
		e := randomEvent(r, truth[by])
		applyLoosely(truth[by], e)
		h.file([]told{{by, []kv.Event{e}}})

		deltas, _, ok := h.since(h.epoch, seq)
		if !ok {
			t.Fatal("the log lost something")
		}
		for _, d := range deltas {
			if d.seq != seq+1 {
				t.Fatalf("delta %d follows %d", d.seq, seq)
			}
			followed.apply(t, d.events)
			seq = d.seq
		}
		if step == 2000 {
			snapshot, at := h.snapshot()
			late.apply(t, snapshot)
			lateSeq = at
		}
		if step%250 != 0 {
			continue
		}
		union := newIndex()
		for _, x := range truth {
			for tier := range x {
				maps.Copy(union[tier], x[tier])
			}
		}
		snapshot, at := h.snapshot()
		taken := newIndex()
		taken.apply(t, snapshot)
		if !taken.equal(union) || !followed.equal(union) || at != seq {
			t.Fatalf("step %d: snapshot agrees %v, deltas agree %v, numbers %d and %d", step, taken.equal(union), followed.equal(union), at, seq)
		}
	}
	deltas, _, ok := h.since(h.epoch, lateSeq)
	if !ok || len(deltas) == 0 {
		t.Fatal("nothing happened after the snapshot")
	}
	for _, d := range deltas {
		late.apply(t, d.events)
	}
	if !late.equal(followed) {
		t.Error("a watcher that joined late disagrees")
	}
}

// chains is a small world of blocks, so that origins and runs overlap.
var chains = func() (all [][]kv.Block) {
	for i := range uint32(6) {
		root := kv.RootSpec{Model: "m", BlockSize: 1, Salt: string(rune('a' + i%3))}.Hash()
		hashes := kv.Chain(nil, root, []uint32{1, i / 3, 2, 3, 4, 5, 6, 7}, 1)
		all = append(all, kv.Blocks(nil, root, hashes))
	}
	return all
}()

func randomEvent(r *rand.Rand, held *index) kv.Event {
	tier := kv.Tier(r.IntN(int(kv.NumTiers)))
	switch r.IntN(50) {
	case 0:
		return kv.Event{Kind: kv.Cleared, Tier: tier}
	}
	chain := chains[r.IntN(len(chains))]
	from := r.IntN(len(chain))
	to := from + 1 + r.IntN(len(chain)-from)
	e := kv.Event{Kind: kv.Stored, Tier: tier, Parent: chain[from].Parent}
	if r.IntN(5) < 2 {
		e = kv.Event{Kind: kv.Removed, Tier: tier}
	}
	for _, b := range chain[from:to] {
		e.Hashes = append(e.Hashes, b.Hash)
	}
	return e
}

func applyLoosely(x *index, e kv.Event) {
	parent := e.Parent
	for _, h := range e.Hashes {
		if e.Kind == kv.Removed {
			delete(x[e.Tier], h)
			continue
		}
		x[e.Tier][h] = parent
		parent = h
	}
	if e.Kind == kv.Cleared {
		clear(x[e.Tier])
	}
}

func TestTheLogIsBounded(t *testing.T) {
	l := deltaLog{maxBlocks: 10}
	for i := range uint64(1000) {
		l.add([]kv.Event{{Kind: kv.Stored, Hashes: make([]kv.Hash, 1+i%5)}})
		blocks := 0
		for _, d := range l.kept[l.head:] {
			blocks += d.blocks
		}
		if blocks != l.blocks || blocks > 10 && len(l.kept)-l.head > 1 || len(l.kept) > 50 {
			t.Fatalf("after %d: %d blocks in %d deltas, booked %d", i, blocks, len(l.kept), l.blocks)
		}
		if d, ok := l.since(i); !ok || len(d) != 1 || d[0].seq != i+1 {
			t.Fatalf("since %d: %v, %v", i, d, ok)
		}
	}
	for _, after := range []uint64{0, 900, 1001, 1 << 60} {
		if d, ok := l.since(after); ok {
			t.Errorf("since %d gives %v", after, d)
		}
	}
	if d, ok := l.since(1000); !ok || len(d) != 0 {
		t.Errorf("since the latest: %v, %v", d, ok)
	}
}

func TestWhatManagersTellOneByOneTravelsAsOneRun(t *testing.T) {
	h := newHub(100)
	var batch []told
	for _, b := range chains[0] {
		batch = append(batch, told{fromManager, []kv.Event{{Kind: kv.Stored, Tier: kv.CPU, Parent: b.Parent, Hashes: []kv.Hash{b.Hash}}}})
	}
	h.file(batch)
	deltas, _, _ := h.since(h.epoch, 0)
	if len(deltas) != 1 || len(deltas[0].events) != 1 || len(deltas[0].events[0].Hashes) != len(chains[0]) {
		t.Errorf("%d blocks became %+v", len(chains[0]), deltas)
	}
	if s, _ := h.snapshot(); len(s) != 1 || len(s[0].Hashes) != len(chains[0]) {
		t.Errorf("the snapshot has %d runs", len(s))
	}
}
