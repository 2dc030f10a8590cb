package workers_test

import (
	"context"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// commit puts blocks into the manager's gpu pool, as the embedded engine does.
func commit(t *testing.T, m *kvbm.Manager, hashes []kv.Hash) {
	t.Helper()
	for _, b := range kv.Blocks(nil, root, hashes) {
		f, err := m.GPU().Reserve(1)
		if err != nil {
			t.Fatal(err)
		}
		copy(f[0].Bytes(), b.Hash[:])
		l, ok := f[0].Commit(b)
		if !ok {
			f[0].Abort()
			continue
		}
		l.Release()
	}
}

// The way of the embedded engine: gpu events by ZeroMQ, the rest by the manager.
func TestAnAgentMergesEngineAndManager(t *testing.T) {
	e, m, x := startEngine(t), manager(t), newIndex(t)
	a := startAgent(t, e, m, socket(t))
	f, s := startFleet(t, x, nil)
	s <- []workers.Info{{ID: "w0", URL: e.url(), Agent: a.Target()}}
	w := ready(t, f, "w0")
	if i := w.Info(); i.Model != "tiny" || i.BlockSize != blockSize || i.Engine != "embedded" {
		t.Errorf("described as %+v", i)
	}
	chain := e.prompt(1, 2, 3, 4, 5, 6)
	commit(t, m, chain)
	trial.Await(t, "the gpu's blocks by ZeroMQ and the cpu's by the manager", func() bool {
		b := x.of("w0")
		return len(b[kv.GPU]) == 3 && len(b[kv.CPU]) == 3 && b[kv.CPU][chain[2]] == chain[1] && b[kv.CPU][chain[0]] == root
	})
	// What the manager says of the gpu does not count: the engine publishes.
	other := kv.Chain(nil, root, []uint32{7, 7}, blockSize)
	commit(t, m, other)
	trial.Await(t, "the offload", func() bool { return x.count("w0", kv.CPU) == 4 })
	if n := x.count("w0", kv.GPU); n != 3 {
		t.Errorf("the gpu holds %d blocks, want the 3 that the engine told of", n)
	}
	trial.Await(t, "stats of engine and manager", func() bool {
		st := w.Stats()
		return st.Running == 3 && st.Tiers[kv.CPU].Committed == 4 && st.Tiers[kv.CPU].Capacity == 64 && st.BlockBytes == 4096 && st.Links[kv.CPU].Up
	})
}

func TestOnboardThroughTheAgent(t *testing.T) {
	e, m, x := startEngine(t), manager(t), newIndex(t)
	a := startAgent(t, e, m, socket(t))
	f, s := startFleet(t, x, nil)
	s <- []workers.Info{{ID: "w0", URL: e.url(), Agent: a.Target()}}
	w := ready(t, f, "w0")
	chain := kv.Chain(nil, root, []uint32{1, 1, 2, 2, 3, 3, 4, 4}, blockSize)
	commit(t, m, chain)
	trial.Await(t, "the offload", func() bool { return x.count("w0", kv.CPU) == 4 })
	var others []uint32
	for i := range uint32(8) {
		others = append(others, 100+i, 100+i)
	}
	commit(t, m, kv.Chain(nil, root, others, blockSize)) // pushes the first chain out of the gpu
	trial.Await(t, "the eviction", func() bool { return m.Lookup(chain)[0].Tiers == kv.Tiers(kv.CPU) })

	r, err := w.Onboard(t.Context(), "r1", root, append(chain, kv.Hash{1}), nil, time.Now().Add(10*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	if r.Blocks[kv.CPU] != 4 || r.Missed != 1 || r.Bytes != 4*4096 || r.Elapsed <= 0 || r.LinkElapsed[kv.CPU] <= 0 {
		t.Errorf("onboarded %+v", r)
	}
	if n := m.Stats().Tiers[kv.GPU].Leased; n != 4 {
		t.Errorf("%d blocks are held for the engine", n)
	}
	if l := m.GPU().Acquire(chain); len(l) != 4 || string(l[3].Bytes()[:16]) != string(chain[3][:]) {
		t.Errorf("%d blocks in the gpu", len(l))
	} else {
		for _, l := range l {
			l.Release()
		}
	}
	m.Settle("r1")
	if n := m.Stats().Tiers[kv.GPU].Leased; n != 0 {
		t.Errorf("%d blocks are held after the request", n)
	}
	if _, err := w.Onboard(t.Context(), "r2", root, chain, nil, time.Now().Add(-time.Second)); err == nil {
		t.Error("a deadline in the past was met")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Onboard(ctx, "r3", root, chain, nil, time.Time{}); err == nil {
		t.Error("a cancelled call came through")
	}
}

func TestAnAgentDies(t *testing.T) {
	e, m, x := startEngine(t), manager(t), newIndex(t)
	path := socket(t)
	a := startAgent(t, e, m, path)
	f, s := startFleet(t, x, func(c *workers.FleetConfig) { c.StaleAfter = 300 * time.Millisecond })
	s <- []workers.Info{{ID: "w0", URL: e.url(), Agent: a.Target()}}
	w := ready(t, f, "w0")
	commit(t, m, e.prompt(1, 2, 3, 4))
	trial.Await(t, "the blocks", func() bool { return x.count("w0", kv.GPU) == 2 && x.count("w0", kv.CPU) == 2 })

	a.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("a closed agent leaves its socket behind")
	}
	trial.Await(t, "the break", func() bool { return !w.EventsConnected() })
	if x.count("w0", kv.GPU) != 2 || !w.Ready() {
		t.Error("a short absence of the agent was felt")
	}
	trial.Await(t, "old news to be forgotten", func() bool { return x.count("w0", kv.GPU) == 0 && x.count("w0", kv.CPU) == 0 })
	if !w.Ready() {
		t.Error("the engine serves, but its worker is out of service for want of an agent")
	}
	// While it was away the engine went on.
	e.prompt(1, 2, 7, 8)
	b := startAgent(t, e, m, path)
	trial.Await(t, "the new agent", func() bool {
		return w.EventsConnected() && x.of("w0")[kv.GPU] != nil && len(x.of("w0")[kv.GPU]) == 3 && x.count("w0", kv.CPU) == 2
	})
	// One that is gone for a moment only.
	b.Close()
	e.prompt(9, 9)
	startAgent(t, e, m, path)
	trial.Await(t, "the third agent", func() bool { return w.EventsConnected() && x.count("w0", kv.GPU) == 4 })
}

// Law 3, end to end: whatever dies and comes back, in the end the index holds
// what the engine and the manager hold.
func TestTheIndexAgreesWithTheWorker(t *testing.T) {
	r := trial.Rand(t)
	e, m, x := startEngine(t), manager(t), newIndex(t)
	path := socket(t)
	a := startAgent(t, e, m, path)
	f, s := startFleet(t, x, nil)
	s <- []workers.Info{{ID: "w0", URL: e.url(), Agent: a.Target()}}
	ready(t, f, "w0")
	for range 12 {
		for range 20 {
			tokens := make([]uint32, blockSize*(1+r.IntN(5)))
			for i := range tokens {
				tokens[i] = uint32(r.IntN(3))
			}
			switch r.IntN(4) {
			case 0:
				e.evict(r, 0.3)
			case 1:
				commit(t, m, kv.Chain(nil, root, tokens, blockSize))
			default:
				e.prompt(tokens...)
			}
		}
		switch r.IntN(4) {
		case 0:
			a.Close()
			a = startAgent(t, e, m, path)
		case 1: // the engine and with it the agent, as in one process
			e.kill()
			a.Close()
			e.restart()
			a = startAgent(t, e, m, path)
		}
		trial.Await(t, "the index to agree", func() bool {
			got, want := x.of("w0"), e.holds()
			want[kv.CPU] = map[kv.Hash]kv.Hash{}
			managed, stop := m.Watch(func([]kv.Event) {})
			stop()
			for _, ev := range managed {
				if ev.Tier == kv.CPU {
					want.apply(ev)
				}
			}
			return got != nil && sameMaps(got, want)
		})
	}
}

// sameMaps compares tiers, an absent one being empty.
func sameMaps(a, b *blocks) bool {
	for t := range a {
		if len(a[t]) != len(b[t]) {
			return false
		}
		for h, p := range a[t] {
			if q, ok := b[t][h]; !ok || p != q {
				return false
			}
		}
	}
	return true
}

// scriptedAgent says what a test wants.
type scriptedAgent struct {
	agentpb.UnimplementedAgentServer
	store string
	peer  atomic.Pointer[string]
	watch func(*agentpb.WatchBlocksRequest, grpc.ServerStreamingServer[agentpb.WatchBlocksResponse]) error
}

func (s *scriptedAgent) Describe(context.Context, *agentpb.DescribeRequest) (*agentpb.DescribeResponse, error) {
	d := &agentpb.DescribeResponse{Model: "tiny", BlockSize: blockSize, SharedStore: s.store}
	if p := s.peer.Load(); p != nil {
		d.Peer = *p
	}
	return d, nil
}

func (s *scriptedAgent) WatchBlocks(req *agentpb.WatchBlocksRequest, stream grpc.ServerStreamingServer[agentpb.WatchBlocksResponse]) error {
	return s.watch(req, stream)
}

func (s *scriptedAgent) start(t *testing.T) (target string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	agentpb.RegisterAgentServer(server, s)
	go server.Serve(l)
	t.Cleanup(server.Stop)
	return l.Addr().String()
}

func stored(tier kv.Tier, hashes ...kv.Hash) []*agentpb.BlockEvent {
	return []*agentpb.BlockEvent{agentpb.FromEvent(kv.Event{Kind: kv.Stored, Tier: tier, Parent: root, Hashes: hashes})}
}

func TestAStreamWithAHoleIsTakenAnew(t *testing.T) {
	const part, end, delta = agentpb.WatchBlocksResponse_PART_SNAPSHOT, agentpb.WatchBlocksResponse_PART_SNAPSHOT_END, agentpb.WatchBlocksResponse_PART_DELTA
	requests := make(chan *agentpb.WatchBlocksRequest, 100)
	calls := 0
	script := &scriptedAgent{watch: func(req *agentpb.WatchBlocksRequest, stream grpc.ServerStreamingServer[agentpb.WatchBlocksResponse]) error {
		requests <- req
		calls++
		send := func(p agentpb.WatchBlocksResponse_Part, first, last uint64, e []*agentpb.BlockEvent) {
			stream.Send(&agentpb.WatchBlocksResponse{Epoch: 7, Part: p, FirstSeq: first, LastSeq: last, Events: e})
		}
		switch calls {
		case 1: // a snapshot in two parts, deltas, a clean end
			send(part, 0, 0, stored(kv.GPU, kv.Hash{1}))
			send(end, 0, 10, stored(kv.CPU, kv.Hash{2}))
			send(delta, 11, 13, stored(kv.GPU, kv.Hash{3}))
			return nil
		case 2: // goes on, then number 15 is missing
			send(delta, 14, 14, stored(kv.GPU, kv.Hash{4}))
			send(delta, 16, 16, stored(kv.GPU, kv.Hash{5}))
		case 3: // nonsense
			send(end, 0, 20, stored(kv.NumMarks, kv.Hash{6}))
		default:
			send(end, 0, 30, stored(kv.GPU, kv.Hash{7}))
		}
		<-stream.Context().Done()
		return nil
	}}
	e, x := startEngine(t), newIndex(t)
	f, s := startFleet(t, x, nil)
	s <- []workers.Info{{ID: "w0", URL: e.url(), Agent: script.start(t)}}
	ready(t, f, "w0")
	for i, want := range [][2]uint64{{0, 0}, {7, 13}, {0, 0}, {0, 0}} {
		select {
		case got := <-requests:
			if got.GetEpoch() != want[0] || got.GetAfterSeq() != want[1] {
				t.Errorf("watch %d asked for %v", i, got)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("watch %d never came", i)
		}
	}
	trial.Await(t, "the last snapshot alone", func() bool {
		b := x.of("w0")
		_, seven := b[kv.GPU][kv.Hash{7}]
		return seven && len(b[kv.GPU]) == 1 && len(b[kv.CPU]) == 0
	})
}

// An agent may be restarted with other settings.
func TestWhereAnAgentLendsIsLearnedAnew(t *testing.T) {
	again := make(chan struct{})
	script := &scriptedAgent{watch: func(_ *agentpb.WatchBlocksRequest, stream grpc.ServerStreamingServer[agentpb.WatchBlocksResponse]) error {
		stream.Send(&agentpb.WatchBlocksResponse{Epoch: 7, Part: agentpb.WatchBlocksResponse_PART_SNAPSHOT_END})
		select {
		case <-again:
		case <-stream.Context().Done():
		}
		return nil
	}}
	e, x := startEngine(t), newIndex(t)
	f, s := startFleet(t, x, nil)
	address := "10.0.0.5:7001"
	script.peer.Store(&address)
	s <- []workers.Info{{ID: "w0", URL: e.url(), Agent: script.start(t)}}
	w := ready(t, f, "w0")
	trial.Await(t, "it lends", func() bool { return w.Info().Peer == address })
	script.peer.Store(nil)
	again <- struct{}{}
	trial.Await(t, "it lends no more", func() bool { return w.Info().Peer == "" })
}

// Blocks in a store that several workers share outlive the worker that told.
func TestSharedBlocksOutliveTheirWorker(t *testing.T) {
	script := func(hash kv.Hash) *scriptedAgent {
		return &scriptedAgent{store: "redis#1", watch: func(_ *agentpb.WatchBlocksRequest, stream grpc.ServerStreamingServer[agentpb.WatchBlocksResponse]) error {
			stream.Send(&agentpb.WatchBlocksResponse{Epoch: 7, Part: agentpb.WatchBlocksResponse_PART_SNAPSHOT_END, LastSeq: 1,
				Events: append(stored(kv.Redis, hash), stored(kv.GPU, hash)...)})
			<-stream.Context().Done()
			return nil
		}}
	}
	e0, e1, x := startEngine(t), startEngine(t), newIndex(t)
	f, s := startFleet(t, x, nil)
	w0 := workers.Info{ID: "w0", URL: e0.url(), Agent: script(kv.Hash{1}).start(t)}
	w1 := workers.Info{ID: "w1", URL: e1.url(), Agent: script(kv.Hash{2}).start(t)}
	s <- []workers.Info{w0, w1}
	ready(t, f, "w1")
	trial.Await(t, "both workers' shared blocks", func() bool { return x.count("w1", kv.Redis) == 2 && x.count("w0", kv.GPU) == 1 })
	e0.kill()
	s <- []workers.Info{w1}
	trial.Await(t, "the first worker to leave", func() bool { return f.Worker("w0") == nil })
	if n := x.count("w1", kv.Redis); n != 2 {
		t.Errorf("%d shared blocks are left, want 2", n)
	}
}
