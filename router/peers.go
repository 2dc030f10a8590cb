package router

import (
	"iter"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Peers finds what workers can pull from each other: a worker that has a usable
// peer link can fetch blocks from the cpu tier of any other that has one.
// Reusing it saves its memory.
type Peers struct {
	// For each block, how many peers hold it in cpu, and the sum of their places:
	// with one holder, that is who. First as differences to the block before.
	holders []peerHolders
	runs    []peerRun
	spans   []kv.Span // what candidates got
}

type peerHolders struct{ count, places int32 }

// peerRun is a run of blocks with one set of holders, as far as it matters.
type peerRun struct {
	blocks int
	only   int // the place of the only holder; -1: there are several; -2: none
}

const (
	peerMany = -1
	peerNone = -2
)

// Add adds the peer tier to the candidates' spans wherever another candidate can
// serve it. A span that is in gpu is left as it is: nothing is faster. The spans
// are good until the next Add, and the candidates' old ones are not changed.
func (p *Peers) Add(r *Request, cs []Candidate) {
	if !p.gather(r.maxCut(), cs) {
		return
	}
	p.compress()
	p.spans = p.spans[:0]
	var nothing []kv.Span // what a candidate can pull that has nothing itself
	for i := range cs {
		c := &cs[i]
		switch {
		case !c.Rates.usable(kv.Peer):
		case len(c.Spans) > 0:
			c.Spans = p.merge(c.Spans, i)
		default:
			if nothing == nil {
				nothing = p.merge(nil, i)
			}
			c.Spans = nothing
		}
	}
}

// gather counts the holders of each of the first n blocks; false: there is none.
func (p *Peers) gather(n int, cs []Candidate) (found bool) {
	for i := range cs {
		if !cs[i].Rates.usable(kv.Peer) {
			continue
		}
		at := 0
		for _, s := range cs[i].Spans {
			from, to := at, min(at+s.Blocks, n)
			if at += s.Blocks; !s.Tiers.Has(kv.CPU) || from >= to {
				continue
			}
			if !found {
				found = true
				p.holders = append(p.holders[:0], make([]peerHolders, n+1)...)
			}
			p.holders[from].count++
			p.holders[from].places += int32(i)
			p.holders[to].count--
			p.holders[to].places -= int32(i)
		}
	}
	return found
}

// compress turns holders into runs.
func (p *Peers) compress() {
	p.runs = p.runs[:0]
	var now peerHolders
	for _, d := range p.holders[:len(p.holders)-1] {
		now.count += d.count
		now.places += d.places
		only := peerMany
		switch now.count {
		case 0:
			only = peerNone
		case 1:
			only = int(now.places)
		}
		if k := len(p.runs); k > 0 && p.runs[k-1].only == only {
			p.runs[k-1].blocks++
		} else {
			p.runs = append(p.runs, peerRun{1, only})
		}
	}
}

// merge is own with what the candidate in place i can pull, as far as there is
// no gap.
func (p *Peers) merge(own []kv.Span, i int) []kv.Span {
	start := len(p.spans)
	var span kv.Span // what is left of own's head
	for _, run := range p.runs {
		for run.blocks > 0 {
			if span.Blocks == 0 && len(own) > 0 {
				span, own = own[0], own[1:]
			}
			n, set := run.blocks, span.Tiers
			if span.Blocks > 0 {
				n = min(n, span.Blocks)
				span.Blocks -= n
			} else {
				set = 0
			}
			if run.only != i && run.only != peerNone && !set.Has(kv.GPU) {
				set = set.With(kv.Peer)
			}
			if set == 0 {
				return p.spans[start:len(p.spans):len(p.spans)]
			}
			if k := len(p.spans); k > start && p.spans[k-1].Tiers == set {
				p.spans[k-1].Blocks += n
			} else {
				p.spans = append(p.spans, kv.Span{Blocks: n, Tiers: set})
			}
			run.blocks -= n
		}
	}
	if span.Blocks > 0 { // what is beyond the last block that may be reused
		p.spans = append(p.spans, span)
	}
	p.spans = append(p.spans, own...)
	return p.spans[start:len(p.spans):len(p.spans)]
}

// Pulled yields the runs of c's first cut blocks that come from peers: the
// number of a run's first block, and how many there are.
func (c *Candidate) Pulled(r *Request, cut int) iter.Seq2[int, int] {
	return func(yield func(first, count int) bool) {
		q := newQuery(r, nil)
		before, at := 0, 0
		for _, s := range c.Spans {
			var blocks TierBlocks
			end := min(at+s.Blocks, cut)
			c.sources(&blocks, &q, end)
			if n := blocks[kv.Peer] - before; n > 0 && !yield(at, n) || end == cut {
				return
			}
			before, at = blocks[kv.Peer], end
		}
	}
}
