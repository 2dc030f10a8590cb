package router

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Report is what a worker says of its own load.
type Report struct {
	At                  time.Time // when it came; zero: never
	Running, Waiting    int
	KVUsage             float64 // share of its KV blocks in use; below 0: unknown
	QueuedPrefillTokens int     // prompt tokens not computed yet; below 0: unknown
}

// Loads merges the two views of a worker's load. Our ledger is exact and
// current about our own requests; the worker's report knows those of other
// gateways too, but is old by up to its interval, and counts ours as well. So
// from the report we take only what our own requests of that time can't
// explain. Taking the larger of the two instead would let a request that ended
// just now haunt its worker until the next report.
type Loads struct {
	workers map[kv.WorkerID]*recentLoad
}

const (
	loadBucket  = 50 * time.Millisecond
	loadBuckets = 40
	// reportSpan is how far before its arrival a report may have been taken.
	reportSpan = 500 * time.Millisecond
	// reportStale is the age beyond which a report says nothing any more. The
	// buckets reach back over both.
	reportStale = loadBucket*loadBuckets - reportSpan
)

// recentLoad is our own load on a worker over the last loadBuckets buckets of
// time: the most of each.
type recentLoad struct {
	buckets [loadBuckets]struct {
		number   int64
		requests int
		queuedMS float64
	}
}

// NewLoads remembers nothing yet.
func NewLoads() *Loads { return &Loads{workers: map[kv.WorkerID]*recentLoad{}} }

// Note remembers our load on w as it is now. Call it after each rise, and before
// each fall.
func (ls *Loads) Note(w kv.WorkerID, ledger *Ledger, now time.Time) {
	r := ls.workers[w]
	if r == nil {
		r = &recentLoad{}
		ls.workers[w] = r
	}
	own := ledger.Load(w, now)
	number := now.UnixNano() / int64(loadBucket)
	b := &r.buckets[number%loadBuckets]
	if b.number != number {
		b.number, b.requests, b.queuedMS = number, 0, 0
	}
	b.requests = max(b.requests, own.Running+own.Waiting)
	b.queuedMS = max(b.queuedMS, own.QueuedPrefillMS)
}

// Of is w's load as far as anyone knows.
func (ls *Loads) Of(w kv.WorkerID, s *Report, rates *Rates, ledger *Ledger, now time.Time) Load {
	return ls.Merge(w, ledger.Load(w, now), s, rates, now)
}

// Merge is Of for those who know w's load by the ledger already.
func (ls *Loads) Merge(w kv.WorkerID, load Load, s *Report, rates *Rates, now time.Time) Load {
	if s.At.IsZero() || now.Sub(s.At) > reportStale {
		return load
	}
	if s.KVUsage >= 0 {
		load.FreeKVShare = max(0, 1-s.KVUsage)
	}
	if s.Running+s.Waiting <= load.Running+load.Waiting {
		return load // what is open now explains it
	}
	ownRequests, ownQueuedMS := ls.most(w, load, s.At.Add(-reportSpan))
	others := s.Running + s.Waiting - ownRequests
	if others <= 0 {
		return load
	}
	waiting := min(others, s.Waiting)
	load.Waiting += waiting
	load.Running += others - waiting
	if s.QueuedPrefillTokens > 0 && rates.PrefillPerTokenMS > 0 {
		queuedMS := rates.PrefillPerTokenMS*float64(s.QueuedPrefillTokens) - ownQueuedMS
		queuedMS = max(0, queuedMS-milliseconds(now.Sub(s.At))) // the worker did not stand still
		load.QueuedPrefillMS += queuedMS
		load.QueuedPrefillTokens += int(queuedMS / rates.PrefillPerTokenMS)
	}
	return load
}

// most is our largest load on w since a time. A request that was open at the
// time is either open now or was noted when it ended.
func (ls *Loads) most(w kv.WorkerID, own Load, since time.Time) (requests int, queuedMS float64) {
	requests, queuedMS = own.Running+own.Waiting, own.QueuedPrefillMS
	r := ls.workers[w]
	if r == nil {
		return requests, queuedMS
	}
	first := since.UnixNano() / int64(loadBucket)
	for i := range r.buckets {
		if b := &r.buckets[i]; b.number >= first {
			requests = max(requests, b.requests)
			queuedMS = max(queuedMS, b.queuedMS)
		}
	}
	return requests, queuedMS
}

// Len is the number of workers remembered.
func (ls *Loads) Len() int { return len(ls.workers) }

// Forget drops the workers that gone says are gone, and calls it once for each.
func (ls *Loads) Forget(gone func(kv.WorkerID) bool) {
	for w := range ls.workers {
		if gone(w) {
			delete(ls.workers, w)
		}
	}
}
