package gateway

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvasir-ai/kvasir/gateway/queue"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
)

// metrics are what /metrics shows of the gateway, the router and the index.
// Labels hold only names that the operator gave (models, workers), codes and
// tiers; never what a client made up.
type metrics struct {
	requests       *prometheus.CounterVec
	e2e            *prometheus.HistogramVec
	ttft           *prometheus.HistogramVec
	tpot           *prometheus.HistogramVec
	tokens         *prometheus.CounterVec
	cached         *prometheus.CounterVec
	engineCached   *prometheus.CounterVec
	untokenized    *prometheus.CounterVec
	mismatches     *prometheus.CounterVec
	retries        *prometheus.CounterVec
	migrations     *prometheus.CounterVec
	strangers      *prometheus.CounterVec
	shed           *prometheus.CounterVec
	queued         *prometheus.HistogramVec
	tenantRequests *prometheus.CounterVec
	tenantTokens   *prometheus.CounterVec
	upstreamErrors *prometheus.CounterVec
	busy           *prometheus.CounterVec
	onboardBlocks  *prometheus.CounterVec
	onboardSeconds *prometheus.HistogramVec
	onboardFailed  *prometheus.CounterVec
	legs           *prometheus.CounterVec
	legSeconds     *prometheus.HistogramVec
	bypasses       *prometheus.CounterVec

	decisions       *prometheus.CounterVec
	decide          prometheus.Histogram
	predictionRatio *prometheus.HistogramVec
	predictionError *prometheus.HistogramVec
}

var (
	latencyBuckets = []float64{.002, .005, .01, .02, .05, .1, .2, .5, 1, 2, 5, 10, 20, 60, 120, 300}
	queueBuckets   = []float64{.001, .01, .05, .1, .2, .5, 1, 2, 5, 10, 30, 60, 300}
	tpotBuckets    = []float64{.001, .002, .005, .01, .02, .03, .05, .075, .1, .2, .5, 1}
	ratioBuckets   = []float64{.1, .25, .5, .75, .9, 1, 1.1, 1.33, 2, 4, 10}
	decideBuckets  = []float64{1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2}
)

