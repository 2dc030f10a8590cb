package router

import (
	"math"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Estimate is what serving the request on one worker is predicted to cost.
type Estimate struct {
	Worker kv.WorkerID `json:"worker"`
	// QueueMS is the time until the worker turns to this request.
	QueueMS float64 `json:"queue_ms"`
	// RestoreMS is the part of the restore that the queue does not hide:
	// max(queue, restore) = QueueMS + RestoreMS. RestoreLinkMS is the whole.
	RestoreMS float64 `json:"restore_ms"`
	PrefillMS float64 `json:"prefill_ms"`
	// TTFTMS is QueueMS + RestoreMS + PrefillMS.
	TTFTMS float64 `json:"ttft_ms"`
	// HarmMS is the delay that this request adds to others.
	HarmMS float64 `json:"harm_ms"`
	// ScoreMS is TTFTMS + HarmMS.
	ScoreMS       float64 `json:"score_ms"`
	RestoreLinkMS float64 `json:"restore_link_ms"`
	// Cut is the number of leading blocks that are reused or restored; Blocks
	// says from which tier. The RecomputeBlocks after it are computed, a last
	// partial block among them.
	Cut             int        `json:"cut"`
	Blocks          TierBlocks `json:"blocks"`
	RecomputeBlocks int        `json:"recompute_blocks"`
	CachedTokens    int        `json:"cached_tokens"`
	ComputeTokens   int        `json:"compute_tokens"`
}

// lowKVShare is the share of free KV below which a new request is expected to
// push others out.
const lowKVShare = 0.1

// estimate prices c for r, in full.
func estimate(e *Estimate, r *Request, c *Candidate) {
	plan := bestCut(r, c)
	*e = Estimate{
		Worker:          c.Worker,
		QueueMS:         c.Load.QueuedPrefillMS,
		RestoreMS:       max(0, plan.restoreMS-c.Load.QueuedPrefillMS),
		RestoreLinkMS:   plan.restoreMS,
		PrefillMS:       plan.prefillMS,
		Cut:             plan.cut,
		Blocks:          plan.blocks,
		RecomputeBlocks: r.blocks() - plan.cut,
		CachedTokens:    plan.cut * r.BlockSize,
		ComputeTokens:   r.Tokens - plan.cut*r.BlockSize,
	}
	e.TTFTMS = e.QueueMS + e.RestoreMS + e.PrefillMS
	e.HarmMS = harm(r, c, e.PrefillMS)
	e.ScoreMS = e.TTFTMS + e.HarmMS
}

// harm is the delay that a prefill of prefillMS adds to the requests that share
// the worker: each of them waits that long for it. When KV runs out somebody is
// preempted and must be computed again; we do not know who, so the penalty
// grows to the cost of this prompt from scratch.
func harm(r *Request, c *Candidate, prefillMS float64) float64 {
	ms := float64(c.Load.Running+c.Load.Waiting) * prefillMS
	if free := c.Load.FreeKVShare; free >= 0 && free < lowKVShare {
		ms += (1 - free/lowKVShare) * c.Rates.PrefillMS(r.Tokens, r.Tokens)
	}
	return ms
}

// cutPlan is a cut and what it costs.
type cutPlan struct {
	cut       int
	blocks    TierBlocks
	restoreMS float64
	prefillMS float64
}

// bestCut finds the cut k that minimises max(queue, restore(k)) + prefill(k).
//
// Only a few cuts can be best. Along a span that is restored over one link,
// restore(k) is linear and prefill(k) is concave (attention makes the first
// tokens dropped from a prefill the dearest), so as long as the queue hides the
// restore more is better, and beyond that the best cut is at an end: where the
// restore comes out from behind the queue, or the span's last block.
func bestCut(r *Request, c *Candidate) cutPlan {
	queue := c.Load.QueuedPrefillMS
	best := cutPlan{prefillMS: c.Rates.PrefillMS(r.Tokens, r.Tokens)}
	bestMS := max(queue, 0) + best.prefillMS
	at := best // the end of the spans walked so far, all of them restored
	var opened kv.TierSet
	try := func(p cutPlan) {
		p.prefillMS = c.Rates.PrefillMS(r.Tokens-p.cut*r.BlockSize, r.Tokens)
		if ms := max(queue, p.restoreMS) + p.prefillMS; ms < bestMS {
			best, bestMS = p, ms
		}
	}
	limit := r.maxCut()
	for _, span := range c.Spans {
		n := min(span.Blocks, limit-at.cut)
		t, ok := cheapest(&c.Rates, span.Tiers, n, opened)
		if n <= 0 || !ok {
			break
		}
		if t != kv.GPU {
			per := c.Rates.blockMS(t)
			if !opened.Has(t) {
				opened = opened.With(t)
				at.restoreMS += c.Rates.Links[t].fixedMS()
			}
			if hidden := (queue - at.restoreMS) / per; hidden < float64(n) {
				h := max(0, int(math.Floor(hidden)))
				for _, take := range [2]int{h, h + 1} {
					if take > 0 && take < n {
						try(at.extend(t, take, per))
					}
				}
			}
			at = at.extend(t, n, per)
		} else {
			at = at.extend(t, n, 0)
		}
		try(at)
	}
	return best
}

// extend is p with n more blocks from t, each taking per on its link.
func (p cutPlan) extend(t kv.Tier, n int, per float64) cutPlan {
	p.cut += n
	p.blocks[t] += n
	p.restoreMS += per * float64(n)
	return p
}

// cheapest is the tier of set that brings up n blocks soonest, the links in
// opened being paid for already.
func cheapest(rates *Rates, set kv.TierSet, n int, opened kv.TierSet) (best kv.Tier, ok bool) {
	bestMS := math.Inf(1)
	for t := range kv.NumTiers {
		if !set.Has(t) || !rates.usable(t) {
			continue
		}
		if t == kv.GPU {
			return t, true
		}
		ms := rates.blockMS(t) * float64(n)
		if !opened.Has(t) {
			ms += rates.Links[t].fixedMS()
		}
		if ms < bestMS {
			best, bestMS, ok = t, ms, true
		}
	}
	return best, ok
}
