package gateway

import (
	"math"
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
	Stream    bool      `json:"stream"`

	// Tokens is the prompt's length; 0 while or if unknown.
	Tokens int `json:"tokens"`
	// TokensFrom says who counted: gateway, client, engine, or none.
	TokensFrom string `json:"tokens_from,omitempty"`
	BlockSize  int    `json:"block_size,omitempty"`

	Policy string      `json:"policy,omitempty"`
	Seed   uint64      `json:"seed"`
	Why    string      `json:"why,omitempty"`
	Chosen kv.WorkerID `json:"chosen,omitempty"`
	// Candidates are all workers that could have served the request, chosen or
	// not, of the last decision.
	Candidates []Candidate `json:"candidates"`
	// Failed are the workers that were tried before the chosen one.
	Failed []FailedAttempt `json:"failed_attempts,omitempty"`
	// Onboard is what the chosen worker's agent made of the restore plan.
	Onboard *Onboarded `json:"onboard,omitempty"`

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

// Candidate is one worker as the router priced it: queue + restore + prefill =
// ttft, and ttft + harm = score. The terms are rounded to microseconds before
// they are added, so the printed sums hold.
type Candidate struct {
	router.Estimate
	// Inputs are what the prices follow from.
	Inputs Inputs `json:"inputs"`
}

// Inputs is what the router was told about a candidate.
type Inputs struct {
	Held  []HeldRun    `json:"held"`
	Load  router.Load  `json:"load"`
	Rates router.Rates `json:"rates"`
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

// candidate turns the router's estimate and its inputs into the record's form.
func candidate(c *router.Candidate, e router.Estimate) Candidate {
	for _, ms := range [...]*float64{&e.QueueMS, &e.RestoreMS, &e.PrefillMS, &e.HarmMS, &e.RestoreLinkMS} {
		*ms = toMicros(*ms)
	}
	e.TTFTMS = toMicros(e.QueueMS + e.RestoreMS + e.PrefillMS)
	e.ScoreMS = toMicros(e.TTFTMS + e.HarmMS)
	in := Inputs{Load: c.Load, Rates: c.Rates, Held: make([]HeldRun, len(c.Spans))}
	for i, s := range c.Spans {
		in.Held[i] = HeldRun{Blocks: s.Blocks, Tiers: s.Tiers.String()}
	}
	return Candidate{Estimate: e, Inputs: in}
}

// restored is how many of the blocks come from below the engine's own memory.
func restored(b router.TierBlocks) int { return b.Total() - b[kv.GPU] }

// winner is the chosen candidate, nil before a decision.
func (r Record) winner() *Candidate {
	for i := range r.Candidates {
		if r.Candidates[i].Worker == r.Chosen {
			return &r.Candidates[i]
		}
	}
	return nil
}

// toMicros rounds milliseconds to whole microseconds.
func toMicros(ms float64) float64 { return math.Round(ms*1000) / 1000 }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
