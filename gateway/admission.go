package gateway

import (
	"context"
	"sync"
	"time"
)

// admission counts the inference requests in flight, bounds them, and lets a
// drain wait for the last.
type admission struct {
	mu       sync.Mutex
	inFlight int
	most     int
	draining bool // not ready any more
	closed   bool // takes no more requests
	idle     chan struct{}
}

// enter admits a request, or says why not. Every nil is followed by one leave.
func (a *admission) enter() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return fail(CodeDraining, "", "this gateway is shutting down").after(defaultRetryAfter)
	case a.inFlight >= a.most:
		return fail(CodeOverloaded, "", "%d requests are in flight, the most that this gateway takes", a.inFlight).after(defaultRetryAfter)
	}
	a.inFlight++
	return nil
}

func (a *admission) leave() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.inFlight--
	a.wakeLocked()
}

func (a *admission) wakeLocked() {
	if a.closed && a.inFlight == 0 && a.idle != nil {
		close(a.idle)
		a.idle = nil
	}
}

// ready reports whether load balancers should send requests.
func (a *admission) ready() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.draining
}

func (a *admission) count() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inFlight
}

// drain turns readiness off, takes requests for delay longer, then none, and
// returns when the last has ended or ctx has.
func (a *admission) drain(ctx context.Context, delay time.Duration) error {
	a.mu.Lock()
	a.draining = true
	a.mu.Unlock()
	if delay > 0 {
		t := time.NewTimer(delay)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	a.mu.Lock()
	a.closed = true
	if a.idle == nil {
		a.idle = make(chan struct{})
	}
	idle := a.idle
	a.wakeLocked()
	a.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// retryBudget lets retries be at most a share of all requests over time, with a
// reserve for when there is little traffic.
type retryBudget struct {
	mu     sync.Mutex
	tokens float64
}

const (
	retryShare   = 0.2
	retryReserve = 10
)

func newRetryBudget() *retryBudget { return &retryBudget{tokens: retryReserve} }

// earn is called for each request.
func (b *retryBudget) earn() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tokens = min(retryReserve, b.tokens+retryShare)
}

// spend is called before each retry.
func (b *retryBudget) spend() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
