package vllm

import (
	"bytes"
	"context"
	"fmt"
	"strconv"
	"strings"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
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
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(wantedLines(text)))
	if err != nil {
		return Load{}, fmt.Errorf("vllm: metrics: %w", err)
	}
	sum := func(names []string) (total float64, n int) {
		for _, name := range names {
			if f := families[name]; f != nil {
				for _, m := range f.GetMetric() {
					if ofRank(m, rank) {
						total += value(m)
						n++
					}
				}
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
	if f := families[cacheConfig[0]]; f != nil {
		for _, m := range f.GetMetric() {
			if !ofRank(m, rank) {
				continue
			}
			l.BlockSize = label(m, "block_size")
			l.GPUBlocks += label(m, "num_gpu_blocks")
		}
	}
	return l, nil
}

// ofRank reports whether a metric is about a rank, which is its label engine.
// Where there is no such label there is one rank.
func ofRank(m *dto.Metric, rank int) bool {
	if rank == allRanks {
		return true
	}
	for _, l := range m.GetLabel() {
		if l.GetName() == "engine" {
			return l.GetValue() == strconv.Itoa(rank)
		}
	}
	return rank == 0
}

const maxCount = 1 << 53

// within is v between 0 and limit; what is not a number is 0.
func within(v, limit float64) float64 {
	if !(v > 0) {
		return 0
	}
	return min(v, limit)
}

// wantedLines keeps the lines of the families above: an engine's histograms are
// most of the text, and parsing them would be most of the cost.
func wantedLines(text []byte) []byte {
	var out []byte
	for line := range bytes.Lines(text) {
		name := line
		if rest, ok := bytes.CutPrefix(line, []byte("# TYPE ")); ok {
			name = rest
		}
		if i := bytes.IndexAny(name, " {"); i > 0 && wanted[string(name[:i])] {
			out = append(out, line...)
		}
	}
	return append(out, '\n')
}

var wanted = func() map[string]bool {
	m := map[string]bool{}
	for _, names := range [][]string{running, waiting, kvUsage, queuedPrefill, cacheQueries, cacheHits, cacheConfig} {
		for _, n := range names {
			m[n] = true
		}
	}
	return m
}()

func value(m *dto.Metric) float64 {
	switch {
	case m.Gauge != nil:
		return m.Gauge.GetValue()
	case m.Counter != nil:
		return m.Counter.GetValue()
	}
	return m.Untyped.GetValue()
}

// label is a numeric label's value, 0 when it is absent or "None".
func label(m *dto.Metric, name string) int {
	for _, l := range m.GetLabel() {
		if l.GetName() == name {
			n, _ := strconv.Atoi(strings.TrimSpace(l.GetValue()))
			return max(n, 0)
		}
	}
	return 0
}
