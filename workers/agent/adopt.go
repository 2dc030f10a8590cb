package agent

import (
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// describeAgain is how long after it has a manager the agent ends its watchers'
// streams, so that they ask again what worker this is. By then nobody begins a
// stream who was told before.
const describeAgain = time.Second

// Adopt gives the agent its block manager, once. That of an engine that runs by
// itself is opened when the engine's plug-in says how long a block is.
func (a *Agent) Adopt(m *kvbm.Manager) {
	a.adopt(m)
	time.AfterFunc(describeAgain, func() { close(a.adopted) })
}

func (a *Agent) adopt(m *kvbm.Manager) {
	a.manager.Store(m)
	// The engine's own word about its pages goes before the manager's.
	a.followManager(m, a.readsEngine)
}

// engineHolds is how many of a plan's leading blocks need no onboarding, because
// an engine that keeps its own pages has them there. It notes how far the plan
// goes, for when the engine asks.
func (a *Agent) engineHolds(m *kvbm.Manager, id string, hashes []kv.Hash) int {
	if m.GPU() != nil {
		return 0
	}
	a.planned.put(id, len(hashes))
	return a.hub.leading(hashes)
}

// Planned is how many leading blocks the router wants restored for a request,
// if it said so. It is told once: clients may use an id again.
func (a *Agent) Planned(id string) (blocks int, ok bool) { return a.planned.take(id) }

// plannedIDs bounds how many plans are remembered: far more than there are
// requests between the router's call and the engine's question.
const plannedIDs = 4096

const noPlan = -1

// plans remembers the latest restore plans' lengths.
type plans struct {
	mu    sync.Mutex
	by    map[string]int
	order []string // a ring, once full
	next  int
}

func (p *plans) put(id string, blocks int) {
	if id == "" {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.by == nil {
		p.by = map[string]int{}
	}
	if _, again := p.by[id]; !again {
		if len(p.order) < plannedIDs {
			p.order = append(p.order, id)
		} else {
			delete(p.by, p.order[p.next])
			p.order[p.next] = id
			p.next = (p.next + 1) % plannedIDs
		}
	}
	p.by[id] = blocks
}

func (p *plans) take(id string) (blocks int, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if blocks, ok = p.by[id]; ok {
		p.by[id] = noPlan // its place in the ring stays
	}
	return blocks, ok && blocks != noPlan
}

// loadSpeed is what a plug-in reports of its copies from cpu to the engine's
// pages: the link's speed, as the last loads had it.
type loadSpeed struct {
	mu            sync.Mutex
	blocks, bytes uint64
	perSecond     float64
}

// Loaded takes a plug-in's report of blocks that it copied from cpu to the
// engine's pages.
func (a *Agent) Loaded(blocks int, bytes int64, took time.Duration) {
	const share = 0.2 // of the newest load in the mean
	s := &a.loads
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks += uint64(blocks)
	s.bytes += uint64(bytes)
	if took <= 0 {
		return
	}
	speed := float64(bytes) / took.Seconds()
	if s.perSecond == 0 {
		s.perSecond = speed
	}
	s.perSecond += share * (speed - s.perSecond)
}

func (s *loadSpeed) link() *agentpb.LinkStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return &agentpb.LinkStats{
		From: agentpb.FromTier(kv.CPU), To: agentpb.FromTier(kv.GPU), Up: true,
		BytesPerSecond: s.perSecond, Blocks: s.blocks, Bytes: s.bytes,
	}
}
