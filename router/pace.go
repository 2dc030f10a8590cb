package router

import (
	"math"
	"slices"
)

// pace is how much longer one worker takes than the fleet's shape says: of its
// last paceWindow prefills, what a third did not exceed. What disturbs a prefill,
// such as a request of another gateway, only ever makes it longer.
type pace struct {
	log    float64 // of the factor
	recent [paceWindow]float64
	seen   int // of the recent ones
	next   int
	odd    int // outliers in a row
}

const (
	paceWindow = 32
	// paceNoise is several times what the logarithm of one prefill's time varies
	// by.
	paceNoise = 1.0
	// A prefill that is off by paceOutlier says more about its moment than about
	// the worker, but paceChange of them in a row mean that the worker has changed.
	paceOutlier = 4.0
	paceChange  = 5
	// paceHalfLife is how many prefills the others have, on average, until half of
	// what was learned of a worker that had none is forgotten.
	paceHalfLife = 16
	// paceMost bounds the factor both ways.
	paceMost = 1e6
)

// observe learns from a prefill that took ratio times what the shape says; false
// when it says nothing.
func (p *pace) observe(ratio float64) bool {
	log := math.Log(ratio)
	if !(math.Abs(log) <= math.Log(paceMost)) { // nor is it for a shape of zero
		return false
	}
	if p.seen > 0 && math.Abs(log-p.log) > math.Log(paceOutlier) {
		if p.odd++; p.odd < paceChange {
			return false
		}
		p.seen, p.next = 0, 0
	}
	p.odd = 0
	p.recent[p.next] = log
	p.next = (p.next + 1) % paceWindow
	p.seen = min(p.seen+1, paceWindow)
	sorted := p.recent
	slices.Sort(sorted[:p.seen])
	p.log = sorted[p.seen/3]
	return true
}

// paces are the logarithms of all workers' that have one, in order.
type paces []float64

// usual is the factor of a worker of which nothing is known: the median, which a
// few odd workers don't move.
func (ps paces) usual() float64 { return math.Exp(ps.median()) }

func (ps paces) median() float64 {
	if len(ps) == 0 {
		return 0
	}
	return ps[len(ps)/2]
}

// times is p's factor, when the others have had so many prefills on average since
// p's last one. What differs from the others by no more than the noise of so few
// prefills is taken for theirs: of equal workers, the one that chance makes look
// fastest would draw everybody. And one that looks slow is not asked, and could
// never show that it is not; so what was learned of it fades meanwhile.
func (ps paces) times(p *pace, since float64) float64 {
	if p.seen == 0 {
		return ps.usual()
	}
	off := (p.log - ps.median()) * math.Exp2(-since/paceHalfLife)
	if math.Abs(off) <= paceNoise/math.Sqrt(float64(p.seen)) {
		return ps.usual()
	}
	return math.Exp(ps.median() + off)
}

func (ps *paces) add(p *pace) {
	if p.seen > 0 {
		i, _ := slices.BinarySearch(*ps, p.log)
		*ps = slices.Insert(*ps, i, p.log)
	}
}

func (ps *paces) remove(p *pace) {
	if p.seen > 0 {
		i, _ := slices.BinarySearch(*ps, p.log)
		*ps = slices.Delete(*ps, i, i+1)
	}
}
