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
// guessed counts as much as one ticket of the usual cost that was seen: nothing,
// if there is no guess.
func (d *drain) rate(now time.Time, guess, usual float64) float64 {
	seconds := d.seconds + max(0, now.Sub(d.since).Seconds())
	if guess > 0 {
		seconds += usual / guess
	}
	return (d.tokens + usual) / max(seconds, 1e-9)
}

// aim compares the tokens that went before tickets with those that were ahead of
// them as they came: others come later and go first, by priority or by their
// tenant's turn.
type aim struct{ went, ahead float64 }

const (
	aimFade = 0.99 // of what is known, with each ticket
	aimMost = 8.0
	// aimTickets of the usual cost are believed to have been seen as predicted.
	aimTickets = 8
)

func (a *aim) note(went, ahead float64) {
	if ahead > 0 {
		a.went, a.ahead = a.went*aimFade+went, a.ahead*aimFade+ahead
	}
}

// off is how many times the tokens ahead those are that will go before, at least
// once: a queue that is shorter than it could be does no harm.
func (a *aim) off(usual float64) float64 {
	few := max(aimTickets*usual, 1e-9)
	return min(aimMost, max(1, (a.went+few)/(a.ahead+few)))
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
