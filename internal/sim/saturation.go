package sim

import "github.com/kvasir-ai/kvasir/internal/trace"

// Saturation is the factor on t's arrival rate at which the fleet of o could just
// keep up if nothing were ever computed twice: each prompt's longest prefix that
// any earlier one had comes from an infinite cache, each chunk is as large and
// each batch as full as they can be, and no worker ever waits for work. No policy
// reaches it; 1 is the trace's own rate.
func Saturation(t *trace.Trace, o *Options) float64 {
	seen := map[uint64]bool{}
	busyMS := 0.0
	for i := range t.Requests {
		r := &t.Requests[i]
		cached := 0
		for cached < r.Reusable(t.BlockSize) && seen[r.Blocks[cached]] {
			cached++
		}
		for _, id := range r.Blocks {
			seen[id] = true
		}
		busyMS += o.requestMS(r, cached*t.BlockSize, o.blocks(t)*t.BlockSize)
	}
	pace := 0.0 // of the whole fleet, in workers of the timing's own pace
	for w := range o.Workers {
		pace += 1 / o.slower(w)
	}
	return pace * float64(t.Duration().Milliseconds()) / busyMS
}

// requestMS is the engine time that one request takes when steps are shared as
// well as can be.
func (o *Options) requestMS(r *trace.Request, cached, capacity int) float64 {
	ms := 0.0
	for done := cached; done < r.Input; {
		n := min(o.ChunkTokens, r.Input-done)
		done += n
		step := Step{Prefills: []Chunk{{Tokens: n, Context: done, Last: done == r.Input}}}
		ms += o.Timing.StepMS(&step)
	}
	context := r.Input + r.Output/2
	batch := max(1, min(o.MaxBatch, capacity/context))
	step := Step{Decodes: batch, KVTokens: batch * context, Capacity: capacity}
	return ms + o.Timing.StepMS(&step)/float64(batch)*float64(r.Output-1)
}
