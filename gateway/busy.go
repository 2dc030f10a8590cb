package gateway

import (
	"net/http"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/queue"
)

// An engine may have no place for a request, in a queue of its own that the gateway
// does not see. That is no failure of either: the request waits in the gateway
// until one of the engine's requests has ended, and is neither a retry nor a
// migration.

// busyPause is how long an engine that had no place is given nothing, unless one of
// its requests ends.
const busyPause = 250 * time.Millisecond

// busy reports whether an engine says: not now.
func busy(resp *http.Response) bool {
	return resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusServiceUnavailable && resp.Header.Get("Retry-After") != ""
}

// isFull reports whether the worker had no place a moment ago.
func (s *seat) isFull(now time.Time) bool { return s.fullUntil.Load() > now.UnixNano() }

// waitForPlace has the request wait after p had no place for it. A stream that has
// begun goes before all that have not.
func (x *exchange) waitForPlace(p *placement) error {
	x.g.metrics.busy.WithLabelValues(x.q.model, string(p.worker.ID())).Inc()
	p.seat.fullUntil.Store(x.g.c.Now().Add(busyPause).UnixNano())
	delete(x.tried, p.worker.ID())
	x.entry.update(func(r *Record) { r.Onboard = nil })
	r := x.g.room(x.q.model)
	w := x.waiter(r)
	if x.sent {
		w.Priority = queue.High
		w.Latest = x.g.c.Now().Add(x.g.c.Limits.FirstByte)
	}
	w.wanted, x.latest = time.Time{}, time.Time{} // it was promised a place
	return x.wait(r, w)
}
