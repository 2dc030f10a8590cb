package gateway

import (
	"context"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// fakeAgent is an agent without a block manager: it says that it holds what the
// test wants, and records restore plans.
type fakeAgent struct {
	agentpb.UnimplementedAgentServer
	holds []kv.Event
	// restore answers a plan.
	restore func(context.Context, *agentpb.OnboardRequest) (*agentpb.OnboardResponse, error)

	mu    sync.Mutex
	plans []*agentpb.OnboardRequest
}

func (a *fakeAgent) Describe(context.Context, *agentpb.DescribeRequest) (*agentpb.DescribeResponse, error) {
	return &agentpb.DescribeResponse{Id: "w0", Model: "m", Role: "aggregated", BlockSize: blockSize, BlockBytes: 1 << 20}, nil
}

func (a *fakeAgent) WatchBlocks(_ *agentpb.WatchBlocksRequest, s grpc.ServerStreamingServer[agentpb.WatchBlocksResponse]) error {
	m := &agentpb.WatchBlocksResponse{Epoch: 1, Part: agentpb.WatchBlocksResponse_PART_SNAPSHOT_END, LastSeq: 1}
	for _, e := range a.holds {
		m.Events = append(m.Events, agentpb.FromEvent(e))
	}
	if err := s.Send(m); err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

func (a *fakeAgent) WatchStats(_ *agentpb.WatchStatsRequest, s grpc.ServerStreamingServer[agentpb.WatchStatsResponse]) error {
	link := func(from, to agentpb.Tier) *agentpb.LinkStats {
		// Fast enough that what an earlier request planned is no reason to recompute.
		return &agentpb.LinkStats{From: from, To: to, Up: true, BytesPerSecond: 1e10, LatencyUs: 100}
	}
	err := s.Send(&agentpb.WatchStatsResponse{
		BlockBytes: 1 << 20,
		Links:      []*agentpb.LinkStats{link(agentpb.Tier_TIER_CPU, agentpb.Tier_TIER_GPU), link(agentpb.Tier_TIER_DISK, agentpb.Tier_TIER_CPU)},
	})
	if err != nil {
		return err
	}
	<-s.Context().Done()
	return nil
}

func (a *fakeAgent) Onboard(ctx context.Context, r *agentpb.OnboardRequest) (*agentpb.OnboardResponse, error) {
	a.mu.Lock()
	a.plans = append(a.plans, r)
	a.mu.Unlock()
	return a.restore(ctx, r)
}

// withAgent is one worker with an agent that holds part of chatBody's prompt:
// two blocks on the gpu, three in the cpu tier and two on disk.
func withAgent(t *testing.T, a *fakeAgent) *setting {
	root, hashes := blocksOf(rendered)
	a.holds = []kv.Event{
		{Kind: kv.Stored, Tier: kv.GPU, Parent: root, Hashes: hashes[:2]},
		{Kind: kv.Stored, Tier: kv.CPU, Parent: hashes[1], Hashes: hashes[2:5]},
		{Kind: kv.Stored, Tier: kv.Disk, Parent: hashes[4], Hashes: hashes[5:7]},
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	agentpb.RegisterAgentServer(server, a)
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = server.Serve(listener)
	}()
	t.Cleanup(func() {
		server.Stop()
		<-served
	})
	s := &setting{t: t, index: prefixindex.New(prefixindex.Options{}), logs: &lockedBuffer{}}
	e := newStandIn(t, "w0")
	s.engines = append(s.engines, e)
	s.start([]workers.Info{{ID: "w0", URL: e.URL, Model: "m", BlockSize: blockSize, Agent: listener.Addr().String()}}, nil)
	eventually(t, "the agent's blocks indexed and its links known", func() bool {
		return s.index.Stats().Blocks == 7 && s.g.serving("m", nil)[0].Stats().Links[kv.Disk].Up
	})
	return s
}

func TestTheDecisionIsTheRestorePlan(t *testing.T) {
	a := &fakeAgent{restore: func(context.Context, *agentpb.OnboardRequest) (*agentpb.OnboardResponse, error) {
		return &agentpb.OnboardResponse{
			Tiers: []*agentpb.OnboardResponse_FromTier{
				{Tier: agentpb.Tier_TIER_GPU, Blocks: 2}, {Tier: agentpb.Tier_TIER_CPU, Blocks: 3, ElapsedUs: 700}, {Tier: agentpb.Tier_TIER_DISK, Blocks: 1, ElapsedUs: 900},
			},
			Missed: 1, Bytes: 4 << 20, ElapsedUs: 1500,
		}, nil
	}}
	s := withAgent(t, a)
	// Like an engine that waits for its blocks.
	s.engines[0].does(func(http.ResponseWriter, *http.Request, []byte) bool {
		eventually(t, "restored", func() bool {
			r, _ := s.g.records.find("plan")
			return r.Onboard != nil
		})
		return false
	})
	r := s.post("/v1/chat/completions", chatBody, "X-Request-Id", "plan")
	if r.status != 200 || r.header.Get("X-Kvasir-Cached-Tokens") != "28" {
		t.Fatalf("%d %v", r.status, r.header)
	}
	rec := s.record("plan")
	_, hashes := blocksOf(rendered)
	if len(a.plans) != 1 || a.plans[0].RequestId != "plan" || a.plans[0].DeadlineMs == 0 {
		t.Fatalf("plans %v", a.plans)
	}
	asked, err := agentpb.UnpackHashes(nil, a.plans[0].Hashes)
	if err != nil || !slices.Equal(asked, hashes[:7]) {
		t.Errorf("asked for %d blocks, %v", len(asked), err)
	}
	if cut := s.engines[0].received()[0].header.Get("X-Kvasir-Restore-Blocks"); cut != "7" {
		t.Errorf("the engine was told %q", cut)
	}
	b := rec.winner().Blocks
	if b[kv.GPU] != 2 || b[kv.CPU] != 3 || b[kv.Disk] != 2 {
		t.Errorf("planned %v", b)
	}
	o := rec.Onboard
	if o == nil || o.Planned != 7 || o.Blocks[kv.Disk] != 1 || o.Missed != 1 || o.Bytes != 4<<20 || o.MS != 1.5 || o.LinkMS["disk"] != 0.9 {
		t.Errorf("onboard %+v", o)
	}
	line := rec.Line()
	for _, want := range []string{"→ w0", "hit gpu 2, cpu 3, disk 2", "restored 4 in 1.5 ms, missed 1", "recomputed 5", "length"} {
		if !strings.Contains(line, want) {
			t.Errorf("line %q lacks %q", line, want)
		}
	}
	metrics := string(s.get("/metrics").body)
	for _, want := range []string{
		`kvasir_gateway_onboard_blocks_total{model="m",tier="cpu"} 3`, `kvasir_gateway_onboard_blocks_total{model="m",tier="none"} 1`,
		`kvasir_gateway_cached_tokens_total{model="m",tier="disk"} 4`, `kvasir_index_memberships{tier="cpu"} 3`,
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("metrics lack %s", want)
		}
	}
}

func TestARestoreEndsWithItsRequest(t *testing.T) {
	ended := make(chan error, 1)
	a := &fakeAgent{restore: func(ctx context.Context, _ *agentpb.OnboardRequest) (*agentpb.OnboardResponse, error) {
		<-ctx.Done()
		ended <- ctx.Err()
		return nil, ctx.Err()
	}}
	s := withAgent(t, a)
	planned := func(n int) {
		eventually(t, "a plan at the agent", func() bool {
			a.mu.Lock()
			defer a.mu.Unlock()
			return len(a.plans) == n
		})
	}
	// The engine answers without the blocks.
	s.engines[0].does(func(http.ResponseWriter, *http.Request, []byte) bool { planned(1); return false })
	if r := s.post("/v1/chat/completions", chatBody); r.status != 200 {
		t.Fatalf("%d", r.status)
	}
	receive(t, ended)
	// The client leaves before the engine answers.
	s.engines[0].does(stuck(""))
	ctx, leave := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, http.MethodPost, s.server.URL+"/v1/chat/completions", strings.NewReader(chatBody))
	go func() {
		planned(2)
		leave()
	}()
	if resp, err := s.client.Do(req); err == nil {
		resp.Body.Close()
		t.Error("answered")
	}
	receive(t, ended)
}
