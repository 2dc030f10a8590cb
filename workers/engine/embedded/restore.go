package embedded

import (
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
)

// intake starts a sequence: blocks in lower tiers are brought up first, unless
// the router decided otherwise.
func (s *scheduler) intake(q *sequence) {
	for i := range q.hashes {
		s.announcer.learn(q, i)
	}
	n := s.toRestore(q)
	if n == 0 {
		s.enqueue(q)
		return
	}
	id := ""
	if q.restore >= 0 {
		id = q.id // the router asks for the same, before us or after
	}
	q.onboarding = s.manager.Onboard(s.ctx, kvbm.OnboardRequest{
		ID:       id,
		Blocks:   kv.Blocks(nil, q.root, q.hashes[:n]),
		Deadline: time.Now().Add(s.restoreTimeout),
		// The router may have found blocks at a peer's, and tells the agent which.
		AwaitPlan: id != "",
	})
	q.state = restoring
	s.restoring = append(s.restoring, q)
	o := q.onboarding
	s.waiters.Go(func() { s.await(q, o) })
}

// await lets q go on when its blocks are there, or when they are late: then they
// are computed instead.
func (s *scheduler) await(q *sequence, o *kvbm.Onboarding) {
	late := time.NewTimer(s.restoreTimeout)
	defer late.Stop()
	select {
	case <-o.Done():
		s.do(func() { s.restored(q, o.Result()) })
	case <-late.C:
		s.do(func() {
			s.metrics.lateRestores.Inc()
			s.dropHold(q)
			s.restored(q, kvbm.OnboardResult{})
		})
	case <-s.ctx.Done():
	}
}

func (s *scheduler) restored(q *sequence, r kvbm.OnboardResult) {
	if q.state != restoring {
		return // the client left meanwhile
	}
	for _, n := range r.Blocks[kv.GPU+1:] {
		q.restored += n
	}
	s.restoring = slices.DeleteFunc(s.restoring, func(r *sequence) bool { return r == q })
	s.enqueue(q)
}

// dropHold lets go of the restored blocks that the manager keeps for q. A
// router's call that is still on its way will not have them held again.
func (s *scheduler) dropHold(q *sequence) {
	if q.restore >= 0 && q.index == 0 {
		s.manager.Settle(q.id)
	}
	if q.onboarding != nil {
		q.onboarding.Release()
		q.onboarding = nil
	}
}

// dropHolds makes room for the batch: what the waiting sequences hold goes
// first, the newest's before all. False: there was nothing.
func (s *scheduler) dropHolds() bool {
	for _, q := range slices.Backward(s.waiting) {
		if q.onboarding != nil {
			s.dropHold(q)
			return true
		}
	}
	return false
}

// toRestore is how many leading blocks to ask the manager for; 0 if there is
// nothing to bring up. With a decision of the router's at hand that is followed
// even if our own tiers hold less: a shared store may hold more than we know.
func (s *scheduler) toRestore(q *sequence) int {
	n := min(len(q.hashes), (q.prompt-1)/s.blockSize)
	decided := q.restore >= 0
	if decided {
		n = min(n, q.restore)
	}
	if n == 0 {
		return 0
	}
	found, inPages := 0, 0
	for _, span := range s.manager.Lookup(q.hashes[:n]) {
		if span.Tiers.Has(kv.GPU) && inPages == found {
			inPages += span.Blocks
		}
		found += span.Blocks
	}
	if !decided {
		n = found
	}
	if inPages >= n {
		return 0
	}
	return n
}