func newMetrics(g *Gateway, r prometheus.Registerer) *metrics {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
		r.MustRegister(h)
		return h
	}
	m := &metrics{
		requests: counter("kvasir_gateway_requests_total", "Inference requests that ended, by outcome: ok or the code of the error.", "endpoint", "model", "outcome"),
		e2e:      histogram("kvasir_gateway_request_duration_seconds", "From a request's arrival to the end of its answer.", latencyBuckets, "endpoint", "model"),
		ttft: histogram("kvasir_gateway_time_to_first_token_seconds",
			"From dispatch to the first generated token, as the gateway sees it; streams, and other answers of one token.", latencyBuckets, "model"),
		tpot: histogram("kvasir_gateway_time_per_output_token_seconds",
			"Mean time between a stream's tokens after the first; events stand for tokens where the client asked for no usage.", tpotBuckets, "model"),
		tokens: counter("kvasir_gateway_tokens_total",
			"Tokens by kind, prompt or completion; completion tokens of streams without usage are counted by events.", "model", "kind"),
		cached:         counter("kvasir_gateway_cached_tokens_total", "Prompt tokens that were reused or restored instead of computed, by tier, as the agent reports or the router planned.", "model", "tier"),
		engineCached:   counter("kvasir_gateway_engine_cached_tokens_total", "Prompt tokens that engines report as cached (usage.prompt_tokens_details).", "model"),
		untokenized:    counter("kvasir_gateway_untokenized_total", "Requests routed by load alone because their exact tokens are unknown, by reason.", "model", "reason"),
		mismatches:     counter("kvasir_gateway_token_mismatches_total", "Requests whose prompt the engine counted differently: its tokenizer or template is not the gateway's.", "model"),
		retries:        counter("kvasir_gateway_retries_total", "Attempts on another worker after one failed before its answer began.", "model"),
		migrations:     counter("kvasir_gateway_migrations_total", "Streams that went on at another worker after theirs died.", "model"),
		shed:           counter("kvasir_gateway_shed_total", "Requests sent away because the model's workers are saturated: late, full, evicted, waited or busy.", "model", "priority", "reason"),
		queued:         histogram("kvasir_gateway_queue_seconds", "Time that requests waited in the gateway until a worker had time for them.", queueBuckets, "model", "priority"),
		strangers:      counter("kvasir_gateway_strangers_total", "Requests turned away at the door, by code: no key, an unknown one, none for the admin API, or no such URL or method.", "code"),
		tenantRequests: counter("kvasir_gateway_tenant_requests_total", "Inference requests of each tenant, by outcome.", "tenant", "outcome"),
		tenantTokens:   counter("kvasir_gateway_tenant_tokens_total", "Tokens charged to each tenant, by kind, prompt or completion.", "tenant", "kind"),
		upstreamErrors: counter("kvasir_gateway_upstream_errors_total",
			"Failures of workers: no connection, 5xx, answers broken off.", "model", "worker"),
		busy:           counter("kvasir_gateway_worker_busy_total", "Requests that a worker had no place for; they wait in the gateway and are sent again.", "model", "worker"),
		onboardBlocks:  counter("kvasir_gateway_onboard_blocks_total", "Blocks of restore plans, by the tier they came from; missed ones have tier none.", "model", "tier"),
		onboardSeconds: histogram("kvasir_gateway_onboard_seconds", "Duration of restore plans that agents carried out.", latencyBuckets, "model"),
		onboardFailed:  counter("kvasir_gateway_onboard_failures_total", "Restore plans that failed or were cut short; the engine recomputes.", "model", "worker"),
		legs:           counter("kvasir_gateway_legs_total", "Parts of requests that a prefill and a decode worker shared, by outcome: ok, refused, failed, cancelled, or empty (nothing was passed on).", "model", "leg", "outcome"),
		legSeconds:     histogram("kvasir_gateway_leg_seconds", "Duration of such parts: a prefill worker's answer; a decode worker's first token, the KV's way included.", latencyBuckets, "model", "leg"),
		bypasses:       counter("kvasir_gateway_bypasses_total", "Requests that one worker served where a prefill and a decode worker are: cached, short, queue and cheaper are the router's reasons; impossible and failed the gateway's.", "model", "reason"),

		decisions: counter("kvasir_router_decisions_total", "Decisions, by the worker chosen.", "model", "worker", "policy"),
		predictionRatio: histogram("kvasir_router_ttft_observed_over_predicted",
			"Observed TTFT divided by predicted: 1 is a perfect prediction.", ratioBuckets, "model"),
		predictionError: histogram("kvasir_router_ttft_prediction_error_seconds",
			"Absolute difference of observed and predicted TTFT.", latencyBuckets, "model"),
	}
	m.decide = prometheus.NewHistogram(prometheus.HistogramOpts{
		Name: "kvasir_router_decide_seconds", Help: "Time to hash, match, price and decide.", Buckets: decideBuckets,
	})
	r.MustRegister(m.decide, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "kvasir_gateway_in_flight", Help: "Inference requests in flight.",
	}, func() float64 { return float64(g.admission.count()) }), bookkeeping{g}, crowds{g}, predictions{g}, indexCollector{g.c.Index}, g.checker)
	return m
}

// request counts a request that has ended.
func (m *metrics) request(r *Record, x *exchange) {
	model := r.Model
	if r.Outcome == string(CodeModelNotFound) {
		model = "" // a client's invention
	}
	m.requests.WithLabelValues(r.Endpoint, model, r.Outcome).Inc()
	m.e2e.WithLabelValues(r.Endpoint, model).Observe(r.DurationMS / 1000)
	prompt, completion := 0, x.answer.chunks
	if r.Chosen != "" {
		prompt = r.Tokens
	}
	if r.Usage != nil {
		prompt, completion = r.Usage.PromptTokens, r.Usage.CompletionTokens
	}
	x.charge(r, prompt, completion)
	if r.Chosen == "" {
		return
	}
	if r.Usage != nil {
		m.engineCached.WithLabelValues(model).Add(float64(max(0, r.Usage.CachedTokens)))
	}
	m.tokens.WithLabelValues(model, "prompt").Add(float64(prompt))
	m.tokens.WithLabelValues(model, "completion").Add(float64(completion))
	if r.Outcome == outcomeOK {
		for t, n := range hits(r) {
			if n > 0 {
				m.cached.WithLabelValues(model, kv.Tier(t).String()).Add(float64(n))
			}
		}
	}
	if r.ObservedTTFTMS != nil {
		m.ttft.WithLabelValues(model).Observe(*r.ObservedTTFTMS / 1000)
	}
	if !x.firstToken.IsZero() && completion > 1 {
		decode := x.g.c.Now().Sub(x.firstToken).Seconds()
		m.tpot.WithLabelValues(model).Observe(decode / float64(completion-1))
	}
}

