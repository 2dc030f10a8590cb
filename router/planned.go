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
	start := now.UnixNano()
	if ahead(p.through[t], start) > 0 {
		start = p.through[t]
	}
	p.through[t] = start + int64(ms*float64(time.Millisecond))
	if p.last == 0 || ahead(p.through[t], p.last) > 0 {
		p.last = p.through[t]
	}
}

// ahead is how much later through is than now; nothing was planned where it is 0.
// A difference is right also for times, such as a simulation's, that nanoseconds
// since 1970 do not reach.
func ahead(through, now int64) time.Duration {
	if through == 0 {
		return 0
	}
	return time.Duration(through - now)
}

// Queue raises what is queued on the links of rates to what was planned on them
// and is not through. Where the worker has reported more, that counts: its report
// has the planned ones in it, too.
func (a *Account) Queue(rates *Rates, now time.Time) {
	if n := now.UnixNano(); ahead(a.links.last, n) > 0 {
		a.links.queue(rates, n)
	}
}

func (p *plannedLinks) queue(rates *Rates, now int64) {
	for t, through := range p.through {
		left := ahead(through, now)
		if left <= 0 {
			continue
		}
		l := &rates.Links[t]
		if kv.Tier(t) == kv.GPU {
			l = &rates.Handoff
		}
		l.QueuedBytes = max(l.QueuedBytes, int64(milliseconds(left)*l.BytesPerMS))
	}
}
