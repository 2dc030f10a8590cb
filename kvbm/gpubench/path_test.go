package gpubench

import (
	"context"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/kvbm/gpu"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// Blocks of an engine's pages go gpu -> cpu -> disk, are found again after a
// restart and go on to Redis on their way to other pages, and come from Redis
// alone, by another manager, to yet others. Each time every byte is there.
func TestWholePath(t *testing.T) {
	if _, err := cuda.Open(); errors.Is(err, cuda.ErrNoDriver) {
		t.Skipf("needs a GPU: %v", err)
	}
	redis, err := exec.LookPath("redis-server")
	if err != nil {
		t.Skip("needs redis-server")
	}
	ctx := context.Background()
	socket := filepath.Join(t.TempDir(), "redis.sock")
	server := exec.Command(redis, "--port", "0", "--unixsocket", socket, "--save", "", "--dir", t.TempDir())
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		server.Process.Kill()
		server.Wait()
	}()
	b := &bench{o: Options{Engine: ownEngine}, report: &Report{}}
	if err := b.open(ctx); err != nil {
		t.Fatal(errors.Join(err, b.close()))
	}
	defer b.close()

	// 64 KB in each of 32 layers, as vLLM has it.
	const fragment = 64 << 10
	reg := b.reg
	reg.Fragments = nil
	for i := range benchBlock / fragment {
		reg.Fragments = append(reg.Fragments, gpu.Place{Offset: uint64(i * poolPages * fragment), Stride: fragment, Bytes: fragment})
	}
	e, err := b.dev.Attach(reg)
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()

	layout := kv.Layout{Model: "whole path", BlockBytes: benchBlock}
	var chain []kv.Block
	var paged []kvbm.Paged
	for i := range benchSlots {
		h := kv.Hash{byte(i), byte(i >> 8), 1}
		blk := kv.Block{Hash: h}
		if i > 0 {
			blk.Parent = chain[i-1].Hash
		}
		chain = append(chain, blk)
		paged = append(paged, kvbm.Paged{Block: blk, Page: b.pages[i]})
	}
	open := func(c kvbm.Config) *kvbm.Manager {
		c.Layout, c.CPUBytes = layout, benchSlots*benchBlock
		m, err := kvbm.Open(ctx, c)
		if err != nil {
			t.Fatal(err)
		}
		mem, slot := m.HostSlots()
		b.dev.Pin(mem, slot)
		return m
	}
	// closeManager waits for what is under way, and shows where blocks came from.
	settle := func(m *kvbm.Manager, tier kv.Tier) {
		deadline := time.Now().Add(time.Minute)
		for {
			there := 0
			for _, span := range m.Lookup(hashesOf(chain)) {
				if span.Tiers.Has(tier) {
					there += span.Blocks
				}
			}
			if there == benchSlots {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("only %d of %d blocks reached %s: %+v", there, benchSlots, tier, m.Stats().Links)
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	check := func(what string, pages []int) {
		t.Helper()
		if err := b.readBack(fragment, pages); err != nil {
			t.Fatal(err)
		}
		for i := range benchSlots {
			if xxh3.Hash(b.to.Slot(i)) != xxh3.Hash(b.from.Slot(i)) {
				t.Fatalf("%s: block %d is not what was computed", what, i)
			}
		}
		t.Logf("%s: %d blocks of %d bytes, every checksum right", what, benchSlots, benchBlock)
	}

	// The engine has computed: its pages hold the blocks.
	if err := e.Load(ctx, policy.Demand, b.transfers(b.from, b.pages[:benchSlots])); err != nil {
		t.Fatal(err)
	}
	disk := kvbm.DiskConfig{Paths: []string{t.TempDir()}, Bytes: (benchSlots + 1) * benchBlock}
	m := open(kvbm.Config{Disk: disk})
	if saved, err := m.SavePages(ctx, e, paged, 0); saved != benchSlots || err != nil {
		t.Fatalf("saved %d, %v", saved, err)
	}
	settle(m, kv.Disk)
	b.closeManager(t, m)

	m = open(kvbm.Config{Disk: disk, Redis: kvbm.RedisConfig{URL: "unix://" + socket}})
	pages := b.pages[benchSlots:]
	if loaded, err := m.LoadPages(ctx, e, kvbm.OnboardRequest{Blocks: chain}, pages); loaded != benchSlots || err != nil {
		t.Fatalf("loaded %d from disk, %v", loaded, err)
	}
	check("gpu, cpu, disk, cpu, gpu", pages)
	settle(m, kv.Redis)
	b.closeManager(t, m)

	m = open(kvbm.Config{Redis: kvbm.RedisConfig{URL: "unix://" + socket}})
	var others []int
	used := map[int]bool{}
	for _, p := range b.pages {
		used[p] = true
	}
	for p := 0; len(others) < benchSlots; p++ {
		if !used[p] {
			others = append(others, p)
		}
	}
	if loaded, err := m.LoadPages(ctx, e, kvbm.OnboardRequest{Blocks: chain}, others); loaded != benchSlots || err != nil {
		t.Fatalf("loaded %d from Redis, %v", loaded, err)
	}
	check("gpu, cpu, disk, cpu, redis, cpu, gpu", others)
	b.closeManager(t, m)
}

// closeManager unpins a manager's memory before it goes.
func (b *bench) closeManager(t *testing.T, m *kvbm.Manager) {
	t.Helper()
	mem, _ := m.HostSlots()
	if err := errors.Join(b.dev.Unpin(mem), m.Close(context.Background())); err != nil {
		t.Fatal(err)
	}
}

func hashesOf(bs []kv.Block) (hs []kv.Hash) {
	for _, b := range bs {
		hs = append(hs, b.Hash)
	}
	return hs
}
