package kvbm

import (
	"bytes"
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/kvasir-ai/kvasir/kvbm/gpu"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// memoryPages is an engine whose pages are ordinary memory.
type memoryPages struct {
	mu    sync.Mutex
	pages [][]byte
	calls []int // blocks of each
	err   error
}

func newMemoryPages(n int) *memoryPages {
	p := &memoryPages{pages: make([][]byte, n)}
	for i := range p.pages {
		p.pages[i] = make([]byte, testBlock)
	}
	return p
}

func (p *memoryPages) Save(_ context.Context, ts []gpu.Transfer, _ uint64) error {
	return p.each(ts, func(page, host []byte) { copy(host, page) })
}

func (p *memoryPages) Load(_ context.Context, _ policy.Priority, ts []gpu.Transfer) error {
	return p.each(ts, func(page, host []byte) { copy(page, host) })
}

func (p *memoryPages) each(ts []gpu.Transfer, do func(page, host []byte)) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err != nil {
		return p.err
	}
	p.calls = append(p.calls, len(ts))
	for _, t := range ts {
		do(p.pages[t.Page], t.Host)
	}
	return nil
}

// An engine's pages go down to cpu and disk; after a restart they come back to
// other pages, as far as the prefix goes.
func TestPagesGoDownAndComeBackElsewhere(t *testing.T) {
	ctx := context.Background()
	c := testConfig()
	c.CPUBytes = 4096 * testStride
	c.Disk = DiskConfig{Paths: []string{t.TempDir()}, Bytes: 4096 * testStride}
	const n = 3000 // several calls
	chain := prompt(1, n+10)
	e := newMemoryPages(2 * n)
	var paged []Paged
	for i, b := range chain[:n] {
		copy(e.pages[i], content(b.Hash))
		paged = append(paged, Paged{b, i})
	}
	m, err := Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing to do
		if saved, err := m.SavePages(ctx, e, paged, 0); saved != n || err != nil {
			t.Fatalf("saved %d of %d, %v", saved, n, err)
		}
	}
	if len(e.calls) != (n+m.callBlocks()-1)/m.callBlocks() {
		t.Errorf("%d blocks were saved in calls of %v", n, e.calls)
	}
	settle(t, m) // Close drains for a bounded time only
	if err := m.Close(ctx); err != nil {
		t.Fatal(err)
	}
	if m, err = Open(ctx, c); err != nil {
		t.Fatal(err)
	}
	defer m.Close(ctx)
	var targets []int
	for i := range chain {
		targets = append(targets, 2*n-1-i)
	}
	loaded, err := m.LoadPages(ctx, e, OnboardRequest{Blocks: chain}, targets)
	if loaded != n || err != nil {
		t.Fatalf("loaded %d of %d, %v", loaded, n, err)
	}
	for i, b := range chain[:loaded] {
		if !bytes.Equal(e.pages[targets[i]], content(b.Hash)) {
			t.Fatalf("page %d is not block %d", targets[i], i)
		}
	}
	if s := m.Stats().Tiers[1]; s.Leased != 0 || s.Filling != 0 {
		t.Errorf("left behind: %+v", s)
	}
}

// An engine that is gone in the middle costs its transfers and nothing else.
func TestPagesOfAnEngineThatIsGone(t *testing.T) {
	ctx := context.Background()
	c := testConfig()
	c.CPUBytes = 64 * testStride
	m, err := Open(ctx, c)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close(ctx)
	e := newMemoryPages(8)
	chain := prompt(2, 8)
	paged := []Paged{{chain[0], 0}, {chain[1], 1}}
	if saved, err := m.SavePages(ctx, e, paged, 0); saved != 2 || err != nil {
		t.Fatal(saved, err)
	}
	e.err = gpu.ErrGone
	if saved, err := m.SavePages(ctx, e, []Paged{{chain[2], 2}}, 0); saved != 0 || !errors.Is(err, gpu.ErrGone) {
		t.Errorf("saved %d, %v", saved, err)
	}
	if loaded, err := m.LoadPages(ctx, e, OnboardRequest{Blocks: chain}, []int{4, 5}); loaded != 0 || !errors.Is(err, gpu.ErrGone) {
		t.Errorf("loaded %d, %v", loaded, err)
	}
	if s := m.Stats().Tiers[1]; s.Committed != 2 || s.Leased != 0 || s.Filling != 0 || s.Free != 62 {
		t.Errorf("left behind: %+v", s)
	}
}
