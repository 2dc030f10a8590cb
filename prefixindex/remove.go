package prefixindex

import (
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// remove enters that k no longer holds the given blocks, which are in no order,
// and returns how many of them it did not hold.
func (c *core) remove(k key, hashes []kv.Hash) (strangers int) {
	for len(hashes) > 0 {
		h := wordsOf(&hashes[0])
		slot := c.table.find(h)
		if slot == 0 {
			strangers++
			hashes = hashes[1:]
			continue
		}
		at := c.placeOf(slot)
		from, to, n := c.neighbours(at, hashes)
		gone := c.uncover(c.runs.at(at.run), k, from, to)
		if gone > 0 {
			c.reap(at.run, from, to)
		}
		strangers += n - gone
		hashes = hashes[n:]
	}
	return strangers
}

// neighbours is the range of positions around at that the next n hashes name:
// an eviction mostly takes a run's blocks in order, from its end or its start.
func (c *core) neighbours(at place, hashes []kv.Hash) (from, to uint32, n int) {
	run := c.runs.at(at.run)
	lo, hi := run.lo.Load(), run.hi.Load()
	from, to, n = at.pos, at.pos+1, 1
	for p := at; n < len(hashes) && p.pos > lo; n++ {
		if p = c.before(p); c.at(p) != wordsOf(&hashes[n]) {
			break
		}
		from--
	}
	if n > 1 {
		return from, to, n
	}
	for p := at; n < len(hashes) && p.pos+1 < hi; n++ {
		if p = c.after(p); c.at(p) != wordsOf(&hashes[n]) {
			break
		}
		to++
	}
	return from, to, n
}

// gap is a range of positions.
type gap struct{ from, to uint32 }

// reap removes the blocks of r within [from, to) that nobody holds.
func (c *core) reap(r, from, to uint32) {
	gaps := c.unheld(c.runs.at(r), from, to)
	// From the end, so that what is still to do stays in the head of a split.
	for i := len(gaps) - 1; i >= 0; i-- {
		r = c.kill(r, gaps[i].from, gaps[i].to)
	}
}

// unheld are the ranges within [from, to) of r that no member covers, in order.
func (c *core) unheld(r *run, from, to uint32) []gap {
	gaps := append(c.scratch.gaps[:0], gap{from, to})
	l := memberList(r.members.Load())
	for i := range l.len() {
		m := c.member(l, i)
		for j := 0; j < len(gaps); j++ {
			g := gaps[j]
			a, b := max(g.from, m.from()), min(g.to, m.to())
			if a >= b {
				continue
			}
			switch {
			case g.from < a && b < g.to:
				gaps[j].to = a
				gaps = slices.Insert(gaps, j+1, gap{b, g.to})
				j++
			case g.from < a:
				gaps[j].to = a
			case b < g.to:
				gaps[j].from = b
			default:
				gaps = slices.Delete(gaps, j, j+1)
				j--
			}
		}
		if len(gaps) == 0 {
			break
		}
	}
	c.scratch.gaps = gaps
	return gaps
}

// kill removes the blocks [from, to) of r, which nobody holds, and returns the
// run in which what precedes them is, if anything does. If blocks follow them
// the last one stays as a ghost, to be their parent.
func (c *core) kill(r, from, to uint32) uint32 {
	if to < c.runs.at(r).hi.Load() {
		r, _ = c.split(r, to)
	}
	if c.runs.at(r).child != 0 {
		to--
		head := uint32(0)
		if to > c.runs.at(r).lo.Load() {
			head, r = c.split(r, to)
		}
		c.ghost(r)
		if r = head; r == 0 || from == to {
			return r
		}
	}
	c.truncate(r, from)
	return r
}

// ghost turns r, one block that nobody holds, into one.
func (c *core) ghost(r uint32) {
	parent := c.runs.at(r).parent
	c.orphan(r)
	c.counts.ghosts++
	c.counts.blocks--
	c.bereave(parent)
}

// truncate removes the blocks of r, a leaf, from pos on.
func (c *core) truncate(r, pos uint32) {
	run := c.runs.at(r)
	began := run.begin()
	lo, hi := run.lo.Load(), run.hi.Load()
	run.hi.Store(pos)
	for hi > pos {
		hi--
		at := place{r, run.last, hi}
		c.table.remove(c.at(at), at.slot())
		if hi%granuleBlocks == 0 || hi == lo {
			run.last = c.metas.at(at.granule).prev
			if run.last == 0 {
				run.first = 0
			} else {
				c.metas.at(run.last).next.Store(0)
			}
			c.releaseGranule(at.granule)
		}
		c.counts.blocks--
	}
	run.end(began)
	if pos > lo {
		return
	}
	parent := run.parent
	c.unlist(r)
	c.orphan(r)
	c.releaseRun(r)
	c.bereave(parent)
}

// bereave looks after a run that has lost a child.
func (c *core) bereave(r uint32) {
	run := c.runs.at(r)
	switch {
	case run.child != 0:
		if !c.deferred && c.mergeable(r) {
			c.merge(r)
		}
	case !run.isGhost():
		c.listCold(r)
	default:
		slot := place{r, run.first, run.lo.Load()}.slot()
		c.table.remove(blockAt(&c.blocks, slot), slot)
		began := run.begin()
		c.releaseGranule(run.first)
		c.releaseRun(r)
		run.end(began)
		c.counts.ghosts--
	}
}

// purge removes whatever the keys that match hold.
func (c *core) purge(match func(key) bool) {
	// The tree changes under way, so it takes three rounds: memberships, then
	// blocks, then merges. A merge in the second could bring blocks that are
	// still to go into a run that was already seen to.
	for r := uint32(1); r < c.runs.used; r++ {
		c.dropKeys(c.runs.at(r), match)
	}
	c.deferred = true
	for r := uint32(1); r < c.runs.used; r++ {
		if run := c.runs.at(r); run.len() > 0 && !run.isGhost() {
			c.reap(r, run.lo.Load(), run.hi.Load())
		}
	}
	c.deferred = false
	for r := uint32(1); r < c.runs.used; r++ {
		if c.runs.at(r).len() > 0 {
			c.mergeDown(r)
		}
	}
}

// dropKeys takes the matching keys out of r's members.
func (c *core) dropKeys(r *run, match func(key) bool) {
	ms := c.appendMembers(c.scratch.members[:0], r)
	c.scratch.members = ms
	kept := ms[:0]
	for _, m := range ms {
		if match(m.key()) {
			c.count(m.key(), -int(m.to()-m.from()))
			continue
		}
		kept = append(kept, m)
	}
	if len(kept) < len(ms) {
		c.setMembers(r, kept)
	}
}
