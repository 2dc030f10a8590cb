package kvbm

import "time"

// planPatience is how long an engine's onboarding waits for the router's call,
// which left before the request did and has a shorter way.
const planPatience = 100 * time.Millisecond

// The methods below are called with mu held.

// awaitPlan holds the onboarding back if only the router's call can say where
// its blocks are.
func (o *Onboarding) awaitPlan() {
	m := o.m
	if !o.req.AwaitPlan || o.req.ID == "" || m.peers == nil || o.hasAll() {
		return
	}
	o.waiting = true
	time.AfterFunc(planPatience, func() {
		m.mu.Lock()
		defer m.mu.Unlock()
		o.goOn()
	})
}

// hasAll reports whether every block is in a tier of this worker's.
func (o *Onboarding) hasAll() bool {
	for _, b := range o.req.Blocks {
		if o.m.tiersOf(b.Hash) == 0 {
			return false
		}
	}
	return true
}

// planned takes what the router's call knows, which may come at any time.
func (o *Onboarding) planned(r *OnboardRequest) {
	if len(o.req.Peers) == 0 {
		o.req.Peers = r.Peers
	}
	if !r.AwaitPlan {
		o.goOn()
	}
}

func (o *Onboarding) goOn() {
	if o.waiting {
		o.waiting = false
		o.advance()
	}
}
