package embedded

import (
	"math"
	"math/rand/v2"
)

// sampling says how the next token is chosen. Zero values are not defaults:
// see defaultSampling.
type sampling struct {
	temperature, topP, minP         float64
	topK                            int // 0: all
	repetition, presence, frequency float64
	bias                            map[uint32]float32
	seed                            uint64
}

var defaultSampling = sampling{temperature: 1, topP: 1, repetition: 1}

// greedyBelow is the temperature under which sampling is greedy, as in vLLM.
const greedyBelow = 1e-5

// sampler chooses one sequence's tokens. Its choices depend on its parameters,
// its seed and the logits it was shown, never on other sequences.
type sampler struct {
	sampling
	rng    *rand.Rand
	prompt map[uint32]struct{} // kept only for the repetition penalty
	output map[uint32]int      // how often each token was chosen
}

func newSampler(p sampling, prompt []uint32) *sampler {
	s := &sampler{sampling: p, rng: rand.New(rand.NewPCG(p.seed, 0x6b766173)), output: map[uint32]int{}}
	if p.repetition != 1 {
		s.prompt = make(map[uint32]struct{}, len(prompt))
		for _, id := range prompt {
			s.prompt[id] = struct{}{}
		}
	}
	return s
}

// scratch is the working memory that samplers of one goroutine share.
type scratch struct {
	logits     []float32
	candidates []candidate
}

// sample chooses the next token; banned ones are never chosen.
func (s *sampler) sample(logits []float32, banned []uint32, w *scratch) uint32 {
	w.logits = append(w.logits[:0], logits...)
	s.penalise(w.logits)
	for _, id := range banned {
		w.logits[id] = float32(math.Inf(-1))
	}
	var id uint32
	if s.temperature < greedyBelow {
		id = argmax(w.logits)
	} else {
		id = s.draw(w)
	}
	s.output[id]++
	return id
}

func (s *sampler) penalise(logits []float32) {
	if s.repetition != 1 {
		r := float32(s.repetition)
		repeat := func(id uint32) {
			if logits[id] > 0 {
				logits[id] /= r
			} else {
				logits[id] *= r
			}
		}
		for id := range s.prompt {
			repeat(id)
		}
		for id := range s.output {
			if _, done := s.prompt[id]; !done {
				repeat(id)
			}
		}
	}
	if s.presence != 0 || s.frequency != 0 {
		for id, n := range s.output {
			logits[id] -= float32(s.presence + s.frequency*float64(n))
		}
	}
	for id, b := range s.bias {
		logits[id] += b
	}
}

// argmax is the most likely token, the lowest id among equals.
func argmax(logits []float32) uint32 {
	best := 0
	for i, l := range logits {
		if l > logits[best] {
			best = i
		}
	}
	return uint32(best)
}

// candidate is a token and its weight: its probability times a constant.
type candidate struct {
	weight float64
	id     uint32
}

func (c candidate) before(d candidate) bool {
	return c.weight > d.weight || c.weight == d.weight && c.id < d.id
}

// draw applies temperature, min_p, top_k and top_p, in vLLM's order, and draws
// from what is left.
func (s *sampler) draw(w *scratch) uint32 {
	best := w.logits[argmax(w.logits)]
	c, total := w.candidates[:0], 0.0
	for i, l := range w.logits {
		p := math.Exp(float64(l-best) / s.temperature)
		if p > 0 && p >= s.minP {
			c = append(c, candidate{p, uint32(i)})
			total += p
		}
	}
	w.candidates = c
	if 0 < s.topK && s.topK < len(c) || s.topP < 1 {
		c, total = s.nucleus(c, total)
	}
	at := s.rng.Float64() * total
	for _, x := range c {
		if at -= x.weight; at < 0 {
			return x.id
		}
	}
	return c[len(c)-1].id // the sum rounded up
}

// nucleus keeps the topK heaviest candidates, and of those the fewest that
// together reach topP. A heap, because few of a vocabulary are ever kept.
func (s *sampler) nucleus(c []candidate, total float64) ([]candidate, float64) {
	k := len(c)
	if s.topK > 0 {
		k = min(k, s.topK)
	}
	heap := c
	for i := len(heap)/2 - 1; i >= 0; i-- {
		siftDown(heap, i)
	}
	// Each pop moves the heaviest to the end of the shrinking heap, so that the
	// kept ones lie, lightest first, at the end of c.
	pop := func() float64 {
		last := len(heap) - 1
		heap[0], heap[last] = heap[last], heap[0]
		heap = heap[:last]
		siftDown(heap, 0)
		return c[last].weight
	}
	if k < len(c) {
		total = 0
		for range k {
			total += pop()
		}
		c = c[len(heap):]
		sum := 0.0
		for i := len(c) - 1; i >= 0; i-- {
			if sum += c[i].weight; sum >= s.topP*total {
				return c[i:], sum
			}
		}
		return c, sum
	}
	sum := 0.0
	for len(heap) > 0 && (sum == 0 || sum < s.topP*total) {
		sum += pop()
	}
	return c[len(heap):], sum
}

func siftDown(h []candidate, i int) {
	for {
		child := 2*i + 1
		if child >= len(h) {
			return
		}
		if r := child + 1; r < len(h) && h[r].before(h[child]) {
			child = r
		}
		if !h[child].before(h[i]) {
			return
		}
		h[i], h[child] = h[child], h[i]
		i = child
	}
}
