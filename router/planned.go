package router

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// plannedLinks are, for each of a worker's links, when the transfers that were
// planned on it are through, in Unix nanoseconds. A transfer that never starts,
// as when its request is cancelled, keeps its place until then and no longer.
// The gpu tier's place is the handoff's.
type plannedLinks struct {
	through [kv.NumTiers]int64
	last    int64 // the latest of them: most workers have none ahead
}

// Plan notes the transfers that e brings to the account's worker, so that the
// decisions after it find them queued before the worker reports them.
func (a *Account) Plan(e *Estimate, rates *Rates, now time.Time) {
	if s := e.Split; s != nil { // its blocks are the prefill worker's
		a.links.add(kv.GPU, float64(s.TransferBlocks)*float64(rates.BlockBytes)/rates.Handoff.BytesPerMS, now)
		return
	}
	for t := kv.CPU; t < kv.NumTiers; t++ {
		if n := e.Blocks[t]; n > 0 {
			a.links.add(t, float64(n)*rates.blockMS(t), now)
		}
	}
}

func (p *plannedLinks) add(t kv.Tier, ms float64, now time.Time) {
	p.through[t] = max(p.through[t], now.UnixNano()) + int64(ms*float64(time.Millisecond))
	p.last = max(p.last, p.through[t])
}

// Queue raises what is queued on the links of rates to what was planned on them
// and is not through. Where the worker has reported more, that counts: its report
// has the planned ones in it, too.
func (a *Account) Queue(rates *Rates, now time.Time) {
	if n := now.UnixNano(); a.links.last > n {
		a.links.queue(rates, n)
	}
}

func (p *plannedLinks) queue(rates *Rates, now int64) {
	for t, through := range p.through {
		if through <= now {
			continue
		}
		l := &rates.Links[t]
		if kv.Tier(t) == kv.GPU {
			l = &rates.Handoff
		}
		l.QueuedBytes = max(l.QueuedBytes, int64(milliseconds(time.Duration(through-now))*l.BytesPerMS))
	}
}
