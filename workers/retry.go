package workers

import (
	"context"
	"math/rand/v2"
	"time"
)

// retry is the pause between attempts: doubled each time, half of it random,
// so that a fleet does not knock in step.
type retry struct {
	min, max time.Duration
	next     time.Duration
}

func (b *retry) reset() { b.next = 0 }

func (b *retry) duration() time.Duration {
	b.next = min(max(2*b.next, b.min), b.max)
	return b.next/2 + rand.N(b.next/2+1)
}

func (b *retry) wait(ctx context.Context) {
	t := time.NewTimer(b.duration())
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
