package gateway

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/queue"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// roster is the fleet as it was when it last changed, with what the gateway
// keeps of each worker from one decision to the next.
type roster struct {
	fleet []*workers.Worker
	seats []*seat
}

// seat is one worker as decisions see it. With thousands of workers a decision
// has no time to look anything up, so the seat holds it.
type seat struct {
	worker  *workers.Worker
	id      kv.WorkerID
	context atomic.Int64 // the engine's context length once it is known
	// fullUntil is until when, in Unix nanoseconds, nothing is sent there: it had no
	// place for a request, and none of its own has ended since.
	fullUntil atomic.Int64

	// Guarded by Gateway.placing.
	account *router.Account
	pace    queue.Pace // of those who wait on account
	speeds  *router.Speeds
	stats   *workers.Stats // the report that speeds and report are from
	report  router.Report
	queued  bool // it had bytes queued on a link
	sent    *prefixindex.Predicted
	handoff handoff
}

// seats are the fleet's.
func (g *Gateway) seats() []*seat {
	fleet := g.c.Fleet.Workers()
	if r := g.roster.Load(); r != nil && r.of(fleet) {
		return r.seats
	}
	g.placing.Lock()
	defer g.placing.Unlock()
	known := map[*workers.Worker]*seat{}
	if r := g.roster.Load(); r != nil {
		for _, s := range r.seats {
			known[s.worker] = s
		}
	}
	r := &roster{fleet: fleet, seats: make([]*seat, len(fleet))}
	for i, w := range fleet {
		if r.seats[i] = known[w]; r.seats[i] == nil {
			r.seats[i] = g.newSeatLocked(w)
		}
	}
	g.roster.Store(r)
	return r.seats
}

func (g *Gateway) newSeatLocked(w *workers.Worker) *seat {
	return &seat{worker: w, id: w.ID(), account: g.ledger.Account(w.ID()), speeds: g.c.Calibration.Worker(w.ID()), sent: g.predictions.OfWorker()}
}

// of reports whether fleet is the very slice that the roster was made from; the
// fleet makes a new one for each change.
func (r *roster) of(fleet []*workers.Worker) bool {
	return len(r.fleet) == len(fleet) && (len(fleet) == 0 || &r.fleet[0] == &fleet[0])
}

// longest is the engine's context length in tokens, 0 if unknown.
func (s *seat) longest(ctx context.Context, cs *contexts) int {
	if n := s.context.Load(); n > 0 {
		return int(n)
	}
	n := cs.of(ctx, s.worker)
	s.context.Store(int64(n))
	return n
}

// fillLocked says what the worker can do and how busy it is.
func (s *seat) fillLocked(c *router.Candidate, loads *router.Loads, now time.Time) {
	if stats := s.worker.Report(); stats != s.stats {
		s.learnLocked(stats)
	}
	c.Rates = *s.speeds.Rates()
	if s.queued {
		drain(&c.Rates, milliseconds(now.Sub(s.report.At)))
	}
	if s.worker.Known().Role == kv.Decode {
		s.wayInLocked(&c.Rates, now)
	}
	s.account.Queue(&c.Rates, now)
	c.Load = loads.Merge(s.id, s.account.Load(now), &s.report, &c.Rates, now)
}

// learnLocked takes in a report: the load as it is, and what the worker measured
// of its links.
func (s *seat) learnLocked(stats *workers.Stats) {
	s.stats, s.queued = stats, false
	s.report = router.Report{At: stats.At, Running: stats.Running, Waiting: stats.Waiting, KVUsage: stats.KVUsage, QueuedPrefillTokens: stats.QueuedPrefillTokens}
	if stats.BlockBytes > 0 {
		s.speeds.SetBlockBytes(stats.BlockBytes)
	}
	for t := kv.CPU; t < kv.NumTiers; t++ {
		if stats.Links[t] != (workers.LinkStats{}) {
			s.speeds.SetLink(t, wayUp(stats, t))
			s.queued = s.queued || stats.Links[t].QueuedBytes > 0
		}
	}
}

// drain takes off what the links have carried since their report.
func drain(r *router.Rates, ms float64) {
	for t := range r.Links {
		if l := &r.Links[t]; l.QueuedBytes > 0 {
			l.QueuedBytes = max(0, l.QueuedBytes-int64(ms*l.BytesPerMS))
		}
	}
}

// wayUp is the way from tier t to the engine's memory. Blocks from below the
// cpu tier take a second link from there, where there is one; the two work at
// the same time, on different blocks, so the slower of them sets the pace.
func wayUp(s *workers.Stats, t kv.Tier) router.Link {
	l := s.Links[t]
	way := router.Link{LatencyMS: milliseconds(l.Latency), BytesPerMS: speed(l, t) / 1000, QueuedBytes: l.QueuedBytes}
	if last := s.Links[kv.CPU]; t > kv.CPU && last.Up {
		way.LatencyMS += milliseconds(last.Latency)
		way.BytesPerMS = min(way.BytesPerMS, speed(last, kv.CPU)/1000)
	}
	return way
}

// unmeasured are the links' bytes a second until their first transfer. They are
// hopeful: a link that is believed to be slow would never be used, and so never
// measured.
var unmeasured = [kv.NumTiers]float64{kv.CPU: 8e9, kv.Disk: 1e9, kv.Redis: 0.5e9, kv.Peer: 1e9}

// speed is a link's bytes a second; 0, unusable, when it is down.
func speed(l workers.LinkStats, t kv.Tier) float64 {
	switch {
	case !l.Up:
		return 0
	case l.BytesPerSecond > 0:
		return l.BytesPerSecond
	}
	return unmeasured[t]
}
