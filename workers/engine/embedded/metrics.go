package embedded

import (
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/kvasir-ai/kvasir/kvbm"
)

// metrics are vLLM's, under vLLM's names, so that whatever reads vLLM's reads
// ours. A few of our own begin with kvasir.
type metrics struct {
	registry *prometheus.Registry

	running, waiting, queuedPrefill                  prometheus.Gauge
	queries, hits, externalQueries, externalHits     prometheus.Counter
	promptTokens, generatedTokens                    prometheus.Counter
	preemptions, lateRestores, eventBatchesLost      prometheus.Counter
	finishedBy                                       *prometheus.CounterVec
	ttft, interToken, endToEnd, queueTime, iteration prometheus.Histogram
}

func newMetrics(model string, blockSize int, pool *kvbm.Pool) *metrics {
	m := &metrics{registry: prometheus.NewRegistry()}
	labels := prometheus.Labels{"model_name": model, "engine": "0"}
	r := prometheus.WrapRegistererWith(labels, m.registry)
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets ...float64) prometheus.Histogram {
		h := prometheus.NewHistogram(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets})
		r.MustRegister(h)
		return h
	}
	m.running = gauge("vllm:num_requests_running", "Sequences in the batch.")
	m.waiting = gauge("vllm:num_requests_waiting", "Sequences that wait for pages, for a place in the batch or for a restore.")
	m.queuedPrefill = gauge("kvasir:queued_prefill_tokens", "Prompt tokens taken on and not computed yet.")
	m.queries = counter("vllm:prefix_cache_queries_total", "Prompt tokens looked up in the engine's pages.")
	m.hits = counter("vllm:prefix_cache_hits_total", "Prompt tokens found in the engine's pages.")
	m.externalQueries = counter("vllm:external_prefix_cache_queries_total", "Prompt tokens looked up in lower tiers.")
	m.externalHits = counter("vllm:external_prefix_cache_hits_total", "Prompt tokens restored from lower tiers.")
	m.promptTokens = counter("vllm:prompt_tokens_total", "Prompt tokens of admitted requests.")
	m.generatedTokens = counter("vllm:generation_tokens_total", "Tokens generated.")
	m.preemptions = counter("vllm:num_preemptions_total", "Sequences that gave up their pages to others and were computed again.")
	m.lateRestores = counter("kvasir:late_restores_total", "Restores that missed their deadline and were computed instead.")
	m.eventBatchesLost = counter("kvasir:kv_event_batches_lost_total", "Event batches dropped because the publisher's queue was full.")
	m.finishedBy = prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vllm:request_success_total", Help: "Sequences finished, by reason."}, []string{"finished_reason"})
	r.MustRegister(m.finishedBy)
	latency := []float64{.001, .005, .01, .02, .04, .06, .08, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10, 20, 40, 80, 160}
	m.ttft = histogram("vllm:time_to_first_token_seconds", "From submission to the first token.", latency...)
	m.interToken = histogram("vllm:inter_token_latency_seconds", "Between two tokens of a sequence.", latency...)
	m.endToEnd = histogram("vllm:e2e_request_latency_seconds", "From submission to the last token.", latency...)
	m.queueTime = histogram("vllm:request_queue_time_seconds", "From submission to the first place in the batch.", latency...)
	m.iteration = histogram("vllm:iteration_tokens_total", "Tokens computed in a step.", 1, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)
	r.MustRegister(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "vllm:kv_cache_usage_perc", Help: "Share of the pages that running sequences or transfers hold, 0 to 1."},
		func() float64 { return 1 - float64(pool.Available())/float64(pool.Capacity()) }))
	info := prometheus.NewGauge(prometheus.GaugeOpts{Name: "vllm:cache_config_info", Help: "The KV cache's shape, in labels.", ConstLabels: prometheus.Labels{
		"block_size": strconv.Itoa(blockSize), "num_gpu_blocks": strconv.Itoa(pool.Capacity()), "enable_prefix_caching": "True", "cache_dtype": "auto"}})
	info.Set(1)
	r.MustRegister(info)
	return m
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{})
}

// admitted books a sequence that enters the batch for the first time.
func (m *metrics) admitted(q *sequence, blockSize int) {
	restored := min(q.restored*blockSize, q.cached)
	m.promptTokens.Add(float64(q.prompt))
	m.queries.Add(float64(q.prompt))
	m.hits.Add(float64(q.cached - restored))
	m.externalQueries.Add(float64(q.prompt - q.cached + restored))
	m.externalHits.Add(float64(restored))
	m.queueTime.Observe(q.admitted.Sub(q.submitted).Seconds())
}

// token books a chosen token.
func (m *metrics) token(q *sequence) {
	now := time.Now()
	if q.generated() == 0 {
		m.ttft.Observe(now.Sub(q.submitted).Seconds())
	} else {
		m.interToken.Observe(now.Sub(q.lastSeen).Seconds())
	}
	q.lastSeen = now
	m.generatedTokens.Inc()
}

// finished books a sequence's end.
func (m *metrics) finished(q *sequence) {
	m.finishedBy.WithLabelValues(q.reason).Inc()
	if q.reason != finishAbort {
		m.endToEnd.Observe(time.Since(q.submitted).Seconds())
	}
}
