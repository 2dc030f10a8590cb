package kvbm

// settledIDs bounds how many requests are remembered as settled: far more than
// start within the seconds that a router's call may be late.
const settledIDs = 4096

// settled remembers requests that want no more blocks, the latest ones, and
// what their onboardings came to.
type settled struct {
	results map[string]OnboardResult
	order   []string // a ring, once full
	next    int
}

func (s *settled) add(id string, r OnboardResult) {
	if s.results == nil {
		s.results = map[string]OnboardResult{}
	}
	if _, again := s.results[id]; again {
		return
	}
	s.results[id] = r
	if len(s.order) < settledIDs {
		s.order = append(s.order, id)
		return
	}
	delete(s.results, s.order[s.next])
	s.order[s.next] = id
	s.next = (s.next + 1) % settledIDs
}

// Settle says that a request wants no more blocks: the engine has taken its own
// leases, or the request has ended. Its onboarding lets go, and one that is
// asked for later, by a router's call that the request overtook, moves and holds
// nothing.
func (m *Manager) Settle(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var r OnboardResult
	if o, ok := m.plans[id]; ok {
		if o.finished {
			r = o.result
		}
		o.abandon()
	}
	m.settled.add(id, r)
}
