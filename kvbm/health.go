package kvbm

import (
	"time"

	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

// health is the breaker of one store, or of one direction of it, and what an
// operator should hear of it.
type health struct {
	policy.Breaker
	m      *Manager
	what   string
	opened uint64 // times that it was left alone
}

func (m *Manager) newHealth(what string) health {
	return health{m: m, what: what, Breaker: policy.Breaker{Threshold: 3, Wait: time.Second, MaxWait: 30 * time.Second}}
}

// broke notes an error, and says so when it opens the breaker.
func (h *health) broke(err error) {
	if h.Failure(h.m.now()) {
		h.opened++
		h.m.log.Warn("a store is left alone after repeated errors; what it holds is missed until it works again",
			"store", h.what, "err", err)
	}
}

// works notes that the store answered.
func (h *health) works() {
	if !h.Closed() {
		h.m.log.Info("a store works again", "store", h.what)
	}
	h.Success()
}

func (h *health) usable(now time.Time) bool { return h.Usable(now) }

func (h *health) up() bool { return h.Closed() }

// trip opens the breaker without a failure in use.
func (h *health) trip(now time.Time) {
	h.opened++
	h.Trip(now)
}
