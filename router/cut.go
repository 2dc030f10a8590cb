package router

import (
	"math"
	"math/bits"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// cutPlan is a cut and what it costs.
type cutPlan struct {
	cut       int
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
func bestCut(q *query, c *Candidate) cutPlan {
	queue, rates := c.Load.QueuedPrefillMS, &c.Rates
	best := cutPlan{prefillMS: q.scratchMS(rates)}
	bestMS := max(queue, 0) + best.prefillMS
	try := func(cut int, restoreMS float64) {
		prefillMS := rates.PrefillMS(q.Tokens-cut*q.BlockSize, q.Tokens)
		// Blocks that need no restore are reused by the engine, whatever the rates
		// say that it gains: they may have no slope yet.
		if ms := max(queue, restoreMS) + prefillMS; ms < bestMS || restoreMS == 0 {
			best, bestMS = cutPlan{cut, restoreMS, prefillMS}, ms
		}
	}
	cut, restoreMS := 0, 0.0 // of the spans walked so far, all of them restored
	var opened kv.TierSet
	for i := range c.Spans {
		n := min(c.Spans[i].Blocks, q.maxCut-cut)
		if n <= 0 {
			break
		}
		t, ok := cheapest(rates, c.Spans[i].Tiers, n, opened)
		if !ok {
			break
		}
		if t != kv.GPU {
			if !opened.Has(t) {
				opened = opened.With(t)
				restoreMS += rates.Links[t].fixedMS()
			}
			per := rates.blockMS(t)
			if room := queue - restoreMS; room < per*float64(n) {
				h := max(0, int(math.Floor(room/per)))
				for take := max(h, 1); take <= h+1 && take < n; take++ {
					try(cut+take, restoreMS+per*float64(take))
				}
			}
			restoreMS += per * float64(n)
		}
		cut += n
		try(cut, restoreMS)
	}
	return best
}

// Alternatives are the candidate's TTFTs if it computed the whole prompt, and if
// it restored all that it holds: what its best cut is the best of.
func (c *Candidate) Alternatives(r *Request) (nothingMS, everythingMS float64) {
	q := newQuery(r, nil)
	var blocks TierBlocks
	held := min(held(c.Spans), q.maxCut)
	c.sources(&blocks, &q, held)
	restoreMS := 0.0
	for t := kv.CPU; t < kv.NumTiers; t++ {
		if blocks[t] > 0 {
			restoreMS += c.Rates.Links[t].fixedMS() + float64(blocks[t])*c.Rates.blockMS(t)
		}
	}
	queue := c.Load.QueuedPrefillMS
	return queue + q.scratchMS(&c.Rates), max(queue, restoreMS) + c.Rates.PrefillMS(r.Tokens-blocks.Total()*r.BlockSize, r.Tokens)
}

// sources says which tiers the first cut blocks come from. It walks as bestCut
// does, and ends where nothing can be brought up.
func (c *Candidate) sources(into *TierBlocks, q *query, cut int) {
	var opened kv.TierSet
	for i, left := 0, q.maxCut; cut > 0; i++ {
		n := min(c.Spans[i].Blocks, left)
		t, ok := cheapest(&c.Rates, c.Spans[i].Tiers, n, opened)
		if !ok {
			return
		}
		opened = opened.With(t)
		into[t] += min(n, cut)
		cut -= n
		left -= n
	}
}

// cheapest is the tier of set that brings up n blocks soonest, the links in
// opened being paid for already.
func cheapest(rates *Rates, set kv.TierSet, n int, opened kv.TierSet) (best kv.Tier, ok bool) {
	if set.Has(kv.GPU) {
		return kv.GPU, true
	}
	bestMS := math.Inf(1)
	for ; set != 0; set &= set - 1 {
		t := kv.Tier(bits.TrailingZeros8(uint8(set)))
		if !rates.usable(t) {
			continue
		}
		if set&(set-1) == 0 && !ok {
			return t, true // there is no other
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
