package gateway

import (
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
)

// Leg is what became of one worker's part in a request that was served in two.
type Leg struct {
	Worker kv.WorkerID `json:"worker"`
	Role   kv.Role     `json:"role"`
	// Outcome is ok, refused, failed, cancelled, or empty: it answered and had
	// nothing to pass on.
	Outcome string `json:"outcome"`
	// MS is the prefill worker's time to its answer, and the decode worker's to its
	// first token, which the KV's way is part of.
	MS  float64 `json:"ms"`
	Why string  `json:"why,omitempty"`
}

const (
	legOK        = "ok"
	legRefused   = "refused"
	legFailed    = "failed"
	legCancelled = "cancelled"
	legEmpty     = "empty"
)

// legs books one leg's outcome.
func (x *exchange) legs(w kv.WorkerID, role kv.Role, outcome string, ms float64, err error) {
	leg := Leg{Worker: w, Role: role, Outcome: outcome, MS: ms}
	if err != nil {
		leg.Why = err.Error()
	}
	x.entry.update(func(r *Record) { r.Legs = append(r.Legs[:len(r.Legs):len(r.Legs)], leg) })
	x.g.metrics.legs.WithLabelValues(x.q.model, role.String(), outcome).Inc()
	if err == nil {
		x.g.metrics.legSeconds.WithLabelValues(x.q.model, role.String()).Observe(ms / 1000)
	}
}

// Why a request that could have been served in two legs was served by one worker.
const (
	bypassCached  = "cached"  // most of the prompt was there
	bypassShort   = "short"   // the transfer alone would have taken longer
	bypassQueue   = "queue"   // the prefill workers had too much ahead
	bypassCheaper = "cheaper" // the sum said so
)

// bypass says why the router did not split a request, "" if it did, or could not
// have.
func bypass(req *router.Request, d *router.Decision) string {
	if d.Chosen < 0 || d.Estimates[d.Chosen].Split != nil {
		return ""
	}
	split := d.BestSplit()
	if split == nil {
		return ""
	}
	switch one := &d.Estimates[d.Chosen]; {
	case 2*one.CachedTokens >= req.Tokens:
		return bypassCached
	case one.PrefillMS <= split.TransferMS+split.Split.StepMS:
		return bypassShort
	case split.ScoreMS-split.QueueMS < one.ScoreMS-one.QueueMS:
		return bypassQueue
	}
	return bypassCheaper
}

// bypassed books that one worker serves a request that two could have served.
func (x *exchange) bypassed(p *placement) {
	if p.split != nil {
		return
	}
	reason := ""
	x.entry.update(func(r *Record) {
		switch {
		case r.Bypass != "":
			reason = r.Bypass
		case p.worker.Known().Role != kv.Decode:
		case x.whole != "":
			reason, r.Bypass = "failed", x.whole
		default:
			if reason, r.Bypass = "impossible", x.unsplittable(); r.Bypass == "" {
				r.Bypass = "no prefill worker can hand it over"
			}
		}
	})
	if reason != "" {
		x.g.metrics.bypasses.WithLabelValues(x.q.model, reason).Inc()
	}
}
