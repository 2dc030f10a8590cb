package kvbm

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	// probePeriod is how often some beliefs about Redis are checked, and a server
	// that came back is asked what it has.
	probePeriod = time.Second
	// probeBlocks are checked in one round trip.
	probeBlocks = 512
)

// tendRedis keeps what is believed to be in Redis true, beside the traffic: what
// was stored before this manager began is found, and what the servers have let
// go (evicted, flushed, run out) is noticed before a request plans on it.
func (m *Manager) tendRedis() {
	tick := time.NewTicker(probePeriod)
	defer tick.Stop()
	for {
		for _, s := range m.redis.servers {
			m.discover(s)
		}
		for m.probe() && m.ctx.Err() == nil { // where one is gone there may be more
		}
		select {
		case <-m.ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// discover asks a server once what it has, and again after it was away: it may
// have lost everything, or be another one. Without traffic that is also what finds
// out that it works again.
func (m *Manager) discover(s *redisServer) {
	side := &s.sides[reading]
	m.mu.Lock()
	if !side.Closed() {
		s.discovered = false
	}
	due, store := !s.discovered && side.Allow(m.now()), s.store
	m.mu.Unlock()
	if !due {
		return
	}
	found, answered := 0, false
	err := store.Discover(m.ctx, func(bs []kv.Block) bool {
		m.mu.Lock()
		defer m.mu.Unlock()
		if !answered {
			answered = true
			side.works()
		}
		for _, b := range bs {
			if m.redis.of(b.Hash) == s && m.redis.known.Len() < maxKnown {
				m.inRedis(b)
				found++
			}
		}
		return m.redis.known.Len() < maxKnown && m.ctx.Err() == nil
	})
	m.mu.Lock()
	s.discovered = err == nil
	switch {
	case answered:
	case err != nil:
		side.failed(m, err)
	default:
		side.works()
	}
	m.mu.Unlock()
	switch {
	case err != nil:
		m.log.Debug("what is in a store cannot be found out yet", "store", store.Name(), "err", err)
	case found > 0:
		m.log.Info("found blocks in a shared store", "store", store.Name(), "blocks", found)
	}
}

// probe checks the beliefs that were not confirmed for the longest time, and
// reports whether any was wrong.
func (m *Manager) probe() (wrong bool) {
	m.mu.Lock()
	byServer := map[*redisServer][]policy.Belief{}
	for _, b := range m.redis.known.Oldest(probeBlocks) {
		s := m.redis.of(b.Block.Hash)
		byServer[s] = append(byServer[s], b)
	}
	m.mu.Unlock()
	for s, beliefs := range byServer {
		if m.check(s, beliefs) {
			wrong = true
		}
	}
	return wrong
}

func (m *Manager) check(s *redisServer, beliefs []policy.Belief) (wrong bool) {
	m.mu.Lock()
	ask, store := s.sides[reading].Closed(), s.store
	m.mu.Unlock()
	var lives []time.Duration
	if ask {
		hashes := make([]kv.Hash, len(beliefs))
		for i := range beliefs {
			hashes[i] = beliefs[i].Block.Hash
		}
		var err error
		if lives, err = store.Lives(m.ctx, hashes); err != nil {
			m.log.Debug("beliefs about a store cannot be checked", "store", store.Name(), "err", err)
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.now()
	var gone []kv.Hash
	for i, b := range beliefs {
		switch {
		case lives == nil:
			m.redis.known.Confirm(b, b.Until) // nothing new; its turn comes again
		case lives[i] > 0:
			m.redis.known.Confirm(b, now.Add(lives[i]))
		case m.redis.known.Gone(b):
			gone = append(gone, b.Block.Hash)
		}
	}
	m.removed(kv.Redis, gone)
	return len(gone) > 0
}
