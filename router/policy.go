package router

import (
	"fmt"
	"math"
	"math/bits"
	"slices"
	"strings"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Policy chooses a worker. It keeps no state but its seed, which it advances by
// one with every decision.
type Policy interface {
	Name() string
	// Decide prices every candidate and chooses one. It does not keep the
	// candidates or their spans.
	Decide(Request, []Candidate) Decision
	// DecideInto is Decide for those who decide often: it fills d, reusing its
	// memory, and leaves Why to those who ask for it.
	DecideInto(d *Decision, r *Request, cs []Candidate)
	// Fork is a policy that will decide as this one would, for those who only
	// ask: what it decides does not advance this one's seed.
	Fork() Policy
}

// chooser is the part in which policies differ: the index of the best estimate.
// There is at least one candidate.
type chooser func(seed uint64, r *Request, cs []Candidate, es []Estimate) int

// predicted is the name of our own policy.
const predicted = "predicted"

// policies are all policies, ours first.
var policies = []struct {
	name   string
	choose chooser
}{
	{predicted, choosePredicted},
	{"round-robin", chooseRoundRobin},
	{"random", chooseRandom},
	{"least-loaded", chooseLeastLoaded},
	{"session-hash", chooseSessionHash},
	{"prefix-only", choosePrefixOnly},
	{"dynamo", chooseDynamo},
	{"llm-d", chooseLLMD},
	{"smg", chooseSMG},
}

// Policies are the names that NewPolicy knows.
func Policies() []string {
	names := make([]string, len(policies))
	for i, p := range policies {
		names[i] = p.name
	}
	return names
}

// NewPolicy makes the named policy. Equal seeds make equal choices.
func NewPolicy(name string, seed uint64) (Policy, error) {
	for _, p := range policies {
		if p.name == name {
			return &policy{p.name, p.choose, seed}, nil
		}
	}
	return nil, fmt.Errorf("router: unknown policy %q: use one of %s", name, strings.Join(Policies(), ", "))
}

type policy struct {
	name   string
	choose chooser
	seed   uint64
}

func (p *policy) Name() string { return p.name }

func (p *policy) Fork() Policy {
	fork := *p
	return &fork
}

func (p *policy) Decide(r Request, cs []Candidate) Decision {
	var d Decision
	p.DecideInto(&d, &r, cs)
	d.Why = d.Reason()
	return d
}

func (p *policy) DecideInto(d *Decision, r *Request, cs []Candidate) {
	d.RequestID, d.Policy, d.Chosen, d.Seed, d.Why = r.ID, p.name, -1, p.seed, ""
	d.Estimates = slices.Grow(d.Estimates[:0], len(cs))[:len(cs)]
	p.seed++
	if len(cs) == 0 {
		return
	}
	q := newQuery(r, cs)
	roles := kv.Aggregated
	for i := range cs {
		estimate(&d.Estimates[i], &q, &cs[i])
		roles |= cs[i].Role
	}
	if roles != kv.Aggregated {
		p.decideSplit(d, r, cs)
		return
	}
	d.Chosen = p.choose(d.Seed, r, cs, d.Estimates)
}

// choosePredicted takes the lowest predicted cost to this request and others.
func choosePredicted(seed uint64, _ *Request, _ []Candidate, es []Estimate) int {
	return lowest(seed, len(es), func(i int) float64 { return es[i].ScoreMS })
}

// lowest is the index below n with the lowest cost; ties are broken by seed.
func lowest(seed uint64, n int, cost func(int) float64) int {
	best, bestCost, ties := 0, math.Inf(1), uint64(0)
	for i := range n {
		switch c := cost(i); {
		case c < bestCost:
			best, bestCost, ties = i, c, 1
		case c == bestCost:
			// Reservoir sampling: the i-th of the equals replaces the one kept
			// with probability 1/i, so all are equally likely.
			if ties++; below(mix(seed, ties), ties) == 0 {
				best = i
			}
		}
	}
	return best
}

// mix is the n-th number of the seed's stream (SplitMix64).
func mix(seed, n uint64) uint64 {
	z := (seed ^ n*0xd1342543de82ef95) + 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

// below maps the random x onto 0..n-1.
func below(x, n uint64) uint64 {
	hi, _ := bits.Mul64(x, n)
	return hi
}
