package gateway

import (
	"cmp"
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// holdersNamed bounds how many peers are named for one run of blocks: the second
// and third are for when the first fails.
const holdersNamed = 3

// pulls names, for the blocks that an estimate has the worker at chosen pull, who
// has them. The search begins behind the chosen worker, so that not all workers
// pull what all have from the same one.
func pulls(req *router.Request, chosen int, e *router.Estimate, cs []router.Candidate, ready []*seat) (sources []workers.PeerSource) {
	if e.Blocks[kv.Peer] == 0 {
		return nil
	}
	for first, count := range cs[chosen].Pulled(req, e.Cut) {
		var holders []workers.PeerSource
		for i := 1; i < len(cs); i++ {
			at := (chosen + i) % len(cs)
			if address := ready[at].worker.Known().Peer; address != "" {
				holders = append(holders, inCPU(address, cs[at].Spans, first, first+count)...)
			}
		}
		slices.SortStableFunc(holders, func(a, b workers.PeerSource) int {
			return cmp.Or(cmp.Compare(a.First, b.First), cmp.Compare(b.Count, a.Count))
		})
		sources = append(sources, holders[:min(len(holders), holdersNamed)]...)
	}
	return sources
}

// inCPU are the parts of the blocks from first to end that a worker has in cpu.
func inCPU(address string, spans []kv.Span, first, end int) (parts []workers.PeerSource) {
	at := 0
	for _, s := range spans {
		from, to := max(at, first), min(at+s.Blocks, end)
		if at += s.Blocks; !s.Tiers.Has(kv.CPU) || from >= to {
			continue
		}
		if n := len(parts); n > 0 && parts[n-1].First+parts[n-1].Count == from {
			parts[n-1].Count += to - from
		} else {
			parts = append(parts, workers.PeerSource{Address: address, First: from, Count: to - from})
		}
	}
	return parts
}
