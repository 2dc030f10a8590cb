package kvbm

import (
	"context"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

// lending opens a manager that lends what is in its cpu tier.
func lending(t *testing.T, change func(*Config)) *Manager {
	t.Helper()
	c := testConfig()
	c.GPUBlocks, c.CPUBytes = 16, 40*testStride
	c.Peer = PeerConfig{Listen: "127.0.0.1:0", Secret: "fleet"}
	if change != nil {
		change(&c)
	}
	return open(t, c)
}

// pulled onboards blocks that the given peers are said to have.
func pulled(t *testing.T, m *Manager, bs []kv.Block, peers ...string) OnboardResult {
	t.Helper()
	r := OnboardRequest{Blocks: bs}
	for _, p := range peers {
		r.Peers = append(r.Peers, PeerSource{p, 0, len(bs)})
	}
	o := m.Onboard(t.Context(), r)
	defer o.Release()
	res := o.Result()
	verifyOnboarded(t, m, o, bs, res)
	return res
}

func TestBlocksArePulledFromAPeer(t *testing.T) {
	a, b := lending(t, nil), lending(t, nil)
	mi := watch(t, b)
	bs := prompt(1, 9)
	compute(t, a, bs)
	settle(t, a)
	if r := onboard(t, b, bs); r.Missed != 9 {
		t.Fatalf("nobody named a peer, yet %+v", r)
	}
	r := pulled(t, b, bs, a.PeerAddress())
	if r.Blocks[kv.Peer] != 9 || r.Bytes != 9*testBlock {
		t.Fatalf("%+v", r)
	}
	settle(t, b)
	mi.agree(t, b, bs)
	trial.Await(t, "the call's end", func() bool { return linkStats(t, b, kv.Peer, kv.CPU).BytesPerSecond > 0 })
	if l := linkStats(t, b, kv.Peer, kv.CPU); l.Blocks != 9 || !l.Up {
		t.Fatalf("%+v", l)
	}
	if s := b.Stats(); s.Tiers[kv.Peer].Hits != 9 || s.Peer.Remotes[0].Blocks != 9 {
		t.Fatalf("%+v %+v", s.Tiers[kv.Peer], s.Peer)
	}
	if s := a.Stats(); s.Peer.Lent.Blocks != 9 || s.Tiers[kv.CPU].Leased != 0 {
		t.Fatalf("%+v", s.Peer)
	}
	// They are in b's own cpu now.
	if r := onboard(t, b, bs); r.Missed != 0 {
		t.Fatalf("%+v", r)
	}
}

// An agent without an engine's pool: blocks are pulled into cpu.
func TestBlocksArePulledIntoCPU(t *testing.T) {
	a, b := lending(t, nil), lending(t, func(c *Config) { c.GPUBlocks = 0 })
	bs := prompt(1, 9)
	compute(t, a, bs)
	settle(t, a)
	if r := pulled(t, b, bs, a.PeerAddress()); r.Blocks[kv.Peer] != 9 {
		t.Fatalf("%+v", r)
	}
}

// What a peer lost meanwhile is looked for at the next one, then in the own
// tiers below.
func TestTheNextPlaceIsTriedAfterAPeer(t *testing.T) {
	a, b := lending(t, nil), lending(t, nil)
	c := lending(t, func(c *Config) {
		c.CPUBytes = 4 * testStride
		c.Disk = DiskConfig{Paths: []string{t.TempDir()}, Bytes: 4096 + 60*testStride}
	})
	bs := prompt(1, 6)
	compute(t, b, bs)
	settle(t, b)
	if r := pulled(t, c, bs, "127.0.0.1:1", a.PeerAddress(), b.PeerAddress()); r.Blocks[kv.Peer] != 6 {
		t.Fatalf("%+v", r)
	}
	settle(t, c)
	for id := range 6 {
		compute(t, c, prompt(10+id, 4))
		settle(t, c)
	}
	if r := pulled(t, c, bs, a.PeerAddress()); r.Blocks[kv.Disk] == 0 || r.Blocks[kv.Peer] != 0 {
		t.Fatalf("%+v", r)
	}
	if s := c.Stats(); s.Tiers[kv.Peer].Misses == 0 {
		t.Fatalf("%+v", s.Tiers[kv.Peer])
	}
}

// bent is a way to a peer on which bytes stall, break off or change.
type bent struct {
	address string
	mode    atomic.Int32
	after   atomic.Int64 // bytes from the peer that pass first, on each connection
}

const (
	straight = iota
	stalls
	hangsUp
	damages
)

func bend(t *testing.T, to string) *bent {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	x := &bent{address: l.Addr().String()}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	t.Cleanup(func() { cancel(); l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s, err := net.Dial("tcp", to)
			if err != nil {
				c.Close()
				continue
			}
			shut := func() { c.Close(); s.Close() }
			stop := context.AfterFunc(ctx, shut)
			wg.Go(func() { defer shut(); _, _ = io.Copy(s, c) })
			wg.Go(func() { defer stop(); defer shut(); x.pass(ctx, c, s) })
		}
	})
	return x
}

