package workers

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"time"
)

// failuresInARow make a worker unhealthy when none of them alone proves that the
// engine is gone.
const failuresInARow = 3

// watchHealth probes the engine: at an interval while it is healthy, with
// backoff while it is not, at once when a dispatcher saw it fail.
func (w *Worker) watchHealth(ctx context.Context) {
	pause := retry{min: w.c.BackoffMin, max: w.c.HealthInterval}
	for ctx.Err() == nil {
		var wait time.Duration
		if w.probe(ctx) {
			pause.reset()
			wait = w.c.HealthInterval
		} else {
			wait = pause.duration()
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		case <-w.kick:
		}
		t.Stop()
	}
}

// probe asks the engine once and reports whether it is healthy now.
func (w *Worker) probe(ctx context.Context) bool {
	w.mu.Lock()
	epoch := w.epoch
	w.mu.Unlock()
	probeCtx, cancel := context.WithTimeout(ctx, w.c.HealthTimeout)
	err := w.engine.Health(probeCtx)
	cancel()
	if ctx.Err() != nil {
		return false
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil:
		w.unhealthyLocked("probe", err)
		return false
	case epoch != w.epoch:
		return false // a dispatcher saw it fail while we asked
	}
	if !w.healthy.Swap(true) {
		w.failures = 0
		w.lives.Add(1)
		w.log.Info("worker is healthy", "after", w.c.Now().Sub(w.since))
		w.since = w.c.Now()
	}
	return true
}

// unhealthyLocked takes the worker out of service until a probe that begins
// from now on succeeds.
func (w *Worker) unhealthyLocked(by string, err error) {
	w.epoch++
	if w.healthy.Swap(false) {
		w.log.Warn("worker is unhealthy", "by", by, "error", err)
		w.since = w.c.Now()
	}
}

// ReportFailure tells that a request to the engine failed before it answered. A
// refused or broken connection takes the worker out of service at once, other
// failures when they come in a row; /health brings it back.
func (w *Worker) ReportFailure(err error) {
	w.counters.failures.Add(1)
	if w.failed(err) {
		w.CheckNow()
	}
	w.fleet.judge(w)
}

// CheckNow has the worker's health asked for at once: something hints at its
// death that is no proof.
func (w *Worker) CheckNow() {
	select {
	case w.kick <- struct{}{}:
	default:
	}
}

// failed books a failure and reports whether it takes the worker out of service.
func (w *Worker) failed(err error) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := gone(err)
	// A death fails all that is in flight; it counts once.
	if !w.tryLocked(false) && (!gone || w.healthy.Load()) {
		w.conduct.note(0, 1, w.c.Now())
	}
	w.failures++
	if !gone && w.failures < failuresInARow {
		return false
	}
	w.failures = 0
	w.unhealthyLocked("dispatcher", err)
	return true
}

// ReportSuccess tells that a request was answered.
func (w *Worker) ReportSuccess() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.failures = 0
	if !w.tryLocked(true) {
		w.conduct.note(1, 0, w.c.Now())
	}
}

// gone reports whether an error proves that nobody serves the connection.
func gone(err error) bool {
	var op *net.OpError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) ||
		errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) ||
		errors.As(err, &op) && op.Op == "dial"
}
