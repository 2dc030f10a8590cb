package kvbm

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// gate is a disk whose reads wait until they are let through.
type gate struct {
	diskStore
	mu     sync.Mutex
	reads  int
	passed chan struct{}
}

func (g *gate) Read(s policy.Slot, dst []byte) error {
	g.mu.Lock()
	g.reads++
	g.mu.Unlock()
	<-g.passed
	return g.diskStore.Read(s, dst)
}

func (g *gate) waiting() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.reads
}

// onDisk opens a manager with a gpu pool and a gated disk, which holds the
// given prompts and nothing of them above.
func onDisk(t *testing.T, change func(*Config), prompts ...[]kv.Block) (*Manager, *gate) {
	t.Helper()
	c := testConfig()
	c.GPUBlocks = 16
	c.Disk = DiskConfig{Paths: []string{t.TempDir()}, Bytes: 4096 + 100*testStride}
	filler, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	for _, bs := range prompts {
		compute(t, filler, bs)
		settle(t, filler)
	}
	if err := filler.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(&c)
	}
	m := open(t, c)
	g := &gate{passed: make(chan struct{})}
	wrapDisk(m, func(s diskStore) diskStore { g.diskStore = s; return g })
	t.Cleanup(func() { // before the manager closes
		select {
		case <-g.passed:
		default:
			close(g.passed)
		}
	})
	return m, g
}

func TestABlockWantedTwiceIsMovedOnce(t *testing.T) {
	bs := prompt(1, 8)
	m, g := onDisk(t, nil, bs)
	a := m.Onboard(t.Context(), OnboardRequest{Blocks: bs})
	b := m.Onboard(t.Context(), OnboardRequest{Blocks: bs[:6]})
	trial.Await(t, "the disk is read", func() bool { return g.waiting() > 0 })
	close(g.passed)
	for _, o := range []*Onboarding{a, b} {
		if r := o.Result(); r.Missed != 0 || r.Blocks[kv.Disk]+r.Blocks[kv.GPU] != len(o.req.Blocks) {
			t.Fatalf("%+v", r)
		}
	}
	if n := linkStats(t, m, kv.Disk, kv.CPU).Blocks; n != 8 {
		t.Fatalf("%d blocks were read from disk, want each of the 8 once", n)
	}
	if n := linkStats(t, m, kv.CPU, kv.GPU).Blocks; n != 8 {
		t.Fatalf("%d blocks were copied to gpu, want each of the 8 once", n)
	}
	a.Release()
	if leased := m.Stats().Tiers[kv.GPU].Leased; leased != 6 {
		t.Fatalf("%d blocks are leased by the other onboarding, want its 6", leased)
	}
	b.Release()
	b.Release()
	check(t, m)
}

func TestOneIDIsOneOnboarding(t *testing.T) {
	bs := prompt(1, 4)
	m, g := onDisk(t, nil, bs)
	a := m.Onboard(t.Context(), OnboardRequest{ID: "r1", Blocks: bs})
	if m.Onboard(t.Context(), OnboardRequest{ID: "r1", Blocks: bs[:1]}) != a {
		t.Fatal("the same id began another onboarding")
	}
	if o, ok := m.planned("r1"); !ok || o != a {
		t.Fatal("a running onboarding is not found under its id")
	}
	close(g.passed)
	a.Result()
	if o, ok := m.planned("r1"); !ok || o != a {
		t.Fatal("a held onboarding is not found under its id")
	}
	a.Release()
	if _, ok := m.planned("r1"); ok {
		t.Fatal("a released onboarding is found")
	}
}

// Nobody comes for what was brought: after the hold the blocks are ordinary
// cache content again.
func TestAHoldEnds(t *testing.T) {
	bs := prompt(1, 4)
	clock := newClock()
	m, g := onDisk(t, func(c *Config) { c.Now = clock.now }, bs)
	close(g.passed)
	for _, id := range []string{"with id", ""} {
		o := m.Onboard(t.Context(), OnboardRequest{ID: id, Blocks: bs, Hold: time.Minute})
		o.Result()
		if _, err := m.GPU().Reserve(13); err != ErrFull {
			t.Fatalf("held blocks were evicted: %v", err)
		}
		clock.advance(time.Minute)
		trial.Await(t, "the hold has ended", func() bool { return m.Stats().Tiers[kv.GPU].Leased == 0 })
		if _, ok := m.planned(id); ok {
			t.Fatal("an expired onboarding is found")
		}
	}
}

