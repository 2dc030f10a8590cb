package trace

import (
	"fmt"
	"time"
)

// Trace is a workload.
type Trace struct {
	Name      string
	BlockSize int    // tokens
	SHA256    string // of the file it came from, or of what it was made from
	Requests  []Request
}

// Request is one prompt and the length of its answer.
type Request struct {
	At      time.Duration // of arrival, since the trace began
	Input   int           // tokens
	Output  int           // tokens
	Blocks  []uint64      // ids of the prompt's blocks, the last one maybe partial
	Session string        // what requests of one conversation share; "" if the trace doesn't say
}

// Check says what is wrong with the trace, if anything.
func (t *Trace) Check() error {
	if t.BlockSize <= 0 {
		return fmt.Errorf("trace: block size %d: want at least 1", t.BlockSize)
	}
	last := time.Duration(0)
	for i := range t.Requests {
		r := &t.Requests[i]
		if err := r.check(t.BlockSize, last); err != nil {
			return fmt.Errorf("trace: request %d: %w", i, err)
		}
		last = r.At
	}
	return nil
}

func (r *Request) check(blockSize int, last time.Duration) error {
	switch want := (r.Input + blockSize - 1) / blockSize; {
	case r.At < last:
		return fmt.Errorf("arrives at %v, before the one before it (%v)", r.At, last)
	case r.Input < 1 || r.Output < 1:
		return fmt.Errorf("input of %d and output of %d tokens: want at least 1 of each", r.Input, r.Output)
	case len(r.Blocks) != want:
		return fmt.Errorf("%d block ids for %d tokens in blocks of %d: want %d; is the block size right?", len(r.Blocks), r.Input, blockSize, want)
	}
	return nil
}

// Scale multiplies the arrival rate by factor.
func (t *Trace) Scale(factor float64) *Trace {
	s := *t
	s.Requests = make([]Request, len(t.Requests))
	for i, r := range t.Requests {
		r.At = time.Duration(float64(r.At) / factor)
		s.Requests[i] = r
	}
	return &s
}

// Duration is the time of the last arrival.
func (t *Trace) Duration() time.Duration {
	if len(t.Requests) == 0 {
		return 0
	}
	return t.Requests[len(t.Requests)-1].At
}

// Ceiling is the share of prompt tokens that an infinite cache shared by all
// would have: no routing can do better.
func (t *Trace) Ceiling() float64 {
	seen := map[uint64]bool{}
	tokens, hits := 0, 0
	for i := range t.Requests {
		r := &t.Requests[i]
		n := 0
		for n < r.Reusable(t.BlockSize) && seen[r.Blocks[n]] {
			n++
		}
		hits += n * t.BlockSize
		tokens += r.Input
		for _, id := range r.Blocks {
			seen[id] = true
		}
	}
	if tokens == 0 {
		return 0
	}
	return float64(hits) / float64(tokens)
}

// Reusable is how many of the prompt's blocks a cache can spare: the full ones,
// less the last token, which an engine always computes.
func (r *Request) Reusable(blockSize int) int { return (r.Input - 1) / blockSize }
