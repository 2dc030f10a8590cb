package agent

import (
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// Who watched before the tiers were there is told to ask again what worker this
// is, and from then on Onboard is served.
func TestAManagerComesLater(t *testing.T) {
	a, conn := serve(t, Config{})
	rpc := agentpb.NewAgentClient(conn)
	if _, err := rpc.Onboard(t.Context(), &agentpb.OnboardRequest{Root: make([]byte, 16)}); status.Code(err) != codes.Unimplemented {
		t.Errorf("without a manager: %v", err)
	}
	stream, err := rpc.WatchBlocks(t.Context(), &agentpb.WatchBlocksRequest{})
	if err != nil {
		t.Fatal(err)
	}
	m, err := kvbm.Open(t.Context(), kvbm.Config{Layout: kv.Layout{BlockSize: 16, BlockBytes: 4096}, CPUBytes: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(t.Context()) })
	a.Adopt(m)
	for err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unavailable {
		t.Errorf("the stream ended with %v", err)
	}
	if d, err := rpc.Describe(t.Context(), &agentpb.DescribeRequest{}); err != nil || d.GetBlockBytes() != 4096 {
		t.Errorf("%+v, %v", d, err)
	}
	a.Loaded(2, 8192, 1e6)
	if r, err := rpc.Onboard(t.Context(), &agentpb.OnboardRequest{RequestId: "r", Root: make([]byte, 16), Hashes: make([]byte, 48)}); err != nil || r.GetMissed() != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	if n, ok := a.Planned("r"); !ok || n != 3 {
		t.Errorf("planned %d, %v", n, ok)
	}
	var report agentpb.WatchStatsResponse
	a.managerStats(&report, m)
	last := report.GetLinks()[len(report.GetLinks())-1]
	if last.GetTo() != agentpb.FromTier(kv.GPU) || last.GetBytesPerSecond() != 8192e3 {
		t.Errorf("2 blocks in 1 ms make %+v", last)
	}
}

// A plan is told once, and the oldest make room.
func TestPlansAreToldOnce(t *testing.T) {
	var p plans
	p.put("", 1)
	for i := range plannedIDs + 1 {
		p.put(string(rune('a'+i)), i)
	}
	if _, ok := p.take(""); ok {
		t.Error("a plan without an id is told")
	}
	if _, ok := p.take("a"); ok {
		t.Error("the oldest plan did not make room")
	}
	if n, ok := p.take("c"); !ok || n != 2 {
		t.Errorf("got %d, %v", n, ok)
	}
	if n, ok := p.take("c"); ok {
		t.Errorf("told again: %d", n)
	}
	p.put("c", 7)
	if n, ok := p.take("c"); !ok || n != 7 || len(p.by) != plannedIDs {
		t.Errorf("got %d, %v; %d plans", n, ok, len(p.by))
	}
}

// Only the engine's own word says that a block is on its pages, and only up to
// the first that is not.
func TestBlocksOnTheEnginesPagesNeedNoOnboarding(t *testing.T) {
	h := newHub(100)
	chain := []kv.Hash{{1}, {2}, {3}, {4}}
	h.file([]told{
		{fromEngine, []kv.Event{{Kind: kv.Stored, Tier: kv.GPU, Hashes: chain[:2]}, {Kind: kv.Stored, Tier: kv.GPU, Parent: chain[2], Hashes: chain[3:]}}},
		{fromManager, []kv.Event{{Kind: kv.Stored, Tier: kv.CPU, Hashes: chain}}},
	})
	if n := h.leading(chain); n != 2 {
		t.Errorf("got %d, want 2", n)
	}
	if n := h.leading(nil); n != 0 {
		t.Errorf("got %d of nothing", n)
	}
}