func TestADeadlineEndsWithWhatHasLanded(t *testing.T) {
	bs := prompt(1, 4)
	m, g := onDisk(t, nil, bs)
	o := m.Onboard(t.Context(), OnboardRequest{Blocks: bs, Deadline: m.now().Add(20 * time.Millisecond)})
	if r := o.Result(); r.Missed != 4 {
		t.Fatalf("%+v, want all four late", r)
	}
	o.Release()
	late := m.Onboard(t.Context(), OnboardRequest{Blocks: bs, Deadline: m.now().Add(-time.Second)})
	if r := late.Result(); r.Missed != 4 {
		t.Fatalf("%+v, want all four late", r)
	}
	close(g.passed)
	settle(t, m)
	if got := m.Stats().Tiers[kv.GPU]; got.Leased+got.Filling != 0 {
		t.Fatalf("late blocks hold slots: %+v", got)
	}
}

// The engine gives a request up while its blocks are under way: those not begun
// are called off, and another request that wants some of them still gets them.
func TestCancelCallsOffWhatNobodyElseWants(t *testing.T) {
	bs := prompt(1, 16)
	m, g := onDisk(t, nil, bs)
	ctx, cancel := context.WithCancel(t.Context())
	a := m.Onboard(ctx, OnboardRequest{Blocks: bs})
	b := m.Onboard(t.Context(), OnboardRequest{Blocks: bs[:2]})
	trial.Await(t, "all disk readers are busy", func() bool { return g.waiting() == diskWorkers })
	trial.Await(t, "both wait for the first blocks", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		f := m.flights[flightKey{bs[1].Hash, kv.GPU}]
		return f != nil && len(f.passengers) == 2
	})
	cancel()
	if r := a.Result(); r.Missed != 16 {
		t.Fatalf("%+v", r)
	}
	close(g.passed)
	if r := b.Result(); r.Blocks[kv.Disk] != 2 {
		t.Fatalf("the other request got %+v", r)
	}
	settle(t, m)
	up := linkStats(t, m, kv.Disk, kv.CPU)
	if up.Cancelled == 0 || g.waiting() > diskWorkers {
		t.Fatalf("%d loads called off, %d reads", up.Cancelled, g.waiting())
	}
	a.Release()
	b.Release()
	if n := len(m.flights); n != 0 {
		t.Fatalf("%d flights are left", n)
	}
}

// Demand loads overtake prefetches that wait, and a prefetch that somebody now
// waits for becomes one.
func TestDemandOvertakesPrefetch(t *testing.T) {
	early, late := prompt(1, 12), prompt(2, 4)
	m, g := onDisk(t, nil, early, late)
	p := m.Onboard(t.Context(), OnboardRequest{Blocks: early, Prefetch: true})
	trial.Await(t, "the prefetch has taken the readers", func() bool { return g.waiting() == diskWorkers })
	d := m.Onboard(t.Context(), OnboardRequest{Blocks: late})
	trial.Await(t, "the demand is queued", func() bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.flights[flightKey{late[3].Hash, kv.CPU}] != nil
	})
	m.mu.Lock()
	l := m.link(kv.Disk, kv.CPU)
	first, _ := l.queue.Pop()
	l.queue.Push(&first.Value.Item, policy.Demand)
	m.mu.Unlock()
	if first.Value.block != late[0] {
		t.Fatalf("next is %v, want the first block in demand", first.Value.block)
	}
	close(g.passed)
	d.Result()
	p.Result()
	d.Release()
	p.Release()
}

// A prompt longer than the host pool passes through it.
func TestALongPromptPassesThroughASmallHostPool(t *testing.T) {
	bs := prompt(1, 16)
	m, g := onDisk(t, func(c *Config) { c.CPUBytes = 2 * testStride }, bs)
	close(g.passed)
	if r := onboard(t, m, bs); r.Blocks[kv.Disk] != 16 {
		t.Fatalf("%+v", r)
	}
	settle(t, m)
}

func TestWithoutAGPUPoolBlocksAreBroughtToCPU(t *testing.T) {
	bs := prompt(1, 6)
	m, g := onDisk(t, func(c *Config) { c.GPUBlocks, c.CPUBytes = 0, 20*testStride }, bs)
	if m.GPU() != nil {
		t.Fatal("there is a gpu pool")
	}
	close(g.passed)
	mi := watch(t, m)
	if r := onboard(t, m, bs); r.Blocks[kv.Disk] != 6 {
		t.Fatalf("%+v", r)
	}
	if r := onboard(t, m, bs); r.Blocks[kv.CPU] != 6 || r.Bytes != 0 {
		t.Fatalf("the second time: %+v", r)
	}
	mi.agree(t, m, bs)
}

