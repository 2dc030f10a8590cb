package policy

import "time"

// Breaker decides when a store that fails is left alone. After Threshold
// failures in a row it opens for Wait, doubled with each failed probe up to
// MaxWait; then one caller at a time may try, and a success closes it.
type Breaker struct {
	Threshold     int
	Wait, MaxWait time.Duration

	failures int
	wait     time.Duration // of the current opening; 0 = closed
	until    time.Time
	probing  bool
}

// Allow asks to use the store. A caller that was allowed reports with exactly
// one of Success, Failure and Unknown.
func (b *Breaker) Allow(now time.Time) bool {
	if b.wait == 0 {
		return true
	}
	if b.probing || now.Before(b.until) {
		return false
	}
	b.probing = true
	return true
}

// Usable reports whether Allow would agree, without asking.
func (b *Breaker) Usable(now time.Time) bool {
	return b.wait == 0 || !b.probing && !now.Before(b.until)
}

// Closed reports whether the store is thought to work.
func (b *Breaker) Closed() bool { return b.wait == 0 }

// Success reports that the store answered.
func (b *Breaker) Success() { b.failures, b.wait, b.probing = 0, 0, false }

// Unknown reports that the caller gave up before the store could answer.
func (b *Breaker) Unknown() { b.probing = false }

// Trip opens the breaker: that the store does not work is known without trying.
func (b *Breaker) Trip(now time.Time) { b.wait, b.until = b.Wait, now.Add(b.Wait) }

// Failure reports an error. It returns true when it opened the breaker, which
// is worth a line in the log.
func (b *Breaker) Failure(now time.Time) (opened bool) {
	wasProbe := b.probing
	b.failures++
	b.probing = false
	switch {
	case b.wait == 0 && b.failures >= b.Threshold:
		b.wait, opened = b.Wait, true
	case b.wait > 0 && wasProbe:
		b.wait = min(2*b.wait, b.MaxWait)
	default:
		return false // still closed, or a straggler from before the opening
	}
	b.until = now.Add(b.wait)
	return opened
}
