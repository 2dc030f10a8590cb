package gateway

import (
	"fmt"
	"strings"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Line is the record as one line for a terminal: prompt and answer tokens, hit
// by tier, worker, restored and recomputed blocks, predicted -> observed TTFT.
//
//	chat 812+64 tok → w1 | hit gpu 40, disk 8 | restored 8 in 12 ms | recomputed 3 | ttft 61 → 58 ms | stop
func (r *Record) Line() string {
	parts := []string{r.who(), r.hit()}
	if o := r.Onboard; o != nil {
		parts = append(parts, o.line())
	}
	if c := r.winner(); c != nil && r.Tokens > 0 {
		parts = append(parts, fmt.Sprintf("recomputed %d", c.RecomputeBlocks+r.missed()))
	}
	parts = append(parts, r.timing(), r.ending())
	return strings.Join(parts, " | ")
}

func (r *Record) who() string {
	tokens := "?"
	if r.Tokens > 0 {
		tokens = fmt.Sprint(r.Tokens)
	}
	if r.Usage != nil {
		tokens = fmt.Sprintf("%d+%d", r.Usage.PromptTokens, r.Usage.CompletionTokens)
	}
	worker := string(r.Chosen)
	if worker == "" {
		worker = "no worker"
	}
	return fmt.Sprintf("%s %s tok → %s", r.Endpoint, tokens, worker)
}

// hit is what was found where, as the router saw it.
func (r *Record) hit() string {
	c := r.winner()
	if c == nil || c.Cut == 0 {
		return "hit none"
	}
	var tiers []string
	for t, n := range c.Blocks {
		if n > 0 {
			tiers = append(tiers, fmt.Sprintf("%s %d", kv.Tier(t), n))
		}
	}
	return "hit " + strings.Join(tiers, ", ")
}

func (o *Onboarded) line() string {
	if o.Error != "" {
		return "restore failed: " + o.Error
	}
	s := fmt.Sprintf("restored %d in %s ms", restored(o.Blocks), short(o.MS))
	if o.Missed > 0 {
		s += fmt.Sprintf(", missed %d", o.Missed)
	}
	return s
}

func (r *Record) missed() int {
	if r.Onboard == nil {
		return 0
	}
	return r.Onboard.Missed
}

func (r *Record) timing() string {
	if r.ObservedTTFTMS == nil {
		return fmt.Sprintf("ttft %s predicted, %s ms in all", optional(r.PredictedTTFTMS), short(r.DurationMS))
	}
	return fmt.Sprintf("ttft %s → %s ms", optional(r.PredictedTTFTMS), short(*r.ObservedTTFTMS))
}

func (r *Record) ending() string {
	if r.Outcome != outcomeOK {
		return fmt.Sprintf("%d %s", r.Status, r.Outcome)
	}
	if r.Finish != "" {
		return r.Finish
	}
	return r.Outcome
}

func optional(ms *float64) string {
	if ms == nil {
		return "?"
	}
	return short(*ms)
}

// short prints milliseconds with as many digits as tell something.
func short(ms float64) string {
	if ms < 10 {
		return fmt.Sprintf("%.1f", ms)
	}
	return fmt.Sprintf("%.0f", ms)
}
