package router

import (
	"hash/fnv"
	"math"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// The baselines that every gateway has. They ignore the estimates, which are
// there to show what the choice cost.

func chooseRoundRobin(seed uint64, _ *Request, cs []Candidate, _ []Estimate) int {
	return int(seed % uint64(len(cs)))
}

func chooseRandom(seed uint64, _ *Request, cs []Candidate, _ []Estimate) int {
	return int(below(mix(seed, 0), uint64(len(cs))))
}

// chooseLeastLoaded takes the worker with the fewest requests.
func chooseLeastLoaded(seed uint64, _ *Request, cs []Candidate, _ []Estimate) int {
	return lowest(seed, len(cs), func(i int) float64 { return cs[i].Load.requests() })
}

// choosePrefixOnly takes the worker that holds most of the prompt, in whatever
// tier, however busy it is.
func choosePrefixOnly(seed uint64, _ *Request, cs []Candidate, _ []Estimate) int {
	return lowest(seed, len(cs), func(i int) float64 { return -float64(held(cs[i].Spans)) })
}

// boundedLoad is how far above the mean a worker's load may be before a session
// moves on.
const boundedLoad = 1.25

// chooseSessionHash sends a session where it went before, unless that worker has
// more than boundedLoad of the mean load: then to the session's next choice.
// Every session has an order of all workers of its own (rendezvous hashing), so
// a worker that comes or goes moves only the sessions it gets or had.
func chooseSessionHash(_ uint64, r *Request, cs []Candidate, _ []Estimate) int {
	total := 1.0
	for i := range cs {
		total += cs[i].Load.requests()
	}
	bound := math.Ceil(boundedLoad * total / float64(len(cs)))
	best, bestRank := 0, uint64(0)
	for i := range cs {
		// The total counts this request, so some worker is below the bound.
		if rank := rendezvous(r.session(), cs[i].Worker); cs[i].Load.requests() < bound && rank >= bestRank {
			best, bestRank = i, rank
		}
	}
	return best
}

func rendezvous(session string, w kv.WorkerID) uint64 {
	h := fnv.New64a()
	h.Write([]byte(session))
	h.Write([]byte{0})
	h.Write([]byte(w))
	return mix(h.Sum64(), 0)
}

// session is what requests of one conversation have in common.
func (r *Request) session() string {
	if r.Session != "" {
		return r.Session
	}
	return r.ID
}

// requests is the number of requests on the worker.
func (l *Load) requests() float64 { return float64(l.Running + l.Waiting) }

// held is the number of blocks in spans.
func held(spans []kv.Span) (n int) {
	for _, s := range spans {
		n += s.Blocks
	}
	return n
}
