package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
)

// Collector is the block manager's Prometheus metrics, read when scraped.
type Collector struct {
	Manager *kvbm.Manager
}

var (
	tierSlots = prometheus.NewDesc("kvasir_kvbm_slots",
		"Slots of a tier by state; over all states they are its capacity.", []string{"tier", "state"}, nil)
	tierLeased = prometheus.NewDesc("kvasir_kvbm_leased_slots",
		"Committed slots that may not be evicted now.", []string{"tier"}, nil)
	tierLookups = prometheus.NewDesc("kvasir_kvbm_lookups_total",
		"Blocks that an engine or an onboarding looked for in a tier, by result: hit or miss.", []string{"tier", "result"}, nil)
	tierStored = prometheus.NewDesc("kvasir_kvbm_stored_total",
		"Blocks that came to be in a tier.", []string{"tier"}, nil)
	tierEvicted = prometheus.NewDesc("kvasir_kvbm_evicted_total",
		"Blocks that made room in a tier.", []string{"tier"}, nil)
	tierCorrupt = prometheus.NewDesc("kvasir_kvbm_corrupt_total",
		"Blocks that failed their checksum and became misses.", []string{"tier"}, nil)
	linkOffered = prometheus.NewDesc("kvasir_kvbm_link_offered_total",
		"Blocks that were to be moved over a link; each ends in one outcome of kvasir_kvbm_link_blocks_total.", []string{"from", "to"}, nil)
	linkBlocks = prometheus.NewDesc("kvasir_kvbm_link_blocks_total",
		"Blocks offered to a link by outcome: moved, present, missed, cancelled, dropped, declined (spared by the write budget) or error.", []string{"from", "to", "outcome"}, nil)
	linkBytes = prometheus.NewDesc("kvasir_kvbm_link_bytes_total",
		"Bytes moved over a link.", []string{"from", "to"}, nil)
	linkQueued = prometheus.NewDesc("kvasir_kvbm_link_queued_bytes",
		"Bytes waiting or moving on a link.", []string{"from", "to"}, nil)
	linkSpeed = prometheus.NewDesc("kvasir_kvbm_link_bytes_per_second",
		"Measured speed of a link's last transfers; 0 before the first.", []string{"from", "to"}, nil)
	linkUp = prometheus.NewDesc("kvasir_kvbm_link_up",
		"0 while the store behind a link, or one device of it, is left alone after errors.", []string{"from", "to"}, nil)
	linkLatency = prometheus.NewDesc("kvasir_kvbm_link_latency_seconds",
		"What one transfer takes beyond its bytes at the link's speed, measured over the last ones.", []string{"from", "to"}, nil)
	deviceUp = prometheus.NewDesc("kvasir_kvbm_device_up",
		"0 while a device of the disk tier is left alone after errors, by direction: read or write.", []string{"device", "direction"}, nil)
	deviceAlarms = prometheus.NewDesc("kvasir_kvbm_device_alarms_total",
		"Times that a device of the disk tier was left alone after errors.", []string{"device"}, nil)
	deviceWritten = prometheus.NewDesc("kvasir_kvbm_device_written_bytes_total",
		"Bytes of blocks written to a device of the disk tier.", []string{"device"}, nil)
	deviceSkipped = prometheus.NewDesc("kvasir_kvbm_device_skipped_records",
		"Records of a device's journal that did not check when it was opened.", []string{"device"}, nil)
	storeUp = prometheus.NewDesc("kvasir_kvbm_store_up",
		"0 while a Redis server, or a peer that was pulled from, is left alone after errors, by direction: read or write.", []string{"store", "direction"}, nil)
	storeAlarms = prometheus.NewDesc("kvasir_kvbm_store_alarms_total",
		"Times that a Redis server or a peer was left alone after errors.", []string{"store"}, nil)
	lentBlocks = prometheus.NewDesc("kvasir_kvbm_lent_total",
		"Blocks that peers asked for by outcome: sent, absent, or declined because too many were being sent.", []string{"outcome"}, nil)
	lentBytes   = prometheus.NewDesc("kvasir_kvbm_lent_bytes_total", "Bytes of blocks sent to peers.", nil, nil)
	lentRefused = prometheus.NewDesc("kvasir_kvbm_lent_refused_total",
		"Connections of peers that were refused: other secret or layout, too many, or not this protocol.", nil, nil)
	diskWritable = prometheus.NewDesc("kvasir_kvbm_disk_writable_bytes",
		"What the disk tier's write budget allows now; -1 without one.", nil, nil)
)

