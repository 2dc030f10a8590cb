package kvbm

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore/redistest"
)

// A prompt is pushed out of gpu by others and comes back from each tier in turn,
// byte for byte, and the counters agree with the blocks moved.
func TestTierWalk(t *testing.T) {
	bs := prompt(1, 4)
	walk := func(name string, c Config, from kv.Tier) {
		t.Run(name, func(t *testing.T) {
			c.GPUBlocks = 6
			m := open(t, c)
			mi := watch(t, m)
			compute(t, m, bs)
			settle(t, m)
			for id := range 10 { // others, until nothing of it is left above
				compute(t, m, prompt(100+id, 6))
				settle(t, m)
			}
			got := onboard(t, m, bs)
			if got.Blocks[from] != 4 || got.Missed != 0 || got.Bytes != 4*testBlock {
				t.Fatalf("brought back %+v, want 4 blocks from %s", got, from)
			}
			if took := got.LinkElapsed[from]; took <= 0 || took > got.Elapsed {
				t.Fatalf("the link took %v of %v", took, got.Elapsed)
			}
			if n := m.Stats().Tiers[from].Hits; n != 4 {
				t.Fatalf("%d hits in %s, want 4", n, from)
			}
			if from != kv.CPU {
				if n := linkStats(t, m, from, kv.CPU).Blocks; n != 4 {
					t.Fatalf("%d blocks moved up from %s, want 4", n, from)
				}
			}
			if n := linkStats(t, m, kv.CPU, kv.GPU).Blocks; n != 4 {
				t.Fatalf("%d blocks moved up to gpu, want 4", n)
			}
			if reused, _ := compute(t, m, bs); reused != 4 {
				t.Fatalf("the engine reused %d blocks, want 4", reused)
			}
			settle(t, m)
			mi.agree(t, m, bs)
		})
	}
	c := testConfig()
	c.CPUBytes = 100 * testStride
	walk("cpu", c, kv.CPU)
	c.CPUBytes = 8 * testStride
	c.Disk = DiskConfig{Paths: []string{t.TempDir()}, Bytes: 4096 + 100*testStride}
	walk("disk, cpu too small", c, kv.Disk)
	c.CPUBytes = 0
	c.Disk.Paths = []string{t.TempDir()}
	walk("disk, no cpu", c, kv.Disk)
	srv := redistest.Start(t)
	c.Disk = DiskConfig{}
	c.Redis.URL = srv.URL()
	walk("redis, no cpu, no disk", c, kv.Redis)
	c.Layout.Model = "test 2" // or the last walk's blocks would be found
	c.CPUBytes = 8 * testStride
	walk("redis, cpu too small", c, kv.Redis)
}

func TestARestartFindsTheDiskTierAgain(t *testing.T) {
	c := testConfig()
	c.GPUBlocks, c.CPUBytes = 4, 4*testStride
	c.Disk = DiskConfig{Paths: []string{t.TempDir()}, Bytes: 4096 + 50*testStride}
	m, err := Open(t.Context(), c)
	if err != nil {
		t.Fatal(err)
	}
	var all []kv.Block
	for id := range 3 {
		compute(t, m, prompt(id, 4))
		settle(t, m)
		all = append(all, prompt(id, 4)...)
	}
	if err := m.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	m = open(t, c)
	mi := watch(t, m)
	mi.agree(t, m, all)
	for id := range 3 {
		bs := prompt(id, 4)
		if got := m.Lookup(hashes(bs)); len(got) != 1 || got[0] != (kv.Span{Blocks: 4, Tiers: kv.Tiers(kv.Disk)}) {
			t.Fatalf("prompt %d is at %v", id, got)
		}
		if got := onboard(t, m, bs); got.Blocks[kv.Disk] != 4 {
			t.Fatalf("prompt %d: %+v", id, got)
		}
	}
	mi.agree(t, m, all)
}

// One worker's blocks are another worker's cache, though it never heard of
// them.
func TestWorkersShareRedis(t *testing.T) {
	srv := redistest.Start(t)
	c := testConfig()
	c.GPUBlocks = 4
	c.Redis.URL = srv.URL()
	a, b := open(t, c), open(t, c)
	if a.SharedStore() == "" || a.SharedStore() != b.SharedStore() {
		t.Fatalf("stores %q and %q", a.SharedStore(), b.SharedStore())
	}
	bs := prompt(1, 4)
	compute(t, a, bs)
	settle(t, a)
	mi := watch(t, b)
	if got := onboard(t, b, bs); got.Blocks[kv.Redis] != 4 {
		t.Fatalf("%+v", got)
	}
	settle(t, b)
	mi.agree(t, b, bs)
}

