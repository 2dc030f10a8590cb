package agent

import (
	"context"
	"errors"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// Describe implements agentpb.AgentServer.
func (a *Agent) Describe(ctx context.Context, _ *agentpb.DescribeRequest) (*agentpb.DescribeResponse, error) {
	info, err := a.describe(ctx)
	if err != nil {
		return nil, status.Errorf(codes.Unavailable, "the engine does not describe itself yet: %v", err)
	}
	return &agentpb.DescribeResponse{
		Id:             string(info.ID),
		Model:          info.Model,
		Url:            info.URL,
		Engine:         info.Engine,
		Role:           info.Role.String(),
		BlockSize:      uint32(info.BlockSize),
		Tokenizer:      info.Tokenizer,
		SharedStore:    a.sharedStore(),
		BlockBytes:     a.blockBytes(),
		EventsEndpoint: info.Events.Endpoint,
		Version:        a.c.Version,
		Peer:           a.peerAddress(),
	}, nil
}

// blockBytes is the size of the manager's blocks; 0 without one.
func (a *Agent) blockBytes() uint32 {
	if m := a.manager.Load(); m != nil {
		return uint32(m.BlockBytes())
	}
	return 0
}

// peerAddress is where the manager lends; empty where it does not.
func (a *Agent) peerAddress() string {
	if m := a.manager.Load(); m != nil {
		return m.PeerAddress()
	}
	return ""
}

func (a *Agent) sharedStore() string {
	if m := a.manager.Load(); m != nil {
		return m.SharedStore()
	}
	return ""
}

// Onboard implements agentpb.AgentServer.
func (a *Agent) Onboard(ctx context.Context, req *agentpb.OnboardRequest) (*agentpb.OnboardResponse, error) {
	m := a.manager.Load()
	if m == nil {
		return nil, status.Error(codes.Unimplemented, "the agent manages no blocks: it only passes the engine's events on")
	}
	root, err := agentpb.UnpackHash(req.GetRoot())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	hashes, err := agentpb.UnpackHashes(nil, req.GetHashes())
	if err != nil {
		return nil, status.Error(codes.InvalidArgument, err.Error())
	}
	r := kvbm.OnboardRequest{ID: req.GetRequestId(), Blocks: kv.Blocks(nil, root, hashes)}
	there := a.engineHolds(m, req.GetRequestId(), hashes)
	r.Blocks = r.Blocks[there:]
	for _, p := range req.GetPeers() {
		r.Peers = append(r.Peers, kvbm.PeerSource{Address: p.GetAddress(), First: int(p.GetFirst()) - there, Count: int(p.GetCount())})
	}
	if ms := req.GetDeadlineMs(); ms > 0 {
		r.Deadline = time.Now().Add(time.Duration(ms) * time.Millisecond)
	}
	_, span := otel.Tracer(tracer).Start(ctx, "kvasir.transfer")
	defer span.End()
	o := m.Onboard(ctx, r)
	select {
	case <-o.Done():
		span.SetAttributes(transferAttributes(o.Result())...)
		return onboarded(o.Result(), there), nil
	case <-ctx.Done():
	case <-a.ctx.Done():
	}
	// A caller that gave up wants nothing any more; one whose time ran out still
	// wants what has landed.
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return onboarded(o.Result(), there), nil
	}
	o.Release()
	return nil, status.Error(codes.Canceled, "the onboarding was cancelled")
}

const tracer = "github.com/kvasir-ai/kvasir/workers/agent"

// transferAttributes are the blocks that came up and the time of each link.
func transferAttributes(r kvbm.OnboardResult) []attribute.KeyValue {
	attrs := []attribute.KeyValue{attribute.Int("kvasir.blocks.missed", r.Missed), attribute.Int64("kvasir.bytes", r.Bytes)}
	for t := range kv.NumTiers {
		if r.Blocks[t] > 0 {
			attrs = append(attrs, attribute.Int("kvasir.blocks."+t.String(), r.Blocks[t]),
				attribute.Float64("kvasir.link_ms."+t.String(), float64(r.LinkElapsed[t].Microseconds())/1000))
		}
	}
	return attrs
}

// onboarded tells of the blocks that were moved and of those that the engine
// had on its own pages.
func onboarded(r kvbm.OnboardResult, there int) *agentpb.OnboardResponse {
	r.Blocks[kv.GPU] += there
	resp := &agentpb.OnboardResponse{Missed: uint32(r.Missed), Bytes: r.Bytes, ElapsedUs: r.Elapsed.Microseconds()}
	for t := range kv.NumTiers {
		if r.Blocks[t] > 0 || r.LinkElapsed[t] > 0 {
			resp.Tiers = append(resp.Tiers, &agentpb.OnboardResponse_FromTier{
				Tier:      agentpb.FromTier(t),
				Blocks:    uint32(r.Blocks[t]),
				ElapsedUs: r.LinkElapsed[t].Microseconds(),
			})
		}
	}
	return resp
}
