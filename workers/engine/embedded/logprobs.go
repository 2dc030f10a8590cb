package embedded

import "math"

// leastLogprob stands for minus infinity, which JSON cannot hold.
const leastLogprob = -9999

// tokenLogprob is the logarithm of a token's probability.
type tokenLogprob struct {
	id      uint32
	logprob float64
}

// logprobs are those of one position: the chosen token's and the most likely ones'.
type logprobs struct {
	chosen tokenLogprob
	top    []tokenLogprob
}

// logprobsOf reads them from the model's own logits, before penalties and
// temperature, as vLLM does by default.
func logprobsOf(logits []float32, id uint32, top int) logprobs {
	best := float64(logits[argmax(logits)])
	sum := 0.0
	for _, l := range logits {
		sum += math.Exp(float64(l) - best)
	}
	norm := best + math.Log(sum)
	of := func(id uint32) tokenLogprob {
		return tokenLogprob{id, max(float64(logits[id])-norm, leastLogprob)}
	}
	r := logprobs{chosen: of(id)}
	ids := make([]uint32, 0, top+1)
	for i, l := range logits {
		at := len(ids)
		for at > 0 && l > logits[ids[at-1]] {
			at--
		}
		if at == top {
			continue
		}
		ids = append(ids, 0)
		copy(ids[at+1:], ids[at:])
		ids[at] = uint32(i)
		ids = ids[:min(len(ids), top)]
	}
	for _, id := range ids {
		r.top = append(r.top, of(id))
	}
	return r
}