// Redis goes away: offloads and loads go on as drops and misses, and when it is
// back, empty, the tier works again by itself and says what it lost.
func TestRedisDiesAndComesBack(t *testing.T) {
	srv := redistest.Start(t)
	c := testConfig()
	c.GPUBlocks = 4
	c.Redis.URL = srv.URL()
	m := open(t, c)
	mi := watch(t, m)
	bs := prompt(1, 4)
	compute(t, m, bs)
	settle(t, m)
	srv.Kill()
	for id := 2; linkStats(t, m, kv.CPU, kv.Redis).Up; id++ {
		if _, ok := compute(t, m, prompt(id, 4)); !ok {
			t.Fatal("the engine had to wait for Redis")
		}
		settle(t, m)
	}
	for id := range maxStaging / 4 { // until nothing of it is left in the staging pool
		compute(t, m, prompt(1000+id, 4))
		settle(t, m)
	}
	if got := onboard(t, m, bs); got.Missed != 4 {
		t.Fatalf("from a dead Redis: %+v", got)
	}
	srv.Run()
	trial.Await(t, "Redis is used again", func() bool {
		compute(t, m, prompt(int(time.Now().UnixNano()), 4))
		settle(t, m)
		return linkStats(t, m, kv.CPU, kv.Redis).Up
	})
	if got := onboard(t, m, bs); got.Missed != 4 {
		t.Fatalf("from an empty Redis: %+v", got)
	}
	trial.Await(t, "nothing is said to be there any more", func() bool { return m.Lookup(hashes(bs)) == nil })
	settle(t, m)
	mi.agree(t, m, bs)
	compute(t, m, bs)
	settle(t, m)
	mi.agree(t, m, bs)
	if got := m.Lookup(hashes(bs)); len(got) != 1 || !got[0].Tiers.Has(kv.Redis) {
		t.Fatalf("after writing it again it is at %v", got)
	}
}

