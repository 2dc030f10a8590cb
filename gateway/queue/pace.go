package queue

import (
	"math"
	"time"
)

// drain measures how fast a queue is let in while somebody waits: recent tokens
// over the recent time, the older the less of either.
type drain struct {
	tokens, seconds float64
	since           time.Time // until when the time is counted
}

const drainMemory = 10.0 // seconds

func (d *drain) begin(now time.Time) { d.since = now }

func (d *drain) served(tokens float64, now time.Time) {
	dt := max(0, now.Sub(d.since).Seconds())
	fade := math.Exp(-dt / drainMemory)
	d.tokens, d.seconds, d.since = d.tokens*fade+tokens, d.seconds*fade+dt, now
}

// rate is in tokens a second. Time in which nobody was let in counts. What is
// guessed counts as much as one ticket of the usual cost that was seen.
func (d *drain) rate(now time.Time, guess, usual float64) float64 {
	seconds := d.seconds + max(0, now.Sub(d.since).Seconds())
	return (d.tokens + usual) / max(seconds+usual/max(guess, 1e-9), 1e-9)
}

// aim compares how long tickets waited with what was predicted when they came.
// The prediction knows only who waits already: those who come later and go first,
// by priority or by their tenant's turn, show here.
type aim struct{ waited, predicted float64 }

const (
	aimFade = 0.99 // of what is known, with each ticket
	aimMost = 8.0
)

// note bounds what one prediction that was far too long counts: a first guess may
// be.
func (a *aim) note(waited, predicted time.Duration) {
	if predicted > 0 {
		predicted = min(predicted, 2*waited)
		a.waited, a.predicted = a.waited*aimFade+waited.Seconds(), a.predicted*aimFade+predicted.Seconds()
	}
}

// off is how many times a prediction the wait is, at least once: a queue that is
// shorter than it could be does no harm. A little is believed to have been seen
// as predicted.
func (a *aim) off() float64 {
	const little = 1.0
	return min(aimMost, max(1, (a.waited+little)/(a.predicted+little)))
}

// Pace measures how soon a worker turns to those who wait there, whatever it is
// that holds them: prefills ahead, or a batch that is full.
type Pace struct {
	waiting      int
	served, busy float64 // requests, and the milliseconds in which some waited
	since        time.Time
}

const paceMemory = 2000.0 // milliseconds

// Note is told how many wait whenever that has changed.
func (p *Pace) Note(waiting int, now time.Time) {
	switch {
	case waiting < p.waiting:
		dt := max(0, float64(now.Sub(p.since))/float64(time.Millisecond))
		fade := math.Exp(-dt / paceMemory)
		p.served, p.busy, p.since = p.served*fade+float64(p.waiting-waiting), p.busy*fade+dt, now
	case p.waiting == 0:
		p.since = now
	}
	p.waiting = waiting
}

// WaitMS is how long one more would wait at this pace.
func (p *Pace) WaitMS(now time.Time) float64 {
	if p.waiting == 0 {
		return 0
	}
	busy := p.busy + max(0, float64(now.Sub(p.since))/float64(time.Millisecond))
	return float64(p.waiting) * busy / max(1, p.served)
}
