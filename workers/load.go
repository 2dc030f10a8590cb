package workers

import (
	"context"
	"fmt"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// watchStats keeps Stats up to date, through the agent if it answers, else from
// the engine's metrics.
func (w *Worker) watchStats(ctx context.Context) {
	pause := retry{min: w.c.StatsInterval, max: max(w.c.BackoffMax, w.c.StatsInterval)}
	for ctx.Err() == nil {
		if a := w.agent.Load(); a != nil {
			err := w.followStats(ctx, a, pause.reset)
			w.log.Debug("no stats stream from the agent", "error", err)
		}
		if w.healthy.Load() && w.scrape(ctx) {
			pause.reset()
		}
		pause.wait(ctx)
	}
}

// scrape reads the engine's metrics once.
func (w *Worker) scrape(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, w.c.HealthTimeout)
	defer cancel()
	l, err := w.engine.Load(ctx)
	if err != nil {
		w.log.Debug("the engine's metrics cannot be read", "error", err)
		return false
	}
	w.report(Stats{
		Running:             l.Running,
		Waiting:             l.Waiting,
		KVUsage:             l.KVUsage,
		QueuedPrefillTokens: l.QueuedPrefillTokens,
		GPUBlocks:           l.GPUBlocks,
		CacheQueries:        l.CacheQueries,
		CacheHits:           l.CacheHits,
	})
	return true
}

// followStats takes the agent's reports until the stream breaks.
func (w *Worker) followStats(ctx context.Context, a *agentClient, standing func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := a.rpc.WatchStats(ctx, &agentpb.WatchStatsRequest{IntervalMs: uint32(w.c.StatsInterval.Milliseconds())})
	if err != nil {
		return fmt.Errorf("agent: watch stats: %w", err)
	}
	for {
		m, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("agent: watch stats: %w", err)
		}
		standing()
		w.counters.lost.Store(m.GetEvents().GetLost())
		w.report(w.fromAgent(m))
	}
}

// fromAgent reads a report. When the engine did not answer the agent, its
// figures stay as they were.
func (w *Worker) fromAgent(m *agentpb.WatchStatsResponse) Stats {
	s := w.Stats()
	if e := m.GetEngine(); e != nil {
		s.Running, s.Waiting, s.GPUBlocks = int(e.GetRunning()), int(e.GetWaiting()), int(e.GetGpuBlocks())
		s.CacheQueries, s.CacheHits = e.GetCacheQueries(), e.GetCacheHits()
		s.KVUsage, s.QueuedPrefillTokens = -1, -1
		if e.KvUsage != nil {
			s.KVUsage = e.GetKvUsage()
		}
		if e.QueuedPrefillTokens != nil {
			s.QueuedPrefillTokens = int(e.GetQueuedPrefillTokens())
		}
	}
	s.BlockBytes, s.SharedStore = int(m.GetBlockBytes()), m.GetSharedStore()
	s.Tiers, s.Links = [kv.NumTiers]TierStats{}, [kv.NumTiers]LinkStats{}
	for _, ts := range m.GetTiers() {
		if t, ok := ts.GetTier().ToTier(); ok {
			s.Tiers[t] = TierStats{
				Capacity: int(ts.GetCapacity()), Free: int(ts.GetFree()),
				Filling: int(ts.GetFilling()), Evicting: int(ts.GetEvicting()),
				Committed: int(ts.GetCommitted()), Leased: int(ts.GetLeased()),
				Hits: ts.GetHits(), Misses: ts.GetMisses(),
				Stored: ts.GetStored(), Evicted: ts.GetEvicted(), Corrupt: ts.GetCorrupt(),
			}
		}
	}
	for _, l := range m.GetLinks() {
		from, ok := l.GetFrom().ToTier()
		to, ok2 := l.GetTo().ToTier()
		if ok && ok2 && to < from { // upwards: what onboarding waits for
			s.Links[from] = LinkStats{
				Up: l.GetUp(), BytesPerSecond: l.GetBytesPerSecond(),
				Latency:     time.Duration(l.GetLatencyUs()) * time.Microsecond,
				QueuedBytes: l.GetQueuedBytes(), Blocks: l.GetBlocks(), Bytes: l.GetBytes(),
				Errors: l.GetErrors(), Dropped: l.GetDropped(),
			}
		}
	}
	return s
}

// report publishes new figures and looks for silence.
func (w *Worker) report(s Stats) {
	s.At = w.c.Now()
	w.stats.Store(&s)
	w.silence.observe(w, s)
}