func (x *bent) pass(ctx context.Context, to, from net.Conn) {
	b := make([]byte, 1000)
	for passed := int64(0); ; {
		n, err := from.Read(b)
		if err != nil {
			return
		}
		if passed += int64(n); passed > x.after.Load() {
			switch x.mode.Load() {
			case stalls:
				<-ctx.Done()
				return
			case hangsUp:
				return
			case damages:
				b[rand.IntN(n)] ^= 1 << rand.IntN(8)
			}
		}
		if _, err := to.Write(b[:n]); err != nil {
			return
		}
	}
}

// A peer that lies or stalls: its blocks are misses, counted; traffic goes on; it
// is left alone after a few; and when it is honest again it is pulled from again.
func TestAPeerThatFailsIsLeftAloneAndJoinsAgain(t *testing.T) {
	for name, mode := range map[string]int32{"stalls": stalls, "hangs up": hangsUp, "damages": damages} {
		t.Run(name, func(t *testing.T) {
			clock := newClock()
			a, b := lending(t, nil), lending(t, func(c *Config) { c.Now = clock.now })
			if mode == stalls {
				b.peers.options.Stall = 500 * time.Millisecond // honest peers may be slow, too
			}
			bs := prompt(1, 4)
			compute(t, a, bs)
			settle(t, a)
			way := bend(t, a.PeerAddress())
			way.after.Store(3000) // in the middle of the first block
			way.mode.Store(mode)
			for range 3 {
				if r := pulled(t, b, bs, way.address); r.Missed != 4 {
					t.Fatalf("%+v", r)
				}
				settle(t, b)
			}
			l, p := linkStats(t, b, kv.Peer, kv.CPU), b.Stats().Peer.Remotes[0]
			if l.Errors < 3 || l.Up || p.Up || p.Alarms != 1 {
				t.Fatalf("%+v %+v", l, p)
			}
			if r := pulled(t, b, bs, way.address, a.PeerAddress()); r.Blocks[kv.Peer] != 4 {
				t.Fatalf("from another peer: %+v", r)
			}
			other := prompt(2, 4)
			compute(t, a, other)
			settle(t, a)
			way.mode.Store(straight)
			clock.advance(time.Minute)
			trial.Await(t, "the peer is pulled from again", func() bool {
				return pulled(t, b, other, way.address).Blocks[kv.Peer] > 0
			})
			settle(t, b)
			if p := b.Stats().Peer.Remotes; !p[0].Up || !p[1].Up {
				t.Fatalf("%+v", p)
			}
		})
	}
}

