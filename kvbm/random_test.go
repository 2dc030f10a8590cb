package kvbm

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore/redistest"
)

// faults makes the calls to a manager's stores fail, at a rate in percent.
type faults struct{ rate atomic.Int32 }

var errInjected = errors.New("injected fault")

func (f *faults) err() error {
	if rand.IntN(100) < int(f.rate.Load()) {
		return errInjected
	}
	return nil
}

type faultyDisk struct {
	diskStore
	*faults
}

func (d faultyDisk) Write(s policy.Slot, b kv.Block, data []byte) error {
	if err := d.err(); err != nil {
		return err
	}
	return d.diskStore.Write(s, b, data)
}

func (d faultyDisk) Read(s policy.Slot, dst []byte) error {
	if err := d.err(); err != nil {
		clear(dst) // a failing read may leave anything
		return err
	}
	return d.diskStore.Read(s, dst)
}

func (d faultyDisk) Tombstone(s policy.Slot) error {
	return errors.Join(d.diskStore.Tombstone(s), d.err())
}

type faultyShared struct {
	sharedStore
	*faults
}

func (s faultyShared) Put(ctx context.Context, b kv.Block, src []byte) (bool, error) {
	there, err := s.sharedStore.Put(ctx, b, src)
	return there, errors.Join(err, s.err())
}

func (s faultyShared) Get(ctx context.Context, h kv.Hash, dst []byte) (kv.Block, error) {
	if err := s.err(); err != nil {
		clear(dst)
		return kv.Block{}, err
	}
	return s.sharedStore.Get(ctx, h, dst)
}

// run is one random life of a manager with all tiers on.
type run struct {
	t        *testing.T
	r        *rand.Rand
	m        *Manager
	c        Config
	faults   *faults
	redis    *redistest.Server
	client   *redis.Client
	universe []kv.Block
	mirror   mirror
	reached  reached
}

// Random prompts, onboardings, cancellations, damage, faults and deaths, over
// all tiers, with several engines' worth of goroutines at once. Every byte that is
// served is the byte that was stored; after each operation slots are conserved,
// the books of every link close and the events agree with Lookup. KVASIR_LIVES
// sets the number of lives for each size of cpu tier, and KVASIR_STEPS how much an
// engine does in one.
func TestRandomLives(t *testing.T) {
	srv := redistest.Start(t)
	r, reached := trial.Rand(t), reached{}
	lives, steps := trial.Size(t, "KVASIR_LIVES", 3), trial.Size(t, "KVASIR_STEPS", 400)
	for _, cpu := range []int64{0, 6, 20} {
		x := &run{t: t, r: r, redis: srv, faults: &faults{}, reached: reached}
		x.client = redis.NewClient(&redis.Options{Network: "unix", Addr: srv.URL()[len("unix://"):]})
		for id := range 12 {
			x.universe = append(x.universe, x.prompt(id)...)
		}
		x.c = testConfig()
		x.c.Layout.Model = "lives " + string(rune('a'+cpu))
		x.c.GPUBlocks = 16
		x.c.CPUBytes = cpu * testStride
		x.c.Disk = DiskConfig{Paths: []string{t.TempDir(), t.TempDir()}, Bytes: 4096 + 15*testStride}
		x.c.Redis.URL = srv.URL()
		for life := range lives {
			x.c.Policy = []string{"lru", "arc"}[life%2]
			x.c.Disk.WriteBytesPerDay = int64(life % 3 / 2 * 3e6) // short in one of three
			x.live(steps)
		}
		if err := x.client.Close(); err != nil {
			t.Error(err)
		}
	}
	t.Logf("%+v", reached)
	for what, n := range reached {
		if n == 0 {
			t.Errorf("no life had any %s", what)
		}
	}
}

// reached counts what must have happened for the lives to prove anything.
type reached map[string]uint64

func (r reached) add(s Stats) {
	for _, l := range s.Links {
		if l.To < l.From {
			r["loads from "+l.From.String()] += l.Blocks
			r["cancelled loads"] += l.Cancelled
			r["missed loads"] += l.Missed
		} else {
			r["offloads to "+l.To.String()] += l.Blocks
			r["dropped offloads"] += l.Dropped
			r["declined offloads"] += l.Declined
		}
		if l.From != kv.GPU && l.To != kv.GPU {
			r["errors"] += l.Errors
		}
	}
	for _, tier := range []kv.Tier{kv.Disk, kv.Redis} {
		r["corrupt blocks in "+tier.String()] += s.Tiers[tier].Corrupt
	}
}

