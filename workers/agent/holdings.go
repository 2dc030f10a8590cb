package agent

import "github.com/kvasir-ai/kvasir/internal/kv"

// holding is one block: what it follows and who says that it is where.
type holding struct {
	hash, parent kv.Hash
	before, next uint32 // numbers of the block it follows and of one that follows it, when last seen; 0: none
	by           [numOrigins]kv.TierSet
}

func (h *holding) tiers() (s kv.TierSet) {
	for _, t := range h.by {
		s |= t
	}
	return s
}

// holdings is the sum of all events. Pure. Holdings have numbers, so that a
// snapshot follows prompts from block to block without looking any up.
type holdings struct {
	numbers map[kv.Hash]uint32
	pages   []*[holdingPage]holding
	made    uint32   // numbers given out, from 1 on
	free    []uint32 // those given back
	counts  [numOrigins][kv.NumMarks]int
	marks   bool // blocks were marked, once
}

const holdingPage = 1024

func newHoldings() holdings { return holdings{numbers: map[kv.Hash]uint32{}} }

func (s *holdings) at(number uint32) *holding {
	number--
	return &s.pages[number/holdingPage][number%holdingPage]
}

// add is a new holding of a block that is not held.
func (s *holdings) add(hash kv.Hash) (number uint32) {
	if n := len(s.free); n > 0 {
		number, s.free = s.free[n-1], s.free[:n-1]
	} else {
		if s.made%holdingPage == 0 {
			s.pages = append(s.pages, new([holdingPage]holding))
		}
		s.made++
		number = s.made
	}
	*s.at(number) = holding{hash: hash}
	s.numbers[hash] = number
	return number
}

// apply takes one origin's event and appends to dst what it changes about the
// sum: nothing where the other origin says the same.
func (s *holdings) apply(dst []kv.Event, by origin, e kv.Event) []kv.Event {
	if e.Tier >= kv.NumMarks {
		return dst
	}
	s.marks = s.marks || e.Tier == kv.Resume && e.Kind != kv.Cleared
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
	parent, before, run := e.Parent, s.numbers[e.Parent], continuesLast(dst, e)
	for i, hash := range e.Hashes {
		number := s.numbers[hash]
		if number == 0 {
			number = s.add(hash)
		}
		h := s.at(number)
		known := h.tiers().Has(e.Tier)
		if !h.by[by].Has(e.Tier) {
			s.counts[by][e.Tier]++
		}
		h.by[by] = h.by[by].With(e.Tier)
		s.link(h, number, parent, before)
		switch {
		case known:
			run = false
		case run:
			last := &dst[len(dst)-1]
			last.Hashes = append(last.Hashes, hash)
		default:
			dst = append(dst, kv.Event{Kind: kv.Stored, Tier: e.Tier, Parent: parent, Hashes: append(make([]kv.Hash, 0, len(e.Hashes)-i), hash)})
			run = true
		}
		parent, before = hash, number
	}
	return dst
}

// link notes what a block follows. Of the blocks that follow one, the first
// continues its run in snapshots.
func (s *holdings) link(h *holding, number uint32, parent kv.Hash, before uint32) {
	h.parent, h.before = parent, before
	if before != 0 {
		if b := s.at(before); b.next == 0 || s.at(b.next).parent != parent {
			b.next = number
		}
	}
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
		if number := s.numbers[hash]; number != 0 && s.drop(by, t, number) {
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
func (s *holdings) drop(by origin, t kv.Tier, number uint32) bool {
	h := s.at(number)
	if !h.by[by].Has(t) {
		return false
	}
	s.counts[by][t]--
	h.by[by] = h.by[by].Without(t)
	held := h.tiers()
	if held == 0 {
		delete(s.numbers, h.hash)
		*h = holding{}
		s.free = append(s.free, number)
	}
	return !held.Has(t)
}

// clear forgets all that one origin said of a tier.
func (s *holdings) clear(dst []kv.Event, by origin, t kv.Tier) []kv.Event {
	if s.counts[by][t] == 0 {
		return dst
	}
	var gone []kv.Hash
	for number := uint32(1); number <= s.made; number++ {
		if hash := s.at(number).hash; s.drop(by, t, number) {
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
func (s *holdings) snapshot() (events []kv.Event) {
	if s.marks { // a worker that marks blocks does so also when none is marked
		events = append(events, kv.Event{Kind: kv.Removed, Tier: kv.Resume})
	}
	for t := range kv.NumMarks {
		n := 0
		for o := range numOrigins {
			n += s.counts[o][t]
		}
		if n > 0 {
			events = s.runs(events, t, n)
		}
	}
	return events
}

// runs appends the runs of a tier, of at most n blocks in all.
func (s *holdings) runs(events []kv.Event, t kv.Tier, n int) []kv.Event {
	hashes := make([]kv.Hash, 0, n)
	for number := uint32(1); number <= s.made; number++ {
		h := s.at(number)
		if !h.tiers().Has(t) || s.continues(h, number, t) {
			continue
		}
		from := len(hashes)
		parent := h.parent
		for more := number; more != 0; more = s.following(h, more, t) {
			h = s.at(more)
			hashes = append(hashes, h.hash)
		}
		events = append(events, kv.Event{Kind: kv.Stored, Tier: t, Parent: parent, Hashes: hashes[from:len(hashes):len(hashes)]})
	}
	return events
}

// following is the number of the block that continues the run of h in a tier.
func (s *holdings) following(h *holding, number uint32, t kv.Tier) uint32 {
	if h.next == 0 {
		return 0
	}
	if next := s.at(h.next); next.before != number || next.parent != h.hash || !next.tiers().Has(t) {
		return 0
	}
	return h.next
}

// continues reports whether a block lies within the run of the one before it.
func (s *holdings) continues(h *holding, number uint32, t kv.Tier) bool {
	if h.before == 0 {
		return false
	}
	b := s.at(h.before)
	return b.next == number && b.hash == h.parent && b.tiers().Has(t)
}
