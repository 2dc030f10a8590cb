package workers

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// collector reads the fleet's metrics when they are scraped, so that keeping
// them costs the workers nothing.
type collector struct{ f *Fleet }

// descs are all that collector sends.
var descs []*prometheus.Desc

func desc(name, help string, labels ...string) *prometheus.Desc {
	d := prometheus.NewDesc(name, help, append([]string{"worker"}, labels...), nil)
	descs = append(descs, d)
	return d
}

// The fleet's metrics.
var (
	workerReady = desc("kvasir_worker_ready", "1 when requests may be sent to the worker.")
	workerState = desc("kvasir_worker_info", "1; what the worker is.", "model", "engine", "role", "state")
	workerFails = desc("kvasir_worker_failures_total", "Requests that failed before the worker answered, as dispatchers reported.")
	workerEject = desc("kvasir_worker_ejections_total", "Times that the worker was taken out because it did much worse than its peers.")
	workerRun   = desc("kvasir_worker_requests_running", "Requests in the engine's batch.")
	workerWait  = desc("kvasir_worker_requests_waiting", "Requests queued in the engine.")
	workerKV    = desc("kvasir_worker_kv_usage_ratio", "Share of the engine's KV pages in use.")
	workerQueue = desc("kvasir_worker_queued_prefill_tokens", "Prompt tokens accepted and not computed yet.")

	eventsApplied   = desc("kvasir_events_applied_total", "Block events applied to the index.")
	eventsBlocks    = desc("kvasir_events_blocks_total", "Blocks named by applied events.")
	eventsConnected = desc("kvasir_events_connected", "1 while the worker's event stream stands.")
	eventsSilent    = desc("kvasir_events_silent", "1 when the worker computes prompts but sends no events.")
	eventsLast      = desc("kvasir_events_last_timestamp_seconds", "When the last event was applied.")
	eventsResyncs   = desc("kvasir_events_resyncs_total", "Snapshots or restarts that replaced what was known of the worker.")
	eventsBreaks    = desc("kvasir_events_breaks_total", "Times that the event stream broke.")
	eventsLost      = desc("kvasir_events_lost_total", "Events that could not be used, for any reason.")

	tierCapacity  = desc("kvasir_tier_capacity_blocks", "Blocks that fit into the tier.", "tier")
	tierFree      = desc("kvasir_tier_free_blocks", "Slots of the tier that hold nothing.", "tier")
	tierCommitted = desc("kvasir_tier_committed_blocks", "Blocks in the tier.", "tier")
	tierLeased    = desc("kvasir_tier_leased_blocks", "Blocks in the tier that may not be evicted now.", "tier")
	tierHits      = desc("kvasir_tier_hits_total", "Blocks wanted and found in the tier.", "tier")
	tierMisses    = desc("kvasir_tier_misses_total", "Blocks wanted and not found in the tier.", "tier")
	tierStored    = desc("kvasir_tier_stored_total", "Blocks stored into the tier.", "tier")
	tierEvicted   = desc("kvasir_tier_evicted_total", "Blocks evicted from the tier.", "tier")
	tierCorrupt   = desc("kvasir_tier_corrupt_total", "Blocks whose bytes did not match their checksum.", "tier")

	linkUp        = desc("kvasir_tier_link_up", "1 while blocks can come up from the tier.", "tier")
	linkSpeed     = desc("kvasir_tier_link_bytes_per_second", "Measured speed of the way up from the tier.", "tier")
	linkLatency   = desc("kvasir_tier_link_latency_seconds", "Measured latency of the way up from the tier.", "tier")
	linkQueued    = desc("kvasir_tier_link_queued_bytes", "Bytes waiting to come up from the tier.", "tier")
	linkOnboarded = desc("kvasir_tier_link_blocks_total", "Blocks brought up from the tier.", "tier")
	linkErrors    = desc("kvasir_tier_link_errors_total", "Transfers up from the tier that failed.", "tier")
)

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, w := range c.f.Workers() {
		m := workerMetrics{ch, string(w.id)}
		m.worker(w)
		m.events(w)
		s := w.Stats()
		for t := range kv.NumTiers {
			m.tier(t, s.Tiers[t], s.Links[t])
		}
	}
}

// workerMetrics sends one worker's metrics.
type workerMetrics struct {
	ch chan<- prometheus.Metric
	id string
}

func (m workerMetrics) gauge(d *prometheus.Desc, v float64, labels ...string) {
	m.ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, append([]string{m.id}, labels...)...)
}

func (m workerMetrics) counter(d *prometheus.Desc, v uint64, labels ...string) {
	m.ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), append([]string{m.id}, labels...)...)
}

func (m workerMetrics) flag(d *prometheus.Desc, v bool, labels ...string) {
	f := 0.0
	if v {
		f = 1
	}
	m.gauge(d, f, labels...)
}

func (m workerMetrics) worker(w *Worker) {
	info, s := w.Info(), w.Stats()
	m.flag(workerReady, w.Ready())
	m.gauge(workerState, 1, info.Model, info.Engine, info.Role.String(), w.State())
	m.counter(workerFails, w.counters.failures.Load())
	m.counter(workerEject, w.counters.ejections.Load())
	m.gauge(workerRun, float64(s.Running))
	m.gauge(workerWait, float64(s.Waiting))
	if s.KVUsage >= 0 {
		m.gauge(workerKV, s.KVUsage)
	}
	if s.QueuedPrefillTokens >= 0 {
		m.gauge(workerQueue, float64(s.QueuedPrefillTokens))
	}
}

func (m workerMetrics) events(w *Worker) {
	c := &w.counters
	resyncs, breaks, lost := c.resyncs.Load(), c.breaks.Load(), c.lost.Load()
	if r := w.reader.Load(); r != nil {
		s := r.Stats()
		resyncs, breaks, lost = s.Restarts+s.Resyncs, s.Breaks, s.Lost()
	}
	m.counter(eventsApplied, c.events.Load())
	m.counter(eventsBlocks, c.blocks.Load())
	m.flag(eventsConnected, w.EventsConnected())
	m.flag(eventsSilent, w.Silent())
	m.gauge(eventsLast, float64(c.lastEvent.Load())/1e9)
	m.counter(eventsResyncs, resyncs)
	m.counter(eventsBreaks, breaks)
	m.counter(eventsLost, lost)
}

func (m workerMetrics) tier(t kv.Tier, s TierStats, l LinkStats) {
	name := t.String()
	if s != (TierStats{}) {
		m.gauge(tierCapacity, float64(s.Capacity), name)
		m.gauge(tierFree, float64(s.Free), name)
		m.gauge(tierCommitted, float64(s.Committed), name)
		m.gauge(tierLeased, float64(s.Leased), name)
		m.counter(tierHits, s.Hits, name)
		m.counter(tierMisses, s.Misses, name)
		m.counter(tierStored, s.Stored, name)
		m.counter(tierEvicted, s.Evicted, name)
		m.counter(tierCorrupt, s.Corrupt, name)
	}
	if l != (LinkStats{}) {
		m.flag(linkUp, l.Up, name)
		m.gauge(linkSpeed, l.BytesPerSecond, name)
		m.gauge(linkLatency, l.Latency.Seconds(), name)
		m.gauge(linkQueued, float64(l.QueuedBytes), name)
		m.counter(linkOnboarded, l.Blocks, name)
		m.counter(linkErrors, l.Errors, name)
	}
}
