package router

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Ledger keeps what was routed and is not finished, so that a decision sees
// the load of those before it at once. Law 4: each request's load is added once
// and released once, whatever ends it.
//
// A request is waiting until FirstToken and running until Done. Its worker is
// taken to work through the waiting ones' restores and prefills in the order of
// Add.
type Ledger struct {
	requests map[string]*entry
	workers  map[kv.WorkerID]*Account
	added    uint64
	released uint64
}

// entry is one open request. Waiting ones of a worker form a list in order of
// arrival.
type entry struct {
	id         string
	worker     kv.WorkerID
	workMS     float64 // restore, adapter and prefill once the worker turns to it
	tokens     int     // to be computed
	blocks     int     // of the prompt
	aheadMS    float64 // Account.addedMS up to and with this one
	waiting    bool
	prev, next *entry
}

// Account is one worker's open requests. It stays the worker's until Forget, so
// that those who decide often need not look it up each time.
type Account struct {
	running     int
	waiting     int
	head, tail  *entry
	queuedMS    float64 // sum of workMS over the waiting
	addedMS     float64 // and over all there ever were
	tokens      int     // and of their tokens
	blocks      int     // of all
	headStarted int64   // when the worker turned to head, in Unix nanoseconds

	links plannedLinks
}

// NewLedger is an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{requests: map[string]*entry{}, workers: map[kv.WorkerID]*Account{}}
}

// Add books a request that goes to w. A request that is already open is moved:
// its old load is released first, as a retry or migration wants it.
func (l *Ledger) Add(id string, w kv.WorkerID, e Estimate, now time.Time) {
	l.Done(id, now)
	a := l.Account(w)
	n := &entry{id: id, worker: w, workMS: e.RestoreMS + e.AdapterMS + e.PrefillMS, tokens: e.ComputeTokens,
		blocks: e.Cut + e.RecomputeBlocks, waiting: true, prev: a.tail}
	if a.tail == nil {
		a.head, a.headStarted = n, now.UnixNano()
	} else {
		a.tail.next = n
	}
	a.tail = n
	a.waiting++
	a.queuedMS += n.workMS
	a.addedMS += n.workMS
	n.aheadMS = a.addedMS
	a.tokens += n.tokens
	a.blocks += n.blocks
	l.requests[id] = n
	l.added++
}

// FirstToken releases the request's prefill load: it is running now. It returns
// the work that joined the queue behind the request meanwhile, some of which may
// have shared its last step. An unknown or already running request changes
// nothing.
func (l *Ledger) FirstToken(id string, now time.Time) (behindMS float64) {
	n := l.requests[id]
	if n == nil || !n.waiting {
		return 0
	}
	a := l.workers[n.worker]
	a.unqueue(n, now)
	a.running++
	return a.addedMS - n.aheadMS
}

// Done releases what the request still holds: it ended, in whatever way. Done
// may come at any time, also before FirstToken, and more than once.
func (l *Ledger) Done(id string, now time.Time) {
	n := l.requests[id]
	if n == nil {
		return
	}
	delete(l.requests, id)
	l.released++
	a := l.workers[n.worker]
	a.blocks -= n.blocks
	if n.waiting {
		a.unqueue(n, now)
	} else {
		a.running--
	}
}

// unqueue takes n out of the waiting list.
func (a *Account) unqueue(n *entry, now time.Time) {
	if n == a.head {
		a.head, a.headStarted = n.next, now.UnixNano()
	} else {
		n.prev.next = n.next
	}
	if n == a.tail {
		a.tail = n.prev
	} else {
		n.next.prev = n.prev
	}
	n.prev, n.next, n.waiting = nil, nil, false
	a.waiting--
	a.tokens -= n.tokens
	if a.queuedMS -= n.workMS; a.waiting == 0 {
		a.queuedMS = 0 // no rounding error outlives the queue
	}
}

// Account is w's account, a new one if it has none.
func (l *Ledger) Account(w kv.WorkerID) *Account {
	a := l.workers[w]
	if a == nil {
		a = &Account{}
		l.workers[w] = a
	}
	return a
}

// Forget closes w's account, unless something is still open on it.
func (l *Ledger) Forget(w kv.WorkerID) {
	if a := l.workers[w]; a != nil && a.running+a.waiting == 0 {
		delete(l.workers, w)
	}
}

// Load is what this ledger knows of w's load. FreeKVShare is unknown to it.
func (l *Ledger) Load(w kv.WorkerID, now time.Time) Load {
	if a := l.workers[w]; a != nil {
		return a.Load(now)
	}
	return Load{FreeKVShare: -1}
}

// Load is the account's load. FreeKVShare is unknown to it.
func (a *Account) Load(now time.Time) Load {
	load := Load{Running: a.running, Waiting: a.waiting, FreeKVShare: -1,
		QueuedPrefillTokens: a.tokens, ActiveBlocks: a.blocks}
	if a.head != nil {
		// The head is being worked on. When it is overdue nobody knows how long
		// it will still take; the others' work is still to come in any case.
		done := milliseconds(time.Duration(now.UnixNano() - a.headStarted))
		load.QueuedPrefillMS = max(0, a.queuedMS-min(max(0, done), a.head.workMS))
	}
	return load
}

func milliseconds(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// Open is the number of requests added and not released.
func (l *Ledger) Open() int { return len(l.requests) }

// Totals are the requests ever added and released; their difference is Open.
func (l *Ledger) Totals() (added, released uint64) { return l.added, l.released }
