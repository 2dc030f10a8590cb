package router

import (
	"strconv"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Reason says in one sentence what was chosen and what the runner-up would have
// cost.
func (d *Decision) Reason() string { return d.ReasonOver(d.RunnerUp()) }

// ReasonOver is Reason for those who know the runner-up already.
func (d *Decision) ReasonOver(next int) string {
	if d.Chosen < 0 {
		if len(d.Estimates) > 0 {
			return "no candidate decodes"
		}
		return "no candidate"
	}
	e := &d.Estimates[d.Chosen]
	b := make([]byte, 0, 160)
	b = appendRoute(b, e)
	b = append(b, " starts in "...)
	b = appendMS(b, e.TTFTMS)
	b = append(b, ": "...)
	b = appendPlan(b, e)
	if next < 0 {
		return string(append(b, "; no other candidate"...))
	}
	n := &d.Estimates[next]
	b = append(b, "; "...)
	b = appendRoute(b, n)
	b = append(b, " would score "...)
	b = appendMS(b, n.ScoreMS)
	b = append(b, " against "...)
	return string(appendMS(b, e.ScoreMS))
}

// appendRoute names the worker, or both of a split.
func appendRoute(b []byte, e *Estimate) []byte {
	if e.Split != nil {
		b = append(b, e.Split.Prefill...)
		b = append(b, " then "...)
	}
	return append(b, e.Worker...)
}

// appendPlan says where the prompt's blocks come from.
func appendPlan(b []byte, e *Estimate) []byte {
	b = strconv.AppendInt(b, int64(e.Cut), 10)
	b = append(b, " of "...)
	b = strconv.AppendInt(b, int64(e.Cut+e.RecomputeBlocks), 10)
	b = append(b, " blocks kept"...)
	sep := " ("
	for t, n := range e.Blocks {
		if n > 0 {
			b = append(b, sep...)
			b = append(b, kv.Tier(t).String()...)
			b = append(b, ' ')
			b = strconv.AppendInt(b, int64(n), 10)
			sep = ", "
		}
	}
	if e.Cut > 0 {
		b = append(b, ')')
	}
	return b
}

// RunnerUp is the best estimate by score besides the chosen one, -1 if none.
func (d *Decision) RunnerUp() int {
	best := -1
	for i := range d.Estimates {
		if i != d.Chosen && d.Estimates[i].whole() && (best < 0 || d.Estimates[i].ScoreMS < d.Estimates[best].ScoreMS) {
			best = i
		}
	}
	return best
}

func appendMS(b []byte, ms float64) []byte {
	return append(strconv.AppendFloat(b, ms, 'f', 1, 64), " ms"...)
}