// The engine's request and the router's call arrive in either order; what the
// router knows of peers is used in both.
func TestTheEngineWaitsForTheRoutersPeers(t *testing.T) {
	a, b := lending(t, nil), lending(t, nil)
	bs := prompt(1, 4)
	compute(t, a, bs)
	settle(t, a)
	engine := OnboardRequest{ID: "1", Blocks: bs, AwaitPlan: true}
	router := OnboardRequest{ID: "1", Blocks: bs, Peers: []PeerSource{{a.PeerAddress(), 0, 4}}}
	for i, calls := range [][]OnboardRequest{{engine, router}, {router, engine}} {
		id := string(rune('1' + i))
		calls[0].ID, calls[1].ID = id, id
		o := b.Onboard(t.Context(), calls[0])
		if b.Onboard(t.Context(), calls[1]) != o {
			t.Fatal("one id made two onboardings")
		}
		if r := o.Result(); r.Missed != 0 {
			t.Fatalf("%+v", r)
		}
		o.Release()
	}
	late := OnboardRequest{ID: "3", Blocks: prompt(5, 2), AwaitPlan: true}
	if r := b.Onboard(t.Context(), late).Result(); r.Missed != 2 {
		t.Fatalf("nobody came: %+v", r)
	}
	early := b.Onboard(t.Context(), OnboardRequest{ID: "4", Blocks: prompt(6, 2), AwaitPlan: true})
	b.Settle("4")
	if r := early.Result(); r.Missed != 2 {
		t.Fatalf("%+v", r)
	}
}

// Three workers that pull from each other over ways that fail, with pools so
// small that blocks go while they are wanted. Every byte that is served is the
// one that was stored.
func TestRandomPeers(t *testing.T) {
	r := trial.Rand(t)
	var ms []*Manager
	var ways []*bent
	for range 3 {
		m := lending(t, func(c *Config) { c.GPUBlocks, c.CPUBytes = 10, int64(6+r.IntN(12))*testStride })
		m.peers.options.Stall = 20 * time.Millisecond
		ms = append(ms, m)
		ways = append(ways, bend(t, m.PeerAddress()))
	}
	var wg sync.WaitGroup
	for i, m := range ms {
		for range 2 {
			r := rand.New(rand.NewPCG(r.Uint64(), 1))
			wg.Go(func() {
				for range 150 {
					bs := prompt(r.IntN(6), 1+r.IntN(9))
					if r.IntN(3) == 0 {
						compute(t, m, bs)
						continue
					}
					req := OnboardRequest{Blocks: bs, Peers: []PeerSource{
						{ways[(i+1)%3].address, 0, len(bs)}, {ways[(i+2)%3].address, r.IntN(2), len(bs)},
					}}
					ctx, cancel := context.WithCancel(t.Context())
					o := m.Onboard(ctx, req)
					if r.IntN(4) == 0 {
						time.AfterFunc(time.Duration(r.IntN(int(time.Millisecond))), cancel)
					}
					verifyOnboarded(t, m, o, bs, o.Result())
					o.Release()
					cancel()
					check(t, m)
				}
			})
		}
	}
	over := make(chan struct{})
	go func() { wg.Wait(); close(over) }()
	for done := false; !done; {
		way := ways[r.IntN(3)]
		way.after.Store(r.Int64N(40000))
		way.mode.Store(r.Int32N(8) % 4)
		for _, m := range ms {
			m.mu.Lock()
			for _, p := range m.peers.remotes {
				p.Wait, p.MaxWait = time.Millisecond, 5*time.Millisecond
			}
			m.mu.Unlock()
		}
		select {
		case <-over:
			done = true
		case <-time.After(2 * time.Millisecond):
		}
	}
	var pulls, errs uint64
	for _, m := range ms {
		settle(t, m)
		l := linkStats(t, m, kv.Peer, kv.CPU)
		pulls, errs = pulls+l.Blocks, errs+l.Errors
		trial.Await(t, "nothing is lent or leased", func() bool {
			s := m.Stats().Tiers
			return s[kv.CPU].Leased+s[kv.CPU].Filling+s[kv.GPU].Leased+s[kv.GPU].Filling == 0
		})
	}
	t.Logf("%d blocks were pulled, %d failed", pulls, errs)
	if pulls == 0 || errs == 0 {
		t.Fatal("the run proves nothing")
	}
}
