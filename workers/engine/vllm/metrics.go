package vllm

import (
	"context"
)

// Load is how busy an engine is, or one data-parallel rank of it.
type Load struct {
	Running             int
	Waiting             int
	KVUsage             float64 // 0..1, the mean over ranks; < 0: unknown
	QueuedPrefillTokens int     // < 0: unknown
	CacheQueries        uint64  // tokens
	CacheHits           uint64
	BlockSize           int // 0: unknown
	GPUBlocks           int
}

// The metrics read. Some families have a _total suffix in the text format and
// some versions of vLLM spell names differently, so each lists its spellings.
var (
	running       = []string{"vllm:num_requests_running"}
	waiting       = []string{"vllm:num_requests_waiting"}
	kvUsage       = []string{"vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"}
	queuedPrefill = []string{"kvasir:queued_prefill_tokens"} // the embedded engine's own
	cacheQueries  = []string{"vllm:prefix_cache_queries_total", "vllm:prefix_cache_queries", "vllm:gpu_prefix_cache_queries_total"}
	cacheHits     = []string{"vllm:prefix_cache_hits_total", "vllm:prefix_cache_hits", "vllm:gpu_prefix_cache_hits_total"}
	cacheConfig   = []string{"vllm:cache_config_info"}
)

// Load reads the engine's metrics.
func (c *Client) Load(ctx context.Context) (Load, error) {
	body, err := c.get(ctx, "/metrics")
	if err != nil {
		return Load{}, err
	}
	rank := allRanks
	if c.Ranks > 1 {
		rank = c.Rank
	}
	return parseLoad(body, rank)
}

// allRanks asks for the sum over an engine's ranks.
const allRanks = -1

// ParseLoad reads metrics in the Prometheus text format, of all ranks together.
func ParseLoad(text []byte) (Load, error) { return parseLoad(text, allRanks) }

func parseLoad(text []byte, rank int) (Load, error) {
	samples, err := wantedSamples(text)
	if err != nil {
		return Load{}, err
	}
	sum := func(names []string) (total float64, n int) {
		for _, name := range names {
			there := false
			for _, s := range samples {
				if s.name != name {
					continue
				}
				there = true
				if s.ofRank(rank) {
					total += s.value
					n++
				}
			}
			if there {
				return total, n
			}
		}
		return 0, 0
	}
	l := Load{KVUsage: -1, QueuedPrefillTokens: -1}
	count := func(names []string) int { v, _ := sum(names); return int(within(v, maxCount)) }
	l.Running, l.Waiting = count(running), count(waiting)
	l.CacheQueries, l.CacheHits = uint64(count(cacheQueries)), uint64(count(cacheHits))
	if v, n := sum(kvUsage); n > 0 {
		l.KVUsage = within(v/float64(n), 1)
	}
	if _, n := sum(queuedPrefill); n > 0 {
		l.QueuedPrefillTokens = count(queuedPrefill)
	}
	for _, s := range samples {
		if s.name == cacheConfig[0] && s.ofRank(rank) {
			l.BlockSize = s.number("block_size")
			l.GPUBlocks += s.number("num_gpu_blocks")
		}
	}
	return l, nil
}

const maxCount = 1 << 53

// within is v between 0 and limit; what is not a number is 0.
func within(v, limit float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, limit)
}

// wanted are the names read, by themselves.
var wanted = func() map[string]string {
	m := map[string]string{}
	for _, names := range [][]string{running, waiting, kvUsage, queuedPrefill, cacheQueries, cacheHits, cacheConfig} {
		for _, n := range names {
			m[n] = n
		}
	}
	return m
}()
