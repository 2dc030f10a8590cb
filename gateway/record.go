package gateway

import (
	"math"
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// Record is what was decided about one request, why, and what came of it. It
// holds no prompt text. Its JSON is the answer of /kvasir/v1/decisions/{id}.
type Record struct {
	RequestID string    `json:"request_id"`
	Time      time.Time `json:"time"`
	Endpoint  string    `json:"endpoint"`
	Model     string    `json:"model"`
	// Tenant is who asked, where tenants are known.
	Tenant string `json:"tenant,omitempty"`
	Stream bool   `json:"stream"`

	// Tokens is the prompt's length; 0 while or if unknown.
	Tokens int `json:"tokens"`
	// TokensFrom says who counted: gateway, client, engine, or none.
	TokensFrom string `json:"tokens_from,omitempty"`
	BlockSize  int    `json:"block_size,omitempty"`

	Policy string      `json:"policy,omitempty"`
	Seed   uint64      `json:"seed"`
	Why    string      `json:"why,omitempty"`
	Chosen kv.WorkerID `json:"chosen,omitempty"`
	// Prefill is the worker of the first leg, if that is another.
	Prefill kv.WorkerID `json:"chosen_prefill,omitempty"`
	// RunnerUp would have been next, after RunnerUpPrefill if it is set.
	RunnerUp        kv.WorkerID `json:"runner_up,omitempty"`
	RunnerUpPrefill kv.WorkerID `json:"runner_up_prefill,omitempty"`
	// Asked is what the router was asked; nil before a decision.
	Asked *router.Request `json:"asked,omitempty"`
	// Cut is what the chosen worker's cut was better than.
	Cut *CutChoice `json:"cut_choice,omitempty"`
	// Candidates are all workers that could have served the request, chosen or
	// not, of the last decision. Of decisions in large fleets that are not kept
	// whole, they are the chosen one and the runner-up.
	Candidates []Candidate `json:"candidates"`
	// LeftOut is how many candidates were not kept.
	LeftOut int `json:"candidates_left_out,omitempty"`
	// Failed are the workers that were tried before the chosen one.
	Failed []FailedAttempt `json:"failed_attempts,omitempty"`
	// Legs are the parts of two workers that shared the request, of all attempts.
	Legs []Leg `json:"legs,omitempty"`
	// Bypass says why one worker served it where two could have: cached, short,
	// queue or cheaper, or what made it impossible.
	Bypass string `json:"bypass,omitempty"`
	// Migrations is how often the stream went on at another worker.
	Migrations int `json:"migrations,omitempty"`
	// Onboard is what the chosen worker's agent made of the restore plan.
	Onboard *Onboarded `json:"onboard,omitempty"`

	// QueuedMS is how long it waited in the gateway for a worker to have time.
	QueuedMS        float64  `json:"queued_ms,omitempty"`
	PredictedTTFTMS *float64 `json:"predicted_ttft_ms"`
	// ObservedTTFTMS is from dispatch to first token; null if no token was
	// seen, or the answer was not a stream and longer than a token.
	ObservedTTFTMS *float64 `json:"observed_ttft_ms"`
	DurationMS     float64  `json:"duration_ms"`
	Usage          *Usage   `json:"usage,omitempty"`

	// Done turns true when the request has ended; until then the fields about
	// its end are zero.
	Done   bool `json:"done"`
	Status int  `json:"status"`
	// Outcome is "ok" or the code of the error that ended the request.
	Outcome string `json:"outcome,omitempty"`
	// Finish is the engine's finish_reason.
	Finish string `json:"finish_reason,omitempty"`
}

// CutChoice is what else the chosen worker could have done.
type CutChoice struct {
	// NothingMS is its TTFT if it computed the whole prompt, EverythingMS if it
	// restored all HeldBlocks that it holds or can fetch.
	NothingMS    float64 `json:"nothing_ttft_ms"`
	EverythingMS float64 `json:"everything_ttft_ms"`
	HeldBlocks   int     `json:"held_blocks"`
}

// Candidate is one worker as the router priced it: queue + restore + adapter +
// prefill + transfer = ttft, and ttft + harm = score. The terms are rounded to
// microseconds before they are added, so the printed sums hold. One with a split
// is a decode worker with a prefill worker before it.
type Candidate struct {
	router.Estimate
	// Inputs are what the prices follow from; a split's are its two workers'.
	Inputs Inputs `json:"inputs,omitzero"`
}

// Inputs is what the router was told about a candidate.
type Inputs struct {
	Adapter router.Adapter `json:"adapter,omitzero"`
	Held    []HeldRun      `json:"held"`
	// Predicted is how many of the blocks held, the last ones, the worker did not
	// tell of: it was sent them, and tells nothing.
	Predicted int          `json:"predicted,omitempty"`
	Load      router.Load  `json:"load"`
	Rates     router.Rates `json:"rates"`
}

// HeldRun is a run of leading blocks and the tiers that hold them.
type HeldRun struct {
	Blocks int    `json:"blocks"`
	Tiers  string `json:"tiers"`
}

// FailedAttempt is a worker that was tried in vain.
type FailedAttempt struct {
	Worker kv.WorkerID `json:"worker"`
	Why    string      `json:"why"`
}

// Onboarded is the outcome of a restore plan.
type Onboarded struct {
	// Planned is how many leading blocks the router asked for.
	Planned int `json:"planned"`
	// Blocks are those brought up, by tier; gpu counts those already there.
	Blocks router.TierBlocks  `json:"blocks"`
	Missed int                `json:"missed"`
	Bytes  int64              `json:"bytes"`
	MS     float64            `json:"ms"`
	LinkMS map[string]float64 `json:"link_ms,omitempty"`
	Error  string             `json:"error,omitempty"`
}

func onboarded(planned int, r workers.OnboardResult, err error) *Onboarded {
	o := &Onboarded{
		Planned: planned, Blocks: router.TierBlocks(r.Blocks), Missed: r.Missed, Bytes: r.Bytes, MS: milliseconds(r.Elapsed),
	}
	for t, d := range r.LinkElapsed {
		if d > 0 {
			if o.LinkMS == nil {
				o.LinkMS = map[string]float64{}
			}
			o.LinkMS[kv.Tier(t).String()] = milliseconds(d)
		}
	}
	if err != nil {
		o.Error = err.Error()
	}
	return o
}

// NewRecord is the record of a decision that was made elsewhere than in a live
// gateway, with all its candidates: explain shows it and Replay repeats it.
func NewRecord(req router.Request, cs []router.Candidate, d router.Decision) Record {
	r := Record{RequestID: req.ID, Time: req.Now, Tokens: req.Tokens}
	r.decided(&req, cs, &d, true)
	return r
}

// decided takes in a decision; whole says that all candidates are kept.
func (r *Record) decided(req *router.Request, cs []router.Candidate, d *router.Decision, whole bool) {
	asked := *req
	r.Asked, r.BlockSize = &asked, req.BlockSize
	next := d.RunnerUp()
	r.Policy, r.Seed, r.Why, r.Chosen = d.Policy, d.Seed, d.ReasonOver(next), d.Worker()
	keep := make([]int, 0, 4)
	for _, i := range [...]int{d.Chosen, next} {
		if i < 0 {
			continue
		}
		keep = append(keep, i)
		if s := d.Estimates[i].Split; s != nil {
			keep = append(keep, s.Leg())
		}
	}
	r.Prefill, r.RunnerUp, r.RunnerUpPrefill, r.Cut = "", "", "", nil // of a decision before this one
	if leg := d.PrefillLeg(); leg != nil {
		r.Prefill = leg.Worker
	}
	r.Bypass = bypass(req, d)
	if next >= 0 {
		r.RunnerUp = d.Estimates[next].Worker
		if s := d.Estimates[next].Split; s != nil {
			r.RunnerUpPrefill = s.Prefill
		}
	}
	slices.Sort(keep)
	if keep = slices.Compact(keep); whole {
		keep = keep[:0]
		for i := range d.Estimates {
			keep = append(keep, i)
		}
	}
	r.Candidates = make([]Candidate, len(keep))
	for to, i := range keep {
		r.Candidates[to] = priced(d.Estimates[i])
		if i < len(cs) {
			r.Candidates[to].Inputs = inputs(&cs[i])
		}
	}
	r.LeftOut = len(d.Estimates) - len(keep)
	if d.Chosen >= 0 && d.Chosen < len(cs) {
		c := &cs[d.Chosen]
		nothing, everything := c.Alternatives(req)
		r.Cut = &CutChoice{toMicros(nothing), toMicros(everything), heldBlocks(c.Spans)}
	}
	if w := r.winner(); w != nil {
		predicted := w.TTFTMS
		r.PredictedTTFTMS = &predicted
	}
}

// priced is the router's estimate in the record's form.
func priced(e router.Estimate) Candidate {
	for _, ms := range [...]*float64{&e.QueueMS, &e.RestoreMS, &e.PrefillMS, &e.AdapterMS, &e.TransferMS, &e.HarmMS, &e.RestoreLinkMS} {
		*ms = toMicros(*ms)
	}
	e.TTFTMS = toMicros(e.QueueMS + e.RestoreMS + e.AdapterMS + e.PrefillMS + e.TransferMS)
	e.ScoreMS = toMicros(e.TTFTMS + e.HarmMS)
	if e.Split != nil {
		s := *e.Split // the router's own is reused
		s.WaitMS, s.StepMS, s.HarmMS = toMicros(s.WaitMS), toMicros(s.StepMS), toMicros(s.HarmMS)
		e.Split = &s
	}
	return Candidate{Estimate: e}
}

func inputs(c *router.Candidate) Inputs {
	in := Inputs{Adapter: c.Adapter, Predicted: c.Predicted, Load: c.Load, Rates: c.Rates, Held: make([]HeldRun, len(c.Spans))}
	for i, s := range c.Spans {
		in.Held[i] = HeldRun{Blocks: s.Blocks, Tiers: s.Tiers.String()}
	}
	return in
}

func heldBlocks(spans []kv.Span) (n int) {
	for _, s := range spans {
		n += s.Blocks
	}
	return n
}

// restored is how many of the blocks come from below the engine's own memory.
func restored(b router.TierBlocks) int { return b.Total() - b[kv.GPU] }

// winner is the chosen candidate, nil before a decision.
func (r *Record) winner() *Candidate {
	for i := range r.Candidates {
		if c := &r.Candidates[i]; c.Worker == r.Chosen && c.Prefill() == r.Prefill {
			return c
		}
	}
	return nil
}

// Prefill is the worker of the first leg, "" if it is the same.
func (c *Candidate) Prefill() kv.WorkerID {
	if c.Split == nil {
		return ""
	}
	return c.Split.Prefill
}

// toMicros rounds milliseconds to whole microseconds.
func toMicros(ms float64) float64 { return math.Round(ms*1000) / 1000 }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