func (m *metrics) prediction(model string, predicted, observed float64) {
	if predicted > 0 {
		m.predictionRatio.WithLabelValues(model).Observe(observed / predicted)
	}
	m.predictionError.WithLabelValues(model).Observe(math.Abs(observed-predicted) / 1000)
}

func (m *metrics) onboard(model string, w kv.WorkerID, o *Onboarded) {
	if o.Error != "" {
		m.onboardFailed.WithLabelValues(model, string(w)).Inc()
		return
	}
	m.onboardSeconds.WithLabelValues(model).Observe(o.MS / 1000)
	for t, n := range o.Blocks {
		if n > 0 {
			m.onboardBlocks.WithLabelValues(model, kv.Tier(t).String()).Add(float64(n))
		}
	}
	if o.Missed > 0 {
		m.onboardBlocks.WithLabelValues(model, "none").Add(float64(o.Missed))
	}
}

// bookkeeping shows the ledger's totals: law 4 as a metric.
type bookkeeping struct{ g *Gateway }

var (
	ledgerAdded    = prometheus.NewDesc("kvasir_router_ledger_added_total", "Loads booked.", nil, nil)
	ledgerReleased = prometheus.NewDesc("kvasir_router_ledger_released_total", "Loads released; their difference to those booked is in flight.", nil, nil)
)

func (bookkeeping) Describe(ch chan<- *prometheus.Desc) {
	ch <- ledgerAdded
	ch <- ledgerReleased
}

func (b bookkeeping) Collect(ch chan<- prometheus.Metric) {
	b.g.placing.Lock()
	added, released := b.g.ledger.Totals()
	b.g.placing.Unlock()
	ch <- prometheus.MustNewConstMetric(ledgerAdded, prometheus.CounterValue, float64(added))
	ch <- prometheus.MustNewConstMetric(ledgerReleased, prometheus.CounterValue, float64(released))
}

// crowds shows who waits in the gateway.
type crowds struct{ g *Gateway }

var queueLength = prometheus.NewDesc("kvasir_gateway_queue_length", "Requests that wait in the gateway until a worker has time for them.", []string{"model", "priority"}, nil)

func (crowds) Describe(ch chan<- *prometheus.Desc) { ch <- queueLength }

func (c crowds) Collect(ch chan<- prometheus.Metric) {
	c.g.rooms.Range(func(model, r any) bool {
		r.(*room).mu.Lock()
		defer r.(*room).mu.Unlock()
		for p := queue.Low; p <= queue.High; p++ {
			ch <- prometheus.MustNewConstMetric(queueLength, prometheus.GaugeValue, float64(r.(*room).queue.Waiting(p)), model.(string), p.String())
		}
		return true
	})
}

// indexCollector reads the index when it is scraped.
type indexCollector struct{ index *prefixindex.Index }

var (
	indexBlocks  = prometheus.NewDesc("kvasir_index_blocks", "Distinct blocks in the prefix index.", nil, nil)
	indexWorkers = prometheus.NewDesc("kvasir_index_workers", "Workers in the prefix index.", nil, nil)
	indexBytes   = prometheus.NewDesc("kvasir_index_bytes", "Memory of the prefix index.", nil, nil)
	indexOrphans = prometheus.NewDesc("kvasir_index_orphans", "Parents that blocks name and nobody holds; roots of prompts are among them.", nil, nil)
	indexHeld    = prometheus.NewDesc("kvasir_index_memberships", "Blocks held, by tier; a shared store's count once.", []string{"tier"}, nil)
)

func (indexCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range [...]*prometheus.Desc{indexBlocks, indexWorkers, indexBytes, indexOrphans, indexHeld} {
		ch <- d
	}
}

func (c indexCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.index.Stats()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	gauge(indexBlocks, float64(s.Blocks))
	gauge(indexWorkers, float64(s.Workers))
	gauge(indexBytes, float64(s.Bytes))
	gauge(indexOrphans, float64(s.Orphans))
	for t, n := range s.Tiers {
		gauge(indexHeld, float64(n), kv.Tier(t).String())
	}
}
