package agent

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
)

// WatchStats implements agentpb.AgentServer.
func (a *Agent) WatchStats(req *agentpb.WatchStatsRequest, stream grpc.ServerStreamingServer[agentpb.WatchStatsResponse]) error {
	interval := time.Duration(req.GetIntervalMs()) * time.Millisecond
	if interval == 0 {
		interval = a.c.StatsInterval
	}
	interval = max(interval, minInterval)
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		if err := stream.Send(a.report(stream.Context(), interval/2)); err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-a.ctx.Done():
			return status.Error(codes.Unavailable, "the agent is stopping")
		}
	}
}

// cachedLoad lets several gateways watch for the price of one scrape.
type cachedLoad struct {
	mu   sync.Mutex
	load vllm.Load
	err  error
	at   time.Time
}

// get is the engine's load, at most maxAge old.
func (c *cachedLoad) get(ctx context.Context, engine workers.Engine, maxAge time.Duration) (vllm.Load, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if time.Since(c.at) > maxAge {
		ctx, cancel := context.WithTimeout(ctx, engineTimeout)
		defer cancel()
		c.load, c.err = engine.Load(ctx)
		c.at = time.Now()
	}
	return c.load, c.err
}

func (a *Agent) report(ctx context.Context, maxAge time.Duration) *agentpb.WatchStatsResponse {
	m := &agentpb.WatchStatsResponse{
		Events:      a.eventStats(),
		BlockBytes:  a.blockBytes(),
		SharedStore: a.sharedStore(),
	}
	if l, err := a.load.get(ctx, a.engine, maxAge); err != nil {
		a.log.Debug("the engine's metrics cannot be read", "error", err)
	} else {
		m.Engine = engineStats(l)
	}
	if manager := a.manager.Load(); manager != nil {
		a.managerStats(m, manager)
	}
	return m
}

func engineStats(l vllm.Load) *agentpb.EngineStats {
	e := &agentpb.EngineStats{
		Running:      uint32(l.Running),
		Waiting:      uint32(l.Waiting),
		GpuBlocks:    uint32(l.GPUBlocks),
		CacheQueries: l.CacheQueries,
		CacheHits:    l.CacheHits,
	}
	if l.KVUsage >= 0 {
		e.KvUsage = &l.KVUsage
	}
	if l.QueuedPrefillTokens >= 0 {
		queued := uint32(l.QueuedPrefillTokens)
		e.QueuedPrefillTokens = &queued
	}
	return e
}

func (a *Agent) eventStats() *agentpb.EventStats {
	e := &agentpb.EventStats{Blocks: uint64(a.hub.blocks())}
	if r := a.reader.Load(); r != nil {
		s := r.Stats()
		e.EngineSource, e.EngineConnected = true, s.Connected
		e.EngineEvents, e.Lost = s.Events, s.Lost()
	}
	return e
}

func (a *Agent) managerStats(m *agentpb.WatchStatsResponse, manager *kvbm.Manager) {
	s := manager.Stats()
	for t := range kv.NumTiers {
		ts := s.Tiers[t]
		if ts.Capacity == 0 && ts.Stored == 0 && ts.Hits == 0 && ts.Misses == 0 {
			continue
		}
		m.Tiers = append(m.Tiers, &agentpb.TierStats{
			Tier:     agentpb.FromTier(t),
			Capacity: uint32(ts.Capacity), Free: uint32(ts.Free),
			Filling: uint32(ts.Filling), Evicting: uint32(ts.Evicting),
			Committed: uint32(ts.Committed), Leased: uint32(ts.Leased),
			Hits: ts.Hits, Misses: ts.Misses,
			Stored: ts.Stored, Evicted: ts.Evicted, Corrupt: ts.Corrupt,
		})
	}
	for _, l := range s.Links {
		m.Links = append(m.Links, &agentpb.LinkStats{
			From: agentpb.FromTier(l.From), To: agentpb.FromTier(l.To), Up: l.Up,
			BytesPerSecond: l.BytesPerSecond, LatencyUs: l.Latency.Microseconds(), QueuedBytes: l.QueuedBytes,
			Blocks: l.Blocks, Bytes: l.Bytes, Errors: l.Errors, Dropped: l.Dropped,
		})
	}
	if manager.GPU() == nil {
		m.Links = append(m.Links, a.loads.link())
	}
}