// prompt is one of 12 prompts, of which four each share a beginning.
func (x *run) prompt(id int) []kv.Block {
	root := kv.RootSpec{Model: "test", BlockSize: 1}.Hash()
	var tokens []uint32
	for i := range 9 {
		if tokens = append(tokens, uint32(1000*(id%3)+i)); i >= 4 {
			tokens[i] += uint32(100 * id)
		}
	}
	return kv.Blocks(nil, root, kv.Chain(nil, root, tokens, 1))
}

func (x *run) live(steps int) {
	m, err := Open(x.t.Context(), x.c)
	if err != nil {
		x.t.Fatal(err)
	}
	wrapDisk(m, func(s diskStore) diskStore { return faultyDisk{s, x.faults} })
	m.mu.Lock()
	server := m.redis.servers[0]
	server.store = faultyShared{server.store, x.faults}
	for _, h := range []*health{&m.disk.devices[0].sides[reading], &m.disk.devices[0].sides[writing], &server.sides[reading], &server.sides[writing]} {
		h.Wait, h.MaxWait = time.Millisecond, 5*time.Millisecond
	}
	m.mu.Unlock()
	x.m = m
	x.mirror = mirror{}
	snapshot, stop := m.Watch(func(es []kv.Event) { x.mirror.apply(x.t, es) })
	x.mirror.apply(x.t, snapshot)
	var engines sync.WaitGroup
	for range 2 {
		seed := x.r.Uint64()
		engines.Go(func() { x.engine(rand.New(rand.NewPCG(seed, 1)), steps) })
	}
	atWork := make(chan struct{})
	go func() { engines.Wait(); close(atWork) }()
	for over := false; !over; {
		x.step()
		check(x.t, m)
		x.mirror.agree(x.t, m, x.universe)
		select {
		case <-atWork:
			over = true
		default:
		}
		x.reached["operations"]++
	}
	x.reached["operations"] += 2 * uint64(steps)
	x.faults.rate.Store(0)
	settle(x.t, m)
	x.mirror.agree(x.t, m, x.universe)
	for tier, s := range m.Stats().Tiers {
		if s.Leased+s.Filling+s.Evicting != 0 {
			x.t.Fatalf("%s at rest: %+v", kv.Tier(tier), s)
		}
	}
	x.reached.add(m.Stats())
	stop()
	if err := m.Close(context.Background()); err != nil {
		x.t.Fatal(err)
	}
}

// engine computes and restores prompts, as its requests come.
func (x *run) engine(r *rand.Rand, steps int) {
	for range steps {
		check(x.t, x.m)
		bs := x.prompt(r.IntN(12))
		bs = bs[:1+r.IntN(len(bs))]
		if r.IntN(2) == 0 {
			compute(x.t, x.m, bs)
			continue
		}
		ctx, cancel := context.WithCancel(x.t.Context())
		req := OnboardRequest{Blocks: bs, Prefetch: r.IntN(4) == 0}
		if r.IntN(4) == 0 {
			req.Deadline = time.Now().Add(time.Duration(r.IntN(int(3 * time.Millisecond))))
		}
		o := x.m.Onboard(ctx, req)
		if r.IntN(4) == 0 {
			time.AfterFunc(time.Duration(r.IntN(int(time.Millisecond))), cancel)
		}
		if r.IntN(8) == 0 {
			o.Release() // while it runs
			o.Result()
		} else {
			verifyOnboarded(x.t, x.m, o, bs, o.Result())
			o.Release()
		}
		cancel()
	}
}

// step does something to the world around the engines.
func (x *run) step() {
	ctx := x.t.Context()
	switch x.r.IntN(40) {
	case 0:
		x.faults.rate.Store(x.r.Int32N(60))
	case 1, 2:
		x.faults.rate.Store(0)
	case 3:
		x.client.FlushDB(ctx)
	case 4:
		if key := x.client.RandomKey(ctx).Val(); key != "" {
			x.client.SetRange(ctx, key, x.r.Int64N(60), "damage")
		}
	case 5:
		x.damageSlab()
	case 6:
		if x.r.IntN(10) == 0 {
			x.redis.Kill()
			x.redis.Run()
		}
	default:
		time.Sleep(time.Duration(x.r.IntN(int(300 * time.Microsecond))))
	}
}

func (x *run) damageSlab() {
	f, err := os.OpenFile(filepath.Join(x.c.Disk.Paths[0], "slab"), os.O_RDWR, 0)
	if err != nil {
		x.t.Fatal(err)
	}
	defer f.Close()
	at := 4096 + x.r.Int64N(15)*testStride + x.r.Int64N(testBlock-6)
	if _, err := f.WriteAt([]byte("damage"), at); err != nil {
		x.t.Fatal(err)
	}
}
