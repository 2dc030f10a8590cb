package policy

import "time"

// memory is the weight that what was measured before keeps after one more
// transfer: the last fifty or so count.
const memory = 0.98

// Rate measures one link, with as many transfers in flight as there are.
//
// Bandwidth is bytes moved per time in which at least one transfer was in
// flight, so parallel transfers count together and idle time does not.
// Latency is what one transfer takes beyond its bytes at that bandwidth, so
// that latency + bytes/bandwidth predicts both a single block and a long run.
type Rate struct {
	active         int
	since          time.Time // start of the busy time not yet accounted
	bytes, busy    float64   // decayed sums
	took, finished float64   // decayed sum of transfer times, and of transfers
}

// Start notes that a transfer begins.
func (r *Rate) Start(now time.Time) {
	if r.active == 0 {
		r.since = now
	}
	r.active++
}

// Cancel notes that a transfer ended without saying anything about the link.
func (r *Rate) Cancel(now time.Time) {
	if r.active--; r.active == 0 {
		r.since = now
	}
}

// Finish notes that a transfer moved its bytes in the given time.
func (r *Rate) Finish(now time.Time, bytes int64, took time.Duration) {
	r.active--
	r.bytes = r.bytes*memory + float64(bytes)
	r.busy = r.busy*memory + now.Sub(r.since).Seconds()
	r.took = r.took*memory + took.Seconds()
	r.finished = r.finished*memory + 1
	r.since = now
}

// BytesPerSecond is 0 until something was measured.
func (r *Rate) BytesPerSecond() float64 {
	if r.busy <= 0 {
		return 0
	}
	return r.bytes / r.busy
}

// Latency is 0 until something was measured.
func (r *Rate) Latency() time.Duration {
	if r.bytes == 0 || r.busy <= 0 {
		return 0
	}
	beyond := r.took/r.finished - r.bytes/r.finished/r.BytesPerSecond()
	return time.Duration(max(0, beyond) * float64(time.Second))
}