// The gpu pool is full of running requests: that is a miss, at once.
func TestAFullGPUPoolIsAMiss(t *testing.T) {
	bs := prompt(1, 6)
	m, g := onDisk(t, nil, bs)
	close(g.passed)
	fs, err := m.GPU().Reserve(12)
	if err != nil {
		t.Fatal(err)
	}
	if r := onboard(t, m, bs); r.Blocks[kv.Disk] != 4 || r.Missed != 2 {
		t.Fatalf("%+v, want the four that fit", r)
	}
	for _, f := range fs {
		f.Abort()
	}
}

// While a slow disk takes its time, the engine computes on: what does not fit
// the queues is dropped and counted, and nothing waits.
func TestOffloadNeverMakesTheEngineWait(t *testing.T) {
	m, g := onDisk(t, func(c *Config) { c.CPUBytes = 4 * testStride })
	slow := &slowWriter{diskStore: g.diskStore, passed: make(chan struct{})}
	wrapDisk(m, func(diskStore) diskStore { return slow })
	pass := sync.OnceFunc(func() { close(slow.passed) })
	t.Cleanup(pass) // before the manager closes
	for id := range 200 {
		if _, ok := compute(t, m, prompt(id, 16)); !ok {
			t.Fatal("the gpu pool was full")
		}
	}
	check(t, m)
	pass()
	settle(t, m)
	lost := linkStats(t, m, kv.GPU, kv.CPU).Dropped + linkStats(t, m, kv.CPU, kv.Disk).Dropped
	if lost == 0 {
		t.Fatal("3200 blocks went through a disk that took none, and none was dropped")
	}
}

type slowWriter struct {
	diskStore
	passed chan struct{}
}

func (s *slowWriter) Write(slot policy.Slot, b kv.Block, data []byte) error {
	<-s.passed
	return s.diskStore.Write(slot, b, data)
}

func TestCloseEndsWhatRuns(t *testing.T) {
	bs := prompt(1, 8)
	m, g := onDisk(t, nil, bs)
	o := m.Onboard(t.Context(), OnboardRequest{Blocks: bs})
	named := m.Onboard(t.Context(), OnboardRequest{ID: "r", Blocks: bs})
	trial.Await(t, "the disk is read", func() bool { return g.waiting() > 0 })
	closed := make(chan error)
	go func() { closed <- m.Close(context.Background()) }()
	if r := o.Result(); r.Missed != 8 {
		t.Fatalf("%+v", r)
	}
	named.Result()
	close(g.passed)
	if err := <-closed; err != nil {
		t.Fatal(err)
	}
	if r := m.Onboard(t.Context(), OnboardRequest{Blocks: bs}).Result(); r.Missed != 8 {
		t.Fatalf("after close: %+v", r)
	}
}

// planned is the onboarding of a request, if one is running or held.
func (m *Manager) planned(id string) (*Onboarding, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	o, ok := m.plans[id]
	return o, ok && id != ""
}

// The router's call was overtaken by its request: it learns what the request's
// own came to, and holds nothing.
func TestASettledRequestWantsNothing(t *testing.T) {
	bs := prompt(1, 4)
	m, g := onDisk(t, nil, bs)
	close(g.passed)
	want := m.Onboard(t.Context(), OnboardRequest{ID: "r1", Blocks: bs}).Result()
	m.Settle("r1")
	m.Settle("never asked")
	for id, want := range map[string]OnboardResult{"r1": want, "never asked": {}} {
		if got := m.Onboard(t.Context(), OnboardRequest{ID: id, Blocks: bs, Hold: time.Hour}).Result(); got != want {
			t.Errorf("%s: %+v, want %+v", id, got, want)
		}
	}
	if n := m.Stats().Tiers[kv.GPU].Leased; n != 0 {
		t.Errorf("%d blocks are held", n)
	}
	for i := range 2 * settledIDs {
		m.Settle(fmt.Sprint(i))
	}
	if n := len(m.settled.results); n != settledIDs {
		t.Errorf("%d settled requests are remembered, want the last %d", n, settledIDs)
	}
	check(t, m)
}
