package kvbm

import (
	"bytes"
	"context"
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

func TestMain(m *testing.M) {
	// go-redis's dialler of a server that was away ends a second after Close.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/redis/go-redis/v9/internal/pool.(*ConnPool).tryDial"))
}

const testBlock = 6000 // not a multiple of a page

// clock is a time that only the test moves.
type clock struct{ ns atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.ns.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time          { return time.Unix(0, c.ns.Load()) }
func (c *clock) advance(d time.Duration) { c.ns.Add(int64(d)) }

// prompt names n blocks that follow each other. Prompts of one id share them.
func prompt(id, n int) []kv.Block {
	var tokens []uint32
	for i := range n {
		tokens = append(tokens, uint32(id), uint32(i))
	}
	root := kv.RootSpec{Model: "test", BlockSize: 2}.Hash()
	return kv.Blocks(nil, root, kv.Chain(nil, root, tokens, 2))
}

func hashes(bs []kv.Block) (hs []kv.Hash) {
	for _, b := range bs {
		hs = append(hs, b.Hash)
	}
	return hs
}

// content is the KV of a block: a function of its name.
func content(h kv.Hash) []byte {
	r := rand.New(rand.NewPCG(binary.LittleEndian.Uint64(h[:]), binary.LittleEndian.Uint64(h[8:])))
	b := make([]byte, testBlock)
	for i := 0; i+8 <= testBlock; i += 8 {
		binary.LittleEndian.PutUint64(b[i:], r.Uint64())
	}
	return b
}

func testConfig() Config {
	return Config{Layout: kv.Layout{Model: "test", BlockBytes: testBlock, BlockSize: 2}}
}

const testStride = 8192

// open opens a manager that is closed, and checked, at the end of the test.
func open(t *testing.T, c Config) *Manager {
	t.Helper()
	m, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return m
}

// wrapDisk puts something between a manager and its first disk.
func wrapDisk(m *Manager, wrap func(diskStore) diskStore) {
	m.mu.Lock()
	defer m.mu.Unlock()
	d := m.disk.devices[0]
	d.store = wrap(d.store)
}

// compute does what an engine does with a prompt: it reuses what the gpu pool
// has and computes the rest. It reports how many blocks it reused; false means
// that the pool was full.
func compute(t *testing.T, m *Manager, bs []kv.Block) (reused int, ok bool) {
	t.Helper()
	leases := m.GPU().Acquire(hashes(bs))
	defer func() {
		for _, l := range leases {
			l.Release()
		}
	}()
	reused = len(leases)
	verify(t, leases, bs)
	fs, err := m.GPU().Reserve(len(bs) - reused)
	if err != nil {
		return reused, false
	}
	for i, f := range fs {
		b := bs[reused+i]
		copy(f.Bytes(), content(b.Hash))
		l, ok := f.Commit(b)
		if !ok {
			f.Abort()
			continue
		}
		leases = append(leases, l)
	}
	return reused, true
}

// verify is law 2.
func verify(t *testing.T, leases []*Lease, bs []kv.Block) {
	t.Helper()
	for i, l := range leases {
		if l.Block() != bs[i] {
			t.Fatalf("block %d is %v, want %v", i, l.Block(), bs[i])
		}
		if !bytes.Equal(l.Bytes(), content(l.Block().Hash)) {
			t.Fatalf("law 2: block %d has bytes that were never stored for it", i)
		}
	}
}

// onboard waits for an onboarding and verifies what it brought.
func onboard(t *testing.T, m *Manager, bs []kv.Block) OnboardResult {
	t.Helper()
	o := m.Onboard(t.Context(), OnboardRequest{Blocks: bs})
	defer o.Release()
	r := o.Result()
	verifyOnboarded(t, m, o, bs, r)
	return r
}

func verifyOnboarded(t *testing.T, m *Manager, o *Onboarding, bs []kv.Block, r OnboardResult) {
	t.Helper()
	sum := 0
	for _, n := range r.Blocks {
		sum += n
	}
	if sum+r.Missed != len(bs) {
		t.Fatalf("%d blocks brought and %d missed of %d", sum, r.Missed, len(bs))
	}
	m.mu.Lock()
	leases := slices.Clone(o.leases)
	m.mu.Unlock()
	verify(t, leases, bs)
}

// check is laws 1 and 6, at any moment.
func check(t *testing.T, m *Manager) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for tier := range kv.NumTiers {
		if table := m.tableOf(tier); table != nil {
			if err := table.Check(); err != nil {
				t.Fatalf("%s: %v", tier, err)
			}
		}
	}
	for _, l := range m.links {
		s := l.stats()
		ended := s.Blocks + s.Present + s.Missed + s.Cancelled + s.Dropped + s.Declined + s.Errors
		if s.Offered != ended+uint64(s.Queued) {
			t.Fatalf("law 6: %s->%s was offered %d blocks; %d ended and %d are queued", s.From, s.To, s.Offered, ended, s.Queued)
		}
		if s.Bytes != s.Blocks*testBlock {
			t.Fatalf("%s->%s: %d bytes for %d blocks", s.From, s.To, s.Bytes, s.Blocks)
		}
	}
}

// settle waits until no job is queued or running.
func settle(t *testing.T, m *Manager) {
	t.Helper()
	trial.Await(t, "the links are idle", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return !m.busy()
	})
	check(t, m)
}

