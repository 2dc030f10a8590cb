package router

import "github.com/kvasir-ai/kvasir/internal/kv"

// Other routers' formulas, with their defaults, over our exact index and loads.
// They price tiers as they do: by weights, not by what a restore costs.

// chooseDynamo is NVIDIA Dynamo's KV router: blocks to prefill less credits for
// what is cached, plus the blocks in decode.
func chooseDynamo(seed uint64, r *Request, cs []Candidate, _ []Estimate) int {
	const deviceCredit, hostCredit, diskCredit = 1.0, 0.75, 0.25
	block := max(1, float64(r.BlockSize))
	return lowest(seed, len(cs), func(i int) float64 {
		l := &cs[i].Load
		raw := (float64(l.QueuedPrefillTokens) + float64(r.Tokens)) / block
		credit := 0.0
		for _, s := range cs[i].Spans {
			switch b := float64(s.Blocks); {
			case s.Tiers.Has(kv.GPU):
				credit += deviceCredit * b
			case s.Tiers.Has(kv.CPU):
				credit += hostCredit * b
			case s.Tiers.Has(kv.Disk):
				credit += diskCredit * b
			}
		}
		return max(raw-credit, 0) + float64(l.ActiveBlocks+r.blocks())
	})
}

// chooseLLMD is llm-d's weighted sum of a prefix, a queue and a KV utilisation
// scorer, highest wins; lower tiers count less for the prefix.
func chooseLLMD(seed uint64, r *Request, cs []Candidate, _ []Estimate) int {
	const prefixWeight, queueWeight, kvWeight = 3, 2, 2
	const gpu, cpu = 1.0, 0.8
	shortest, longest := cs[0].Load.Waiting, cs[0].Load.Waiting
	for i := range cs {
		shortest, longest = min(shortest, cs[i].Load.Waiting), max(longest, cs[i].Load.Waiting)
	}
	return lowest(seed, len(cs), func(i int) float64 {
		l := &cs[i].Load
		queue := 1.0
		if longest > shortest {
			queue = float64(longest-l.Waiting) / float64(longest-shortest)
		}
		matched := 0.0
		for _, s := range cs[i].Spans {
			switch {
			case s.Tiers.Has(kv.GPU):
				matched += gpu * float64(s.Blocks)
			case s.Tiers.Has(kv.CPU):
				matched += cpu * float64(s.Blocks)
			}
		}
		prefix := matched / float64(max(1, r.blocks()))
		free := 1.0
		if l.FreeKVShare >= 0 {
			free = l.FreeKVShare
		}
		return -(prefixWeight*prefix + queueWeight*queue + kvWeight*free)
	})
}

// chooseSMG is SMG's cache_aware: the shortest queue when the fleet is out of
// balance, else the best match if it is good enough, else the shortest queue.
func chooseSMG(seed uint64, r *Request, cs []Candidate, es []Estimate) int {
	const absolute, relative, good = 32, 1.1, 0.5
	least, most, match := cs[0].Load.requests(), cs[0].Load.requests(), 0
	for i := range cs {
		n := cs[i].Load.requests()
		least, most = min(least, n), max(most, n)
		match = max(match, held(cs[i].Spans))
	}
	unbalanced := most-least > absolute && most > relative*least
	if !unbalanced && float64(match) > good*float64(r.blocks()) {
		return choosePrefixOnly(seed, r, cs, es)
	}
	return chooseLeastLoaded(seed, r, cs, es)
}
