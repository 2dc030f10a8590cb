package workers

import (
	"math"
	"time"
)

// An engine may answer /health and still fail its requests, or answer them far
// too late. It shows against its peers: when they do well with the same model and
// it does not, it is ejected for a time that grows each time. When the time is
// over one request is sent there; it brings the worker back, or out again.

const (
	outlierMemory = 10 * time.Second // over which answers are judged
	fewestBad     = 5                // below which nobody is judged
	badShare      = 0.3              // of its answers make an outlier of a worker
	timesPeers    = 2                // worse than its peers it must be
	firstEjection = 5 * time.Second
	mostEjection  = 5 * time.Minute
	// trialPatience is how long the one request may take to show anything.
	trialPatience = 30 * time.Second
)

// conduct is how a worker's requests went lately, guarded by Worker.mu.
type conduct struct {
	good, bad float64 // the older, the less
	at        time.Time
	times     int       // ejected without a long good time between
	returned  time.Time // from the last, or to return
}

func (c *conduct) note(good, bad float64, now time.Time) {
	fade := math.Exp(-max(0, now.Sub(c.at).Seconds()) / outlierMemory.Seconds())
	c.good, c.bad, c.at = max(0, c.good*fade+good), c.bad*fade+bad, now
}

// ReportSent tells that a request is on its way. To a worker whose ejection is
// over no other follows until it is known how that one went.
func (w *Worker) ReportSent() {
	if w.ejected.Load() != 0 {
		w.trial.Store(w.c.Now().UnixNano())
	}
}

// ReportLate tells that an answer, reported as a success, began far later than
// predicted.
func (w *Worker) ReportLate() {
	w.mu.Lock()
	w.conduct.note(-1, 1, w.c.Now())
	w.mu.Unlock()
	w.fleet.judge(w)
}

// out reports whether the worker takes no requests because of its conduct, and
// whether that is so only until a trial has ended.
func (w *Worker) out() (out, halfOpen bool) {
	until := w.ejected.Load()
	if until == 0 {
		return false, false
	}
	now := w.c.Now().UnixNano()
	return now < until || now-w.trial.Load() < int64(trialPatience), now >= until
}

// ejectLocked takes the worker out for longer than the last time.
func (w *Worker) ejectLocked(now time.Time, why string) {
	c := &w.conduct
	if now.Sub(c.returned) > mostEjection {
		c.times = 0
	}
	length := min(mostEjection, firstEjection<<min(c.times, 10))
	c.times++
	c.good, c.bad = 0, 0
	c.returned = now.Add(length)
	w.trial.Store(0)
	w.ejected.Store(c.returned.UnixNano())
	w.counters.ejections.Add(1)
	w.log.Warn("worker is ejected", "for", length, "why", why)
}

// tryLocked ends a trial, if one was under way, and reports whether it did.
func (w *Worker) tryLocked(ok bool) bool {
	now := w.c.Now()
	if until := w.ejected.Load(); until == 0 || now.UnixNano() < until {
		return until != 0 // what was under way when it was ejected proves nothing
	}
	if !ok {
		w.ejectLocked(now, "it failed its trial")
		return true
	}
	w.ejected.Store(0)
	w.trial.Store(0)
	w.conduct.returned = now
	w.log.Info("worker is back after its ejection")
	return true
}

// judge ejects w if it does much worse than its peers, and enough of them stay.
func (f *Fleet) judge(w *Worker) {
	if f == nil || f.c.EjectShare < 0 {
		return
	}
	f.judging.Lock()
	defer f.judging.Unlock()
	now := w.c.Now()
	model := w.Known().Model
	var peersGood, peersBad float64
	serving, ejected, ready := 0, 0, 0
	for _, p := range f.Workers() {
		if p.Known().Model != model {
			continue
		}
		serving++
		if p.ejected.Load() != 0 {
			ejected++
		}
		if p != w && p.Ready() {
			ready++
			p.mu.Lock()
			p.conduct.note(0, 0, now)
			peersGood += p.conduct.good
			peersBad += p.conduct.bad
			p.mu.Unlock()
		}
	}
	if ready == 0 || ejected+1 > int(f.c.EjectShare*float64(serving)) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	c := &w.conduct
	if w.ejected.Load() != 0 || c.bad < fewestBad {
		return
	}
	own, peers := c.bad/(c.good+c.bad), peersBad/(peersGood+peersBad)
	// Peers that answered nothing prove nothing.
	if own < badShare || peersGood+peersBad < fewestBad || own < timesPeers*peers {
		return
	}
	w.ejectLocked(now, "its answers fail or are late, and its peers' do not")
}
