package router

import "github.com/kvasir-ai/kvasir/internal/kv"

// Estimate is what serving the request on one worker is predicted to cost.
type Estimate struct {
	Worker kv.WorkerID `json:"worker"`
	Role   kv.Role     `json:"role,omitempty"`
	// QueueMS is the time until the worker turns to this request.
	QueueMS float64 `json:"queue_ms"`
	// RestoreMS is the part of the restore that the queue does not hide:
	// max(queue, restore) = QueueMS + RestoreMS. RestoreLinkMS is the whole.
	RestoreMS float64 `json:"restore_ms"`
	PrefillMS float64 `json:"prefill_ms"`
	// AdapterMS is the time to load the LoRA adapter that the request asks for.
	AdapterMS float64 `json:"adapter_ms,omitempty"`
	// TransferMS is the time that the prompt's KV takes from the prefill worker
	// to this one, when there are two.
	TransferMS float64 `json:"transfer_ms,omitempty"`
	// TTFTMS is QueueMS + RestoreMS + AdapterMS + PrefillMS + TransferMS.
	TTFTMS float64 `json:"ttft_ms"`
	// HarmMS is what the choice costs beyond that: see harm and strain.
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

	// Split is set when another worker does the prefill.
	Split *Split `json:"split,omitempty"`
}

// query is a request with what every estimate needs of it, worked out once.
type query struct {
	Request
	blocks, maxCut int
	tokens, pairs  float64 // of the whole prompt: what a prefill from scratch computes
	busy           float64 // share of the candidates at which somebody waits
}

func newQuery(r *Request, cs []Candidate) query {
	busy := 0
	for i := range cs {
		if cs[i].Load.Waiting > 0 {
			busy++
		}
	}
	return query{Request: *r, blocks: r.blocks(), maxCut: r.maxCut(), tokens: float64(r.Tokens), pairs: attended(r.Tokens, r.Tokens),
		busy: float64(busy) / float64(max(1, len(cs)))}
}

// scratchMS is the time of a prefill of the whole prompt.
func (q *query) scratchMS(r *Rates) float64 {
	return r.PrefillBaseMS + r.PrefillPerTokenMS*q.tokens + r.PrefillPerTokenContextMS*q.pairs
}

// estimate prices c for q, in full. It writes every field of e.
func estimate(e *Estimate, q *query, c *Candidate) {
	plan := bestCut(q, c)
	e.Worker, e.Role = c.Worker, c.Role
	e.QueueMS = c.Load.QueuedPrefillMS
	e.RestoreMS = max(0, plan.restoreMS-c.Load.QueuedPrefillMS)
	e.RestoreLinkMS = plan.restoreMS
	e.PrefillMS = plan.prefillMS
	e.Cut, e.Blocks = plan.cut, TierBlocks{}
	c.sources(&e.Blocks, q, plan.cut)
	e.RecomputeBlocks = q.blocks - plan.cut
	e.CachedTokens = plan.cut * q.BlockSize
	e.ComputeTokens = q.Tokens - e.CachedTokens
	e.HarmMS = harm(q, c, e.PrefillMS)
	e.AdapterMS, e.TransferMS, e.Split = 0, 0, nil
	if c.Adapter != AdapterReady {
		e.adapter(c)
	}
	e.sum()
	e.HarmMS += strain(&c.Rates, e.TTFTMS)
	e.ScoreMS = e.TTFTMS + e.HarmMS
}

// adapter adds what it costs that the request's adapter is not loaded. One that
// must make room for it is somebody else's, who will load it again.
func (e *Estimate) adapter(c *Candidate) {
	e.AdapterMS = c.Rates.AdapterLoadMS
	if c.Adapter == AdapterFull {
		e.HarmMS += c.Rates.AdapterLoadMS
	}
}

// sum adds the terms up.
func (e *Estimate) sum() {
	e.TTFTMS = e.QueueMS + e.RestoreMS + e.AdapterMS + e.PrefillMS + e.TransferMS
	e.ScoreMS = e.TTFTMS + e.HarmMS
}