func TestADamagedSlabIsAMissAndCounted(t *testing.T) {
	c := testConfig()
	c.GPUBlocks = 4
	c.Disk = DiskConfig{Paths: []string{t.TempDir()}, Bytes: 4096 + 50*testStride}
	m := open(t, c)
	bs := prompt(1, 4)
	compute(t, m, bs)
	settle(t, m)
	compute(t, m, prompt(2, 4))
	settle(t, m)
	slot, _ := m.disk.table.Find(bs[2].Hash)
	f, err := os.OpenFile(filepath.Join(c.Disk.Paths[0], "slab"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte("damage"), 4096+int64(slot)*testStride+100); err != nil {
		t.Fatal(err)
	}
	if err := f.Sync(); err != nil {
		t.Fatal(err)
	}
	mi := watch(t, m)
	if got := onboard(t, m, bs); got.Blocks[kv.Disk] != 2 || got.Missed != 2 {
		t.Fatalf("%+v, want the two blocks before the damaged one", got)
	}
	settle(t, m)
	if s := m.Stats().Tiers[kv.Disk]; s.Corrupt != 1 {
		t.Fatalf("%d corrupt blocks counted", s.Corrupt)
	}
	if got := m.tiersOf(bs[2].Hash); got.Has(kv.Disk) {
		t.Fatal("the damaged block is still said to be on disk")
	}
	mi.agree(t, m, bs)
}

// brokenDisk fails every write while it is broken.
type brokenDisk struct {
	diskStore
	broken atomic.Bool
}

func (d *brokenDisk) Write(s policy.Slot, b kv.Block, data []byte) error {
	if d.broken.Load() {
		return unix.ENOSPC
	}
	return d.diskStore.Write(s, b, data)
}

// A disk that fills up is left alone for a while, loudly, and rejoins by
// itself; what it holds stays available in between once it is tried again.
func TestAFullDiskIsLeftAloneAndRejoins(t *testing.T) {
	var log strings.Builder
	clock := newClock()
	c := testConfig()
	c.GPUBlocks, c.Now = 4, clock.now
	c.Log = slog.New(slog.NewTextHandler(&log, nil))
	c.Disk = DiskConfig{Paths: []string{t.TempDir()}, Bytes: 4096 + 50*testStride}
	m := open(t, c)
	d := &brokenDisk{}
	wrapDisk(m, func(s diskStore) diskStore { d.diskStore = s; return d })
	kept := prompt(1, 4)
	compute(t, m, kept)
	settle(t, m)
	d.broken.Store(true)
	for id := range 3 {
		compute(t, m, prompt(10+id, 4))
		settle(t, m)
	}
	l := linkStats(t, m, kv.CPU, kv.Disk)
	if l.Up || l.Errors < 3 || l.Dropped == 0 || l.Errors+l.Dropped != 12 {
		t.Fatalf("%+v", l)
	}
	d.broken.Store(false)
	clock.advance(2 * time.Second)
	compute(t, m, prompt(20, 4))
	settle(t, m)
	if l := linkStats(t, m, kv.CPU, kv.Disk); !l.Up {
		t.Fatalf("%+v", l)
	}
	if got := onboard(t, m, kept); got.Blocks[kv.Disk] != 4 {
		t.Fatalf("%+v", got)
	}
	settle(t, m)
	m.mu.Lock()
	defer m.mu.Unlock()
	if text := log.String(); !strings.Contains(text, "left alone") || !strings.Contains(text, "works again") {
		t.Fatalf("log:\n%s", text)
	}
}

// What Redis lets go by its time to live is not said to be there any more.
func TestBeliefInRedisEndsWithTheTimeToLive(t *testing.T) {
	srv := redistest.Start(t)
	clock := newClock()
	c := testConfig()
	c.GPUBlocks, c.Now = 4, clock.now
	c.Redis = RedisConfig{URL: srv.URL(), TTL: time.Hour}
	m := open(t, c)
	mi := watch(t, m)
	bs := prompt(1, 4)
	compute(t, m, bs)
	settle(t, m)
	clock.advance(59 * time.Minute)
	compute(t, m, prompt(2, 4))
	settle(t, m)
	if got := onboard(t, m, bs); got.Blocks[kv.Redis] != 4 {
		t.Fatalf("%+v", got)
	}
	settle(t, m)
	clock.advance(30 * time.Minute) // reading has renewed it
	m.mu.Lock()
	m.expire(m.now())
	known := m.redis.known.Len()
	m.mu.Unlock()
	if known != 8 {
		t.Fatalf("%d blocks are believed to be in Redis, want 8", known)
	}
	clock.advance(31 * time.Minute)
	trial.Await(t, "the janitor has noticed", func() bool { return m.Stats().Tiers[kv.Redis].Committed == 0 })
	mi.agree(t, m, bs)
}

// Everything that is not wanted is refused with what to do about it.
func TestBadConfig(t *testing.T) {
	const secret = "s3cret"
	f := func(want string, change func(*Config)) {
		t.Helper()
		c := testConfig()
		change(&c)
		m, err := Open(t.Context(), c)
		if err == nil {
			m.Close(t.Context())
			t.Errorf("no error, want one about %q", want)
		} else if !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), secret) {
			t.Errorf("%q, want one about %q", err, want)
		}
	}
	f("BlockBytes", func(c *Config) { c.Layout.BlockBytes = 0 })
	f("GPUBlocks", func(c *Config) { c.GPUBlocks = -1 })
	f("give it at least 16384", func(c *Config) { c.CPUBytes = 10000 })
	f("must not be negative", func(c *Config) { c.CPUBytes = -1 })
	f("use lru", func(c *Config) { c.Policy = "mru" })
	f("give it at least 12288", func(c *Config) { c.Disk = DiskConfig{Paths: []string{t.TempDir()}, Bytes: 9000} })
	f("a folder that this user may write to", func(c *Config) { c.Disk = DiskConfig{Paths: []string{"/proc/no/such"}, Bytes: 1 << 20} })
	f("use redis://", func(c *Config) { c.Redis.URL = "http://:" + secret + "@host" })
	f("TTL", func(c *Config) { c.Redis = RedisConfig{URL: "redis://h", TTL: -1} })
}

func TestThePasswordIsNotLogged(t *testing.T) {
	const secret = "s3cret-w0rd"
	var log strings.Builder
	c := testConfig()
	c.GPUBlocks = 8
	c.Redis.URL = "redis://:" + secret + "@127.0.0.1:1"
	c.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))
	m, err := Open(t.Context(), c)
	if err != nil {
		t.Fatalf("a Redis that is down is an error: %v", err)
	}
	for id := 0; linkStats(t, m, kv.CPU, kv.Redis).Up; id++ {
		compute(t, m, prompt(id, 8))
		settle(t, m)
	}
	name := m.SharedStore()
	if err := m.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
	if log.Len() == 0 || strings.Contains(log.String()+name, secret) {
		t.Fatalf("log:\n%s\nstore: %s", log.String(), name)
	}
}