// Describe implements prometheus.Collector.
func (Collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		tierSlots, tierLeased, tierLookups, tierStored, tierEvicted, tierCorrupt,
		linkOffered, linkBlocks, linkBytes, linkQueued, linkSpeed, linkUp, linkLatency,
		deviceUp, deviceAlarms, deviceWritten, deviceSkipped, diskWritable,
		storeUp, storeAlarms, lentBlocks, lentBytes, lentRefused,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c Collector) Collect(ch chan<- prometheus.Metric) {
	s := c.Manager.Stats()
	for t, tier := range s.Tiers {
		collectTier(ch, kv.Tier(t).String(), tier)
	}
	for _, l := range s.Links {
		collectLink(ch, l)
	}
	for _, d := range s.Devices {
		collectDevice(ch, d)
	}
	for _, r := range s.Servers {
		gauge(ch, storeUp, flag(r.Readable), r.Name, "read")
		gauge(ch, storeUp, flag(r.Writable), r.Name, "write")
		counter(ch, storeAlarms, r.Alarms, r.Name)
	}
	if s.Peer != nil {
		collectPeers(ch, s.Peer)
	}
	if len(s.Devices) > 0 {
		gauge(ch, diskWritable, float64(s.DiskWritable))
	}
}

func collectPeers(ch chan<- prometheus.Metric, p *kvbm.PeerStats) {
	for _, r := range p.Remotes {
		gauge(ch, storeUp, flag(r.Up), "peer "+r.Address, "read")
		counter(ch, storeAlarms, r.Alarms, "peer "+r.Address)
	}
	counter(ch, lentBlocks, p.Lent.Blocks, "sent")
	counter(ch, lentBlocks, p.Lent.Absent-min(p.Declined, p.Lent.Absent), "absent")
	counter(ch, lentBlocks, p.Declined, "declined")
	counter(ch, lentBytes, p.Lent.Bytes)
	counter(ch, lentRefused, p.Lent.Refused)
}

func collectDevice(ch chan<- prometheus.Metric, d kvbm.DeviceStats) {
	gauge(ch, deviceUp, flag(d.Readable), d.Path, "read")
	gauge(ch, deviceUp, flag(d.Writable), d.Path, "write")
	counter(ch, deviceAlarms, d.Alarms, d.Path)
	counter(ch, deviceWritten, d.Written, d.Path)
	gauge(ch, deviceSkipped, float64(d.SkippedRecords), d.Path)
}

func flag(set bool) float64 {
	if set {
		return 1
	}
	return 0
}

func gauge(ch chan<- prometheus.Metric, d *prometheus.Desc, v float64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
}

func counter(ch chan<- prometheus.Metric, d *prometheus.Desc, v uint64, labels ...string) {
	ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
}

func collectTier(ch chan<- prometheus.Metric, tier string, s kvbm.TierStats) {
	gauge(ch, tierSlots, float64(s.Free), tier, "free")
	gauge(ch, tierSlots, float64(s.Filling), tier, "filling")
	gauge(ch, tierSlots, float64(s.Committed), tier, "committed")
	gauge(ch, tierSlots, float64(s.Evicting), tier, "evicting")
	gauge(ch, tierLeased, float64(s.Leased), tier)
	counter(ch, tierLookups, s.Hits, tier, "hit")
	counter(ch, tierLookups, s.Misses, tier, "miss")
	counter(ch, tierStored, s.Stored, tier)
	counter(ch, tierEvicted, s.Evicted, tier)
	counter(ch, tierCorrupt, s.Corrupt, tier)
}

func collectLink(ch chan<- prometheus.Metric, l kvbm.LinkStats) {
	from, to := l.From.String(), l.To.String()
	counter(ch, linkOffered, l.Offered, from, to)
	for outcome, n := range map[string]uint64{
		"moved": l.Blocks, "present": l.Present, "missed": l.Missed, "cancelled": l.Cancelled, "dropped": l.Dropped, "declined": l.Declined, "error": l.Errors,
	} {
		counter(ch, linkBlocks, n, from, to, outcome)
	}
	counter(ch, linkBytes, l.Bytes, from, to)
	gauge(ch, linkQueued, float64(l.QueuedBytes), from, to)
	gauge(ch, linkSpeed, l.BytesPerSecond, from, to)
	gauge(ch, linkLatency, l.Latency.Seconds(), from, to)
	gauge(ch, linkUp, flag(l.Up), from, to)
}
