package agent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
)

// KVBMNames are the block manager's figures under the names that NVIDIA's KVBM
// gives them, so that boards made for it work. In its words d is the device
// before "2" and the disk after "h2"; our blocks pass the host tier on their way
// to and from the disk, so d2d stays 0.
type KVBMNames struct {
	Manager     *kvbm.Manager
	BlockTokens int
}

var (
	kvbmMatched     = prometheus.NewDesc("kvbm_matched_tokens", "Prompt tokens found in the tiers below the engine.", nil, nil)
	kvbmHostHits    = prometheus.NewDesc("kvbm_host_cache_hit_rate", "Share of the lookups in the host tier that found their block, 0 to 1.", nil, nil)
	kvbmDiskHits    = prometheus.NewDesc("kvbm_disk_cache_hit_rate", "Share of the lookups in the disk tier that found their block, 0 to 1.", nil, nil)
	kvbmEvictions   = prometheus.NewDesc("kvbm_evictions_total", "Blocks that made room in the host and disk tiers.", nil, nil)
	kvbmOffloadD2H  = prometheus.NewDesc("kvbm_offload_blocks_d2h", "Blocks offloaded from device to host.", nil, nil)
	kvbmOffloadH2D  = prometheus.NewDesc("kvbm_offload_blocks_h2d", "Blocks offloaded from host to disk.", nil, nil)
	kvbmOffloadD2D  = prometheus.NewDesc("kvbm_offload_blocks_d2d", "Blocks offloaded from device to disk past the host.", nil, nil)
	kvbmOnboardH2D  = prometheus.NewDesc("kvbm_onboard_blocks_h2d", "Blocks onboarded from host to device.", nil, nil)
	kvbmOnboardDisk = prometheus.NewDesc("kvbm_onboard_blocks_d2d", "Blocks onboarded from the disk; they pass the host.", nil, nil)
)

// Describe implements prometheus.Collector.
func (KVBMNames) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		kvbmMatched, kvbmHostHits, kvbmDiskHits, kvbmEvictions,
		kvbmOffloadD2H, kvbmOffloadH2D, kvbmOffloadD2D, kvbmOnboardH2D, kvbmOnboardDisk,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c KVBMNames) Collect(ch chan<- prometheus.Metric) {
	s := c.Manager.Stats()
	host, disk := s.Tiers[kv.CPU], s.Tiers[kv.Disk]
	counter(ch, kvbmMatched, (host.Hits+disk.Hits+s.Tiers[kv.Redis].Hits)*uint64(c.BlockTokens))
	gauge(ch, kvbmHostHits, hitRate(host))
	gauge(ch, kvbmDiskHits, hitRate(disk))
	counter(ch, kvbmEvictions, host.Evicted+disk.Evicted)
	for desc, way := range map[*prometheus.Desc][2]kv.Tier{
		kvbmOffloadD2H: {kv.GPU, kv.CPU}, kvbmOffloadH2D: {kv.CPU, kv.Disk}, kvbmOffloadD2D: {kv.GPU, kv.Disk},
		kvbmOnboardH2D: {kv.CPU, kv.GPU}, kvbmOnboardDisk: {kv.Disk, kv.CPU},
	} {
		counter(ch, desc, moved(s.Links, way[0], way[1]))
	}
}

func hitRate(t kvbm.TierStats) float64 {
	if t.Hits+t.Misses == 0 {
		return 0
	}
	return float64(t.Hits) / float64(t.Hits+t.Misses)
}

// moved is how many blocks went from one tier to another.
func moved(links []kvbm.LinkStats, from, to kv.Tier) uint64 {
	for _, l := range links {
		if l.From == from && l.To == to {
			return l.Blocks
		}
	}
	return 0
}
