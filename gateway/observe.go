package gateway

import (
	"github.com/kvasir-ai/kvasir/internal/kv"
)

// learn feeds what a request showed back into the calibration.
func (g *Gateway) learn(x *exchange, r *Record) {
	c := r.winner()
	if c == nil || r.Outcome != outcomeOK || r.Tokens == 0 || r.Migrations > 0 {
		return // what several workers took says nothing of one
	}
	g.checkTokens(x, r)
	if r.ObservedTTFTMS == nil {
		return
	}
	observed := *r.ObservedTTFTMS
	g.metrics.prediction(r.Model, c.TTFTMS, observed)
	late := observed > lateTimes*c.TTFTMS+lateMS
	prefill, ok := prefillMS(x.placed, r, observed)
	if x.placed.split != nil { // the first leg told what it took, and who of the two is late is not known
		late, ok = false, false
	}
	if late {
		x.placed.worker.ReportLate()
	}
	g.placing.Lock()
	defer g.placing.Unlock()
	g.c.Calibration.ObserveTTFT(c.Worker, c.TTFTMS, observed)
	if ok {
		g.c.Calibration.ObservePrefill(c.Worker, r.Tokens-cachedTokens(r), r.Tokens, prefill, x.placed.behindMS)
	}
}

// An answer that begins so much later than predicted speaks against its worker.
const (
	lateTimes = 5
	lateMS    = 1000
)

// prefillMS is the part of an observed TTFT that was prefill, if that can be
// told: nothing was queued ahead, and the restore, as it really went, was no
// more than half of it. The rest is left to the calibration's own bounds.
func prefillMS(p *placement, r *Record, observed float64) (float64, bool) {
	if !p.idle {
		return 0, false
	}
	waited := 0.0
	if r.Onboard != nil {
		if r.Onboard.Error != "" {
			return 0, false
		}
		waited = r.Onboard.MS
	}
	if waited > observed/2 {
		return 0, false
	}
	return observed - waited, true
}

// cachedTokens is how much of the prompt was not computed: what the engine
// says, else what was predicted. The last token always is.
func cachedTokens(r *Record) int {
	cached := r.winner().CachedTokens
	if r.Usage != nil && r.Usage.CachedTokens >= 0 {
		cached = r.Usage.CachedTokens
	}
	return max(0, min(cached, r.Tokens-1))
}

// checkTokens compares our count of the prompt's tokens with the engine's.
// They differ when tokenizer or template do, and then no block is ever found:
// that must not stay unseen.
func (g *Gateway) checkTokens(x *exchange, r *Record) {
	if r.Usage == nil || r.TokensFrom != fromGateway || r.Usage.PromptTokens == r.Tokens || r.Usage.PromptTokens == 0 {
		return
	}
	g.metrics.mismatches.WithLabelValues(r.Model).Inc()
	g.doubts.compared(r.Model, false)
	x.log().Warn("the engine counted the prompt's tokens differently: its tokenizer or chat template is not the gateway's",
		"model", r.Model, "worker", r.Chosen, "gateway", r.Tokens, "engine", r.Usage.PromptTokens)
}

// hits is how many tokens of the prompt came from each tier: as the agent
// reports it, else as planned.
func hits(r *Record) (tokens [kv.NumTiers]int) {
	c := r.winner()
	if c == nil {
		return tokens
	}
	blocks := c.Blocks
	if r.Onboard != nil && r.Onboard.Error == "" {
		blocks = r.Onboard.Blocks
	}
	for t, n := range blocks {
		tokens[t] = n * r.BlockSize
	}
	return tokens
}
