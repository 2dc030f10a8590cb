package prefixindex

import (
	"runtime"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Matches is the answer of Match. Reusing one saves its memory; it must not be
// used by two goroutines at once.
type Matches struct {
	fleet   *fleet
	answers []answer // by holder number
	used    []uint32 // holders with an answer
	alive   []uint32 // of those, the ones that hold all blocks so far
	members []member // of the run being read
	shared  []shared // its members that belong to stores
}

// answer is what one worker holds.
type answer struct {
	spans  []kv.Span
	blocks int
	// own are the members of the run being read that are the worker's.
	own [2]int32
}

// shared are the members of the run being read that belong to one store.
type shared struct {
	store uint32
	at    [2]int32
}

// Spans is what worker id holds of the prompt, from its first block on; nil if
// nothing. It is good until the next Match.
func (m *Matches) Spans(id kv.WorkerID) []kv.Span {
	if m.fleet == nil {
		return nil
	}
	w, ok := m.fleet.workers[id]
	if !ok || len(m.answers[w].spans) == 0 {
		return nil
	}
	return m.answers[w].spans
}

// reset makes m an empty answer for the workers of f.
func (m *Matches) reset(f *fleet) {
	for _, w := range m.used {
		m.answers[w].spans = m.answers[w].spans[:0]
		m.answers[w].blocks = 0
	}
	m.used, m.alive = m.used[:0], m.alive[:0]
	m.fleet = f
	for len(m.answers) < len(f.holders) {
		m.answers = append(m.answers, answer{})
	}
}

// matchTries is how often a reader starts over because of a change under its
// eyes before it waits for a moment without any.
const matchTries = 8

// Match fills m with what each worker holds of a prompt's blocks, from the first
// one on and without a gap (law 5). What it says of a run was true at one moment
// during the call.
func (x *Index) Match(m *Matches, hashes []kv.Hash) {
	for range matchTries {
		f := x.fleet.Load()
		m.reset(f)
		if m.walk(x.core.Load(), hashes) && x.fleet.Load() == f {
			m.cut()
			return
		}
		runtime.Gosched()
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	m.reset(x.fleet.Load())
	m.walk(x.core.Load(), hashes)
	m.cut()
}

// cut leaves of what a worker that marks blocks holds only what comes before its
// last mark: it cannot resume the prompt after that. Marks do not show in
// answers.
func (m *Matches) cut() {
	for _, w := range m.used {
		if !m.fleet.holders[w].resumes {
			continue
		}
		a := &m.answers[w]
		n := len(a.spans)
		for n > 0 && !a.spans[n-1].Tiers.Has(kv.Resume) {
			n--
		}
		kept := a.spans[:0]
		for _, s := range a.spans[:n] {
			s.Tiers = s.Tiers.Without(kv.Resume)
			if k := len(kept); k > 0 && kept[k-1].Tiers == s.Tiers {
				kept[k-1].Blocks += s.Blocks
			} else {
				kept = append(kept, s)
			}
		}
		a.spans = kept
	}
}

// walk follows the prompt down the tree, run by run. False means that a change
// got in its way.
func (m *Matches) walk(c *core, hashes []kv.Hash) bool {
	tick := c.tick.Load()
	for done := 0; done < len(hashes); {
		n, ok := m.visit(c, hashes[done:], tick)
		if !ok {
			return false
		}
		if n == 0 {
			return true
		}
		if m.gather(done); done == 0 {
			m.start()
		}
		m.enter(done, n)
		if len(m.alive) == 0 {
			return true
		}
		done += n
	}
	return true
}

// visit finds the run that hashes[0] is in and reads it: how many of hashes are
// in it from there on, and its members' intervals, relative to hashes[0]. None
// means that hashes[0] is not in the tree.
func (m *Matches) visit(c *core, hashes []kv.Hash, tick uint32) (int, bool) {
	relocated := c.relocated.Load()
	slot := c.table.find(wordsOf(&hashes[0]))
	if slot == 0 {
		return 0, c.relocated.Load() == relocated
	}
	g := slot / granuleBlocks
	r := c.metas.at(g).run.Load()
	run := c.runs.at(r)
	seq := run.seq.Load()
	if r == 0 || seq%2 == 1 || c.metas.at(g).run.Load() != r {
		return 0, false
	}
	pos := c.metas.at(g).ordinal.Load()*granuleBlocks + slot%granuleBlocks
	lo, hi := run.lo.Load(), run.hi.Load()
	n := 0
	if lo <= pos && pos < hi { // else it is about to be added
		n = c.compare(g, slot%granuleBlocks, hashes[:min(len(hashes), int(hi-pos))])
	}
	m.read(c, memberList(run.members.Load()), pos, pos+uint32(n))
	if run.seq.Load() != seq {
		return 0, false
	}
	if run.touched.Load() != tick {
		run.touched.Store(tick)
	}
	return n, true
}

// compare is how many of hashes are in the blocks from cell i of granule g on.
func (c *core) compare(g, i uint32, hashes []kv.Hash) int {
	n := 0
	for n < len(hashes) {
		cells := c.blocks.at(g)
		for ; i < granuleBlocks && n < len(hashes); i++ {
			if cells[i].load() != wordsOf(&hashes[n]) {
				return n
			}
			n++
		}
		i, g = 0, c.metas.at(g).next.Load()
	}
	return n
}

// read keeps the members of l that have something of [from, to), relative to
// from.
func (m *Matches) read(c *core, l memberList, from, to uint32) {
	m.members = m.members[:0]
	for i := range l.len() {
		x := c.member(l, i)
		if a, b := max(x.from(), from), min(x.to(), to); a < b {
			m.members = append(m.members, memberOf(x.key(), a-from, b-from))
		}
	}
}

// gather groups the members just read by holder. At the first run it makes every
// holder among them a candidate.
func (m *Matches) gather(done int) {
	m.shared = m.shared[:0]
	for i := 0; i < len(m.members); {
		h := m.members[i].key().holder()
		j := i + 1
		for j < len(m.members) && m.members[j].key().holder() == h {
			j++
		}
		at := [2]int32{int32(i), int32(j)}
		i = j
		switch {
		case int(h) >= len(m.fleet.holders): // a newcomer that this fleet does not know
		case m.fleet.holders[h].worker == "":
			m.shared = append(m.shared, shared{h, at})
		case m.answers[h].blocks == done:
			m.answers[h].own = at
			if done == 0 {
				m.alive = append(m.alive, h)
			}
		}
	}
}

// start adds the workers that hold the first run only by their store.
func (m *Matches) start() {
	if len(m.shared) > 0 {
		for w, h := range m.fleet.holders {
			if h.store != 0 && m.answers[w].own == [2]int32{} && m.storeMembers(h.store) != nil {
				m.alive = append(m.alive, uint32(w))
			}
		}
	}
	m.used = append(m.used, m.alive...)
}

// storeMembers are the members just read of one store.
func (m *Matches) storeMembers(store uint32) []member {
	for i := range m.shared {
		if s := &m.shared[i]; s.store == store {
			return m.members[s.at[0]:s.at[1]]
		}
	}
	return nil
}

// enter adds a run of n blocks to the answers of those who hold all before it.
func (m *Matches) enter(done, n int) {
	alive := m.alive[:0]
	for _, w := range m.alive {
		a := &m.answers[w]
		own := m.members[a.own[0]:a.own[1]]
		a.own = [2]int32{}
		var store []member
		if s := m.fleet.holders[w].store; s != 0 {
			store = m.storeMembers(s)
		}
		a.add(own, store, uint32(n))
		if a.blocks == done+n {
			alive = append(alive, w)
		}
	}
	m.alive = alive
}

// add appends the spans of n more blocks, up to the first that is in no tier.
func (a *answer) add(own, store []member, n uint32) {
	for at := uint32(0); at < n; {
		set, end := kv.TierSet(0), n
		for _, list := range [2][]member{own, store} {
			for _, x := range list {
				switch from, to := x.from(), x.to(); {
				case from <= at && at < to:
					set, end = set.With(x.key().tier()), min(end, to)
				case at < from:
					end = min(end, from)
				}
			}
		}
		if set.Without(kv.Resume) == 0 {
			return
		}
		blocks := int(end - at)
		if k := len(a.spans); k > 0 && a.spans[k-1].Tiers == set {
			a.spans[k-1].Blocks += blocks
		} else {
			a.spans = append(a.spans, kv.Span{Blocks: blocks, Tiers: set})
		}
		a.blocks += blocks
		at = end
	}
}