func linkStats(t *testing.T, m *Manager, from, to kv.Tier) LinkStats {
	t.Helper()
	for _, l := range m.Stats().Links {
		if l.From == from && l.To == to {
			return l
		}
	}
	t.Fatalf("there is no link %s->%s", from, to)
	return LinkStats{}
}

// mirror replays events on a naive set: law 3.
type mirror map[kv.Tier]map[kv.Hash]kv.Hash // hash -> parent

func (mi mirror) apply(t *testing.T, events []kv.Event) {
	for _, e := range events {
		if mi[e.Tier] == nil {
			mi[e.Tier] = map[kv.Hash]kv.Hash{}
		}
		switch e.Kind {
		case kv.Stored:
			parent := e.Parent
			for _, h := range e.Hashes {
				if _, dup := mi[e.Tier][h]; dup {
					t.Errorf("%v was stored in %s twice", h, e.Tier)
				}
				mi[e.Tier][h] = parent
				parent = h
			}
		case kv.Removed:
			for _, h := range e.Hashes {
				if _, ok := mi[e.Tier][h]; !ok && e.Tier != kv.Redis {
					t.Errorf("%v was removed from %s and never stored", h, e.Tier)
				}
				delete(mi[e.Tier], h)
			}
		}
	}
}

// watch mirrors a manager from now on. Events that come before the snapshot is
// replayed wait for it.
func watch(t *testing.T, m *Manager) mirror {
	mi := mirror{}
	var early []kv.Event
	replayed := false
	snapshot, stop := m.Watch(func(es []kv.Event) {
		if !replayed {
			early = append(early, es...)
			return
		}
		mi.apply(t, es)
	})
	m.mu.Lock()
	defer m.mu.Unlock()
	mi.apply(t, snapshot)
	mi.apply(t, early)
	replayed = true
	t.Cleanup(stop)
	return mi
}

// agree compares a mirror with what Lookup would say, for every block.
func (mi mirror) agree(t *testing.T, m *Manager, all []kv.Block) {
	t.Helper()
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range all {
		var want kv.TierSet
		for tier, set := range mi {
			if parent, ok := set[b.Hash]; ok {
				want = want.With(tier)
				if parent != b.Parent {
					t.Fatalf("the events say that %v follows %v", b.Hash, parent)
				}
			}
		}
		if got := m.tiersOf(b.Hash); got != want {
			t.Fatalf("law 3: %v is in %q, the events say %q", b.Hash, got, want)
		}
	}
}
