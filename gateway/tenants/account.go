package tenants

import (
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits are how much a tenant may use; 0: as much as it likes.
type Limits struct {
	RequestsPerMinute int
	TokensPerMinute   int // of prompts and answers together
	Concurrent        int // requests in flight
}

// OverLimit says that a tenant has used what it may.
type OverLimit struct {
	What       string
	RetryAfter time.Duration
}

func (e *OverLimit) Error() string { return e.What }

// account is what a tenant has used. A minute's worth may be used at once.
type account struct {
	mu       sync.Mutex
	limits   Limits
	requests *rate.Limiter
	tokens   *rate.Limiter
	inFlight int
}

func newAccount() *account {
	return &account{requests: rate.NewLimiter(rate.Inf, math.MaxInt), tokens: rate.NewLimiter(rate.Inf, math.MaxInt)}
}

// limit sets limits. What was used of a minute stays used.
func (a *account) limit(l Limits) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.RequestsPerMinute != a.limits.RequestsPerMinute {
		a.requests = perMinute(l.RequestsPerMinute)
	}
	if l.TokensPerMinute != a.limits.TokensPerMinute {
		a.tokens = perMinute(l.TokensPerMinute)
	}
	a.limits = l
}

func perMinute(n int) *rate.Limiter {
	if n == 0 {
		return rate.NewLimiter(rate.Inf, math.MaxInt)
	}
	return rate.NewLimiter(rate.Limit(float64(n)/60), n)
}

// Enter admits one request, or returns an *OverLimit. Each nil is followed by
// one Leave.
func (t *Tenant) Enter(now time.Time) error {
	a, l := t.account, t.spec.Limits
	a.mu.Lock()
	defer a.mu.Unlock()
	if l.Concurrent > 0 && a.inFlight >= l.Concurrent {
		return &OverLimit{fmt.Sprintf("tenant %s has %d requests in flight, the most that it may", t.spec.Name, a.inFlight), time.Second}
	}
	if l.TokensPerMinute > 0 {
		// Tokens are charged when they are known, so the account may be overdrawn: then
		// the next request waits until it is not.
		if left := a.tokens.TokensAt(now); left <= 0 {
			return &OverLimit{fmt.Sprintf("tenant %s has used its %d tokens a minute", t.spec.Name, l.TokensPerMinute), wait(1-left, l.TokensPerMinute)}
		}
	}
	if !a.requests.AllowN(now, 1) {
		left := a.requests.TokensAt(now)
		return &OverLimit{fmt.Sprintf("tenant %s has used its %d requests a minute", t.spec.Name, l.RequestsPerMinute), wait(1-left, l.RequestsPerMinute)}
	}
	a.inFlight++
	return nil
}

// wait is how long it takes to earn n at a rate.
func wait(n float64, aMinute int) time.Duration {
	return time.Duration(n / float64(aMinute) * float64(time.Minute)).Round(time.Millisecond)
}

// Leave ends what Enter admitted.
func (t *Tenant) Leave() {
	t.account.mu.Lock()
	defer t.account.mu.Unlock()
	t.account.inFlight--
}

// Charge books tokens that were used.
func (t *Tenant) Charge(now time.Time, tokens int) {
	a := t.account
	a.mu.Lock()
	defer a.mu.Unlock()
	for burst := a.tokens.Burst(); tokens > 0; tokens -= burst {
		a.tokens.ReserveN(now, min(tokens, burst)) // no more than the burst is taken at once
	}
}
