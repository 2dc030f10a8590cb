package kvbm

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Stats is the manager's state at one moment. Counters run from Open on.
type Stats struct {
	Tiers [kv.NumTiers]TierStats `json:"tiers"` // by kv.Tier
	Links []LinkStats            `json:"links"`
	// Devices are those of the disk tier.
	Devices []DeviceStats `json:"devices,omitempty"`
	// DiskWritable is what the write budget allows now, in bytes; -1 without one.
	DiskWritable int64      `json:"disk_writable_bytes,omitempty"`
	Peer         *PeerStats `json:"peer,omitempty"` // nil without a peer tier
	// Servers are those of the Redis tier.
	Servers []ServerStats `json:"servers,omitempty"`
}

// DeviceStats is one device of the disk tier.
type DeviceStats struct {
	Path     string `json:"path"`
	Readable bool   `json:"readable"` // false while it is left alone after errors
	Writable bool   `json:"writable"`
	// Alarms counts how often a direction was left alone.
	Alarms  uint64 `json:"alarms"`
	Written uint64 `json:"written"` // bytes of blocks
	// SkippedRecords of its journal did not check when it was opened. Each is at
	// worst a block that is missed.
	SkippedRecords int `json:"skipped_records"`
}

// ServerStats is one server of the Redis tier.
type ServerStats struct {
	Name     string `json:"name"`
	Readable bool   `json:"readable"` // false while it is left alone after errors
	Writable bool   `json:"writable"`
	// Alarms counts how often a direction was left alone.
	Alarms uint64 `json:"alarms"`
}

// TierStats is one tier. Of Redis, whose slots are its own business, only
// Committed (what is known to be there) and the counters are given. A staging
// pool is not a tier and has none.
type TierStats struct {
	Capacity  int `json:"capacity"`
	Free      int `json:"free"`
	Filling   int `json:"filling"`
	Committed int `json:"committed"`
	Evicting  int `json:"evicting"`
	Leased    int `json:"leased"` // among the committed
	// Hits and Misses count blocks that an engine or an onboarding looked for
	// here. One that is not here is looked for in the next tier.
	Hits   uint64 `json:"hits"`
	Misses uint64 `json:"misses"`
	// Stored counts blocks that came to be here, Evicted those that made room.
	Stored  uint64 `json:"stored"`
	Evicted uint64 `json:"evicted"`
	// Corrupt counts blocks that failed their checksum. They became misses.
	Corrupt uint64 `json:"corrupt"`
}

// LinkStats is one direction between two tiers. Law 6: Offered = Blocks +
// Present + Missed + Cancelled + Dropped + Declined + Errors + Queued.
type LinkStats struct {
	From      kv.Tier `json:"from"`
	To        kv.Tier `json:"to"`
	Offered   uint64  `json:"offered"`   // blocks that were to be moved
	Blocks    uint64  `json:"blocks"`    // moved
	Bytes     uint64  `json:"bytes"`     // moved
	Present   uint64  `json:"present"`   // needed no move: there already, or on their way
	Missed    uint64  `json:"missed"`    // not in the source after all, or no room
	Cancelled uint64  `json:"cancelled"` // no longer wanted
	Dropped   uint64  `json:"dropped"`   // offloads without room, source or a working store
	Declined  uint64  `json:"declined"`  // offloads that the write budget spared
	Errors    uint64  `json:"errors"`    // I/O errors and checksums that did not match
	Queued    int     `json:"queued"`    // waiting or moving now
	// QueuedBytes wait or move now.
	QueuedBytes int64 `json:"queued_bytes"`
	// BytesPerSecond and Latency are measured over the last transfers, 0 before
	// the first: n blocks take about Latency + n*BlockBytes/BytesPerSecond.
	BytesPerSecond float64       `json:"bytes_per_second"`
	Latency        time.Duration `json:"latency_ns"`
	// Up is false while the store behind the link is left alone after errors.
	Up bool `json:"up"`
}

type tierCounts struct{ hits, misses, stored, evicted, corrupt uint64 }

// Stats is a snapshot.
func (m *Manager) Stats() Stats {
	m.mu.Lock()
	defer m.mu.Unlock()
	var s Stats
	for t := range kv.NumTiers {
		if t == kv.CPU && m.cpu != nil && !m.cpu.advertise {
			continue
		}
		c := m.tiers[t]
		ts := TierStats{Hits: c.hits, Misses: c.misses, Stored: c.stored, Evicted: c.evicted, Corrupt: c.corrupt}
		if table := m.tableOf(t); table != nil {
			n := table.Counts()
			ts.Capacity = table.Capacity()
			ts.Free, ts.Filling, ts.Committed, ts.Evicting, ts.Leased = n.Free, n.Filling, n.Committed, n.Evicting, n.Leased
		} else if t == kv.Redis && m.redis != nil {
			ts.Committed = m.redis.known.Len()
		}
		s.Tiers[t] = ts
	}
	for _, l := range m.links {
		s.Links = append(s.Links, l.stats())
	}
	if m.peers != nil {
		s.Peer = m.peers.stats()
	}
	if m.redis != nil {
		for _, r := range m.redis.servers {
			s.Servers = append(s.Servers, r.stats())
		}
	}
	if m.disk != nil {
		s.DiskWritable = m.disk.admission.Left(m.now())
		for _, d := range m.disk.devices {
			s.Devices = append(s.Devices, d.stats())
		}
	}
	return s
}

func (d *device) stats() DeviceStats {
	r, w := &d.sides[reading], &d.sides[writing]
	return DeviceStats{
		Path: d.path, Readable: d.store != nil && r.Closed(), Writable: d.store != nil && w.Closed(),
		Alarms: r.opened + w.opened, Written: d.written, SkippedRecords: d.skipped,
	}
}

func (s *redisServer) stats() ServerStats {
	r, w := &s.sides[reading], &s.sides[writing]
	return ServerStats{Name: s.name, Readable: r.Closed(), Writable: w.Closed(), Alarms: r.opened + w.opened}
}

func (l *link) stats() LinkStats {
	queued := l.queue.Len()
	for _, n := range l.running {
		queued += n
	}
	return LinkStats{
		From: l.from, To: l.to,
		Offered: l.offered, Blocks: l.ended[moved], Bytes: l.bytes, Present: l.ended[present],
		Missed: l.ended[missed], Cancelled: l.ended[cancelled], Dropped: l.ended[dropped], Declined: l.ended[declined], Errors: l.ended[failed],
		Queued: queued, QueuedBytes: int64(queued) * int64(l.m.blockBytes),
		BytesPerSecond: l.rate.BytesPerSecond(), Latency: l.rate.Latency(),
		Up: l.store == nil || l.store.up(),
	}
}
