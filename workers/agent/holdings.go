package agent

import "github.com/kvasir-ai/kvasir/internal/kv"

// holding is one block: what it follows and who says that it is where.
type holding struct {
	parent kv.Hash
	by     [numOrigins]kv.TierSet
}

func (h holding) tiers() (s kv.TierSet) {
	for _, t := range h.by {
		s |= t
	}
	return s
}

// holdings is the sum of all events. Pure.
type holdings struct {
	blocks map[kv.Hash]holding
	counts [numOrigins][kv.NumTiers]int
}

// apply takes one origin's event and appends to dst what it changes about the
// sum: nothing where the other origin says the same.
func (s *holdings) apply(dst []kv.Event, by origin, e kv.Event) []kv.Event {
	if e.Tier >= kv.NumTiers {
		return dst
	}
	switch e.Kind {
	case kv.Stored:
		return s.store(dst, by, e)
	case kv.Removed:
		return s.remove(dst, by, e.Tier, e.Hashes)
	case kv.Cleared:
		return s.clear(dst, by, e.Tier)
	}
	return dst
}

func (s *holdings) store(dst []kv.Event, by origin, e kv.Event) []kv.Event {
	parent, run := e.Parent, continuesLast(dst, e)
	for _, hash := range e.Hashes {
		h := s.blocks[hash]
		known := h.tiers().Has(e.Tier)
		if !h.by[by].Has(e.Tier) {
			s.counts[by][e.Tier]++
		}
		h.parent = parent
		h.by[by] = h.by[by].With(e.Tier)
		s.blocks[hash] = h
		switch {
		case known:
			run = false
		case run:
			last := &dst[len(dst)-1]
			last.Hashes = append(last.Hashes, hash)
		default:
			dst = append(dst, kv.Event{Kind: kv.Stored, Tier: e.Tier, Parent: parent, Hashes: []kv.Hash{hash}})
			run = true
		}
		parent = hash
	}
	return dst
}

// continuesLast reports whether a Stored event goes on where the last one of a
// batch ended: block managers tell of blocks one by one.
func continuesLast(batch []kv.Event, e kv.Event) bool {
	if len(batch) == 0 {
		return false
	}
	last := batch[len(batch)-1]
	return last.Kind == kv.Stored && last.Tier == e.Tier && last.Hashes[len(last.Hashes)-1] == e.Parent
}

func (s *holdings) remove(dst []kv.Event, by origin, t kv.Tier, hashes []kv.Hash) []kv.Event {
	var gone []kv.Hash
	for _, hash := range hashes {
		if s.drop(by, t, hash) {
			gone = append(gone, hash)
		}
	}
	if len(gone) > 0 {
		dst = append(dst, kv.Event{Kind: kv.Removed, Tier: t, Hashes: gone})
	}
	return dst
}

// drop forgets one origin's word about a block, and reports whether the tier
// holds it no more.
func (s *holdings) drop(by origin, t kv.Tier, hash kv.Hash) bool {
	h, ok := s.blocks[hash]
	if !ok || !h.by[by].Has(t) {
		return false
	}
	s.counts[by][t]--
	h.by[by] = h.by[by].Without(t)
	if h.tiers() == 0 {
		delete(s.blocks, hash)
	} else {
		s.blocks[hash] = h
	}
	return !h.tiers().Has(t)
}

// clear forgets all that one origin said of a tier.
func (s *holdings) clear(dst []kv.Event, by origin, t kv.Tier) []kv.Event {
	if s.counts[by][t] == 0 {
		return dst
	}
	var gone []kv.Hash
	for hash := range s.blocks {
		if s.drop(by, t, hash) {
			gone = append(gone, hash)
		}
	}
	for o := range numOrigins {
		if s.counts[o][t] > 0 { // the other origin's blocks stay
			return append(dst, kv.Event{Kind: kv.Removed, Tier: t, Hashes: gone})
		}
	}
	return append(dst, kv.Event{Kind: kv.Cleared, Tier: t})
}

// snapshot is the sum as Stored events, one a run of blocks that follow each
// other in the same tier.
func (s *holdings) snapshot() []kv.Event {
	var events []kv.Event
	for t := range kv.NumTiers {
		n := 0
		for o := range numOrigins {
			n += s.counts[o][t]
		}
		if n > 0 {
			events = s.chains(events, t, n)
		}
	}
	return events
}

func (s *holdings) chains(events []kv.Event, t kv.Tier, n int) []kv.Event {
	// Of the children of a block one continues its run, the others begin runs.
	next := make(map[kv.Hash]kv.Hash, n)
	for hash, h := range s.blocks {
		if h.tiers().Has(t) {
			next[h.parent] = hash
		}
	}
	for hash, h := range s.blocks {
		if !h.tiers().Has(t) || s.continues(next, t, hash, h) {
			continue
		}
		run := kv.Event{Kind: kv.Stored, Tier: t, Parent: h.parent}
		for more := true; more; hash, more = next[hash] {
			run.Hashes = append(run.Hashes, hash)
		}
		events = append(events, run)
	}
	return events
}

// continues reports whether a block lies within the run of the one before it.
func (s *holdings) continues(next map[kv.Hash]kv.Hash, t kv.Tier, hash kv.Hash, h holding) bool {
	before, held := s.blocks[h.parent]
	return held && before.tiers().Has(t) && next[h.parent] == hash
}
