package sim

import (
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
	"github.com/kvasir-ai/kvasir/router"
)

// Link is a way that blocks take.
type Link struct {
	GBps      float64
	LatencyMS float64
}

// link is a Link at work: one transfer after the other.
type link struct {
	Link
	free instant // when it has done all that it was given
}

// send is when bytes that are ready at a time have passed.
func (l *link) send(ready instant, bytes int) instant {
	l.free = max(l.free, ready) + instant(float64(bytes)/(l.GBps*1e9)*1e9)
	return l.free + instant(l.LatencyMS*float64(millisecond))
}

// queued is how many bytes are ahead of a new transfer.
func (l *link) queued(now instant) int64 { return int64(float64(max(0, l.free-now)) * l.GBps) }

// offloadBacklog is how far behind a link down may be: what comes then is not
// offloaded.
const offloadBacklog = 2000 * millisecond

// lowerTiers are the block manager of one worker: what the engine computes is
// written through to cpu, and from there to disk and to the shared store; what a
// decision wants restored is brought up, at the links' speed.
type lowerTiers struct {
	engine *engine
	pools  [kv.NumTiers]*pool // nil: not there. Redis is shared by all workers
	up     [kv.NumTiers]link
	down   [kv.NumTiers]link
	bytes  int // of a block
}

// restore is what a request waits for, or got.
type restore struct {
	done   bool
	blocks []restoring // in order of position
}

type restoring struct {
	position int
	tier     kv.Tier
	slot     policy.Slot
}

func (r *restore) find(i int) *restoring {
	if r == nil || !r.done || len(r.blocks) == 0 {
		return nil
	}
	at := i - r.blocks[0].position
	if at < 0 {
		return nil
	}
	for ; at >= 0; at-- { // positions that were in gpu are left out
		if at < len(r.blocks) && r.blocks[at].position == i {
			return &r.blocks[at]
		}
	}
	return nil
}

func (r *restore) has(i int) bool     { return r.find(i) != nil }
func (r *restore) from(i int) kv.Tier { return r.find(i).tier }

// release gives the leases back.
func (r *restore) release(e *engine) {
	for _, b := range r.blocks {
		p := e.tiers.pools[b.tier]
		p.Touch(b.slot)
		p.Unlease(b.slot)
	}
	r.blocks = nil
}

// onboard brings up what the decision wants of r's prompt.
func (t *lowerTiers) onboard(r *request, now instant) {
	re := &restore{}
	ready := now
	for i := range r.cut {
		b := r.block(i, t.engine.fleet.blockSize)
		if t.engine.gpu.Has(b.Hash) {
			continue
		}
		tier, slot, ok := t.find(b.Hash)
		if !ok {
			break
		}
		t.pools[tier].Lease(slot)
		re.blocks = append(re.blocks, restoring{i, tier, slot})
		at := now
		if tier != kv.CPU {
			at = t.up[tier].send(now, t.bytes)
		}
		ready = max(ready, t.up[kv.CPU].send(at, t.bytes))
	}
	if len(re.blocks) == 0 {
		return
	}
	r.restore = re
	t.engine.fleet.agenda.add(event{at: ready, kind: restored, engine: t.engine, what: r})
}

// arrived ends a restore. What came from below is in cpu now.
func (t *lowerTiers) arrived(r *request) {
	r.restore.done = true
	for _, b := range r.restore.blocks {
		if b.tier != kv.CPU && t.pools[kv.CPU] != nil {
			t.pools[kv.CPU].put(t.pools[b.tier].Block(b.slot))
		}
	}
	t.flush()
}

func (t *lowerTiers) find(h kv.Hash) (kv.Tier, policy.Slot, bool) {
	for tier := kv.CPU; tier < kv.NumTiers; tier++ {
		if p := t.pools[tier]; p != nil {
			if s, ok := p.Find(h); ok {
				return tier, s, true
			}
		}
	}
	return 0, 0, false
}

// offload is blocks on their way down.
type offload struct {
	tier   kv.Tier
	blocks []kv.Block
}

// offload sends new blocks down to cpu.
func (t *lowerTiers) offload(blocks []kv.Block, now instant) { t.lower(kv.CPU, blocks, now) }

func (t *lowerTiers) lower(tier kv.Tier, blocks []kv.Block, now instant) {
	if t.pools[tier] == nil || len(blocks) == 0 || t.down[tier].free > now+offloadBacklog {
		return
	}
	done := t.down[tier].send(now, t.bytes*len(blocks))
	t.engine.fleet.agenda.add(event{at: done, kind: offloaded, engine: t.engine, what: offload{tier, append([]kv.Block(nil), blocks...)}})
}

// landed ends an offload, and begins those to the tiers below.
func (t *lowerTiers) landed(o offload, now instant) {
	p := t.pools[o.tier]
	t.engine.fleet.writer = t.engine
	kept := o.blocks[:0]
	for _, b := range o.blocks {
		if p.put(b) {
			kept = append(kept, b)
		}
	}
	t.flush()
	if o.tier == kv.CPU {
		t.lower(kv.Disk, kept, now)
		t.lower(kv.Redis, kept, now)
	}
}

func (t *lowerTiers) flush() {
	for _, p := range t.pools {
		if p != nil {
			p.flush()
		}
	}
}

// ways are the ways up as the worker measured them. Blocks from below cpu take
// its link as well, at the same time; the slower one sets the pace.
func (t *lowerTiers) ways(now instant) (ways [kv.NumTiers]router.Link) {
	last := &t.up[kv.CPU]
	for tier := kv.CPU; tier < kv.NumTiers; tier++ {
		if t.pools[tier] == nil {
			continue
		}
		l := &t.up[tier]
		ways[tier] = router.Link{LatencyMS: l.LatencyMS, BytesPerMS: l.GBps * 1e6, QueuedBytes: l.queued(now)}
		if tier != kv.CPU {
			ways[tier].LatencyMS += last.LatencyMS
			ways[tier].BytesPerMS = min(ways[tier].BytesPerMS, last.GBps*1e6)
		}
	}
	return ways
}
