package prefixindex

import (
	"testing"
)

// check fails the test unless every invariant of core.go holds.
func (x *Index) check(t testing.TB) {
	t.Helper()
	x.mu.Lock()
	defer x.mu.Unlock()
	c := x.core.Load()
	var blocks, ghosts, runs, granules, memberships int
	leaves := map[uint32]bool{}
	for r := uint32(1); r < c.runs.used; r++ {
		run := c.runs.at(r)
		lo, hi := run.lo.Load(), run.hi.Load()
		if run.seq.Load()%2 != 0 {
			t.Fatalf("run %d is left in the middle of a change", r)
		}
		if lo == hi {
			continue
		}
		runs++
		granules += c.checkGranules(t, r)
		memberships += c.checkMembers(t, r)
		if run.isGhost() {
			ghosts++
			if hi-lo != 1 || memberList(run.members.Load()).len() != 0 || run.child == 0 {
				t.Fatalf("ghost %d: %d blocks, %d members, first child %d", r, hi-lo, memberList(run.members.Load()).len(), run.child)
			}
		} else {
			blocks += int(hi - lo)
			if run.child == 0 {
				leaves[r] = true
			}
			if c.mergeable(r) {
				t.Fatalf("run %d is not merged with its only child", r)
			}
		}
		prev := uint32(0)
		for k := run.child; k != 0; k = c.runs.at(k).next {
			if c.runs.at(k).parent != r || c.runs.at(k).prev != prev {
				t.Fatalf("run %d: child %d has parent %d, sibling %d", r, k, c.runs.at(k).parent, c.runs.at(k).prev)
			}
			prev = k
		}
	}
	colder := uint32(0)
	for r := c.coldest; r != 0; r = c.runs.at(r).warmer {
		if !leaves[r] || c.runs.at(r).colder != colder {
			t.Fatalf("run %d is in the eviction list: leaf %v, colder %d, want %d", r, leaves[r], c.runs.at(r).colder, colder)
		}
		delete(leaves, r)
		colder = r
	}
	if len(leaves) > 0 || c.warmest != colder {
		t.Fatalf("leaves %v are not in the eviction list, or its end %d is not %d", leaves, c.warmest, colder)
	}
	n := &c.counts
	if n.blocks != blocks || n.ghosts != ghosts || n.runs != runs || n.granules != granules || n.memberships != memberships {
		t.Fatalf("counts %+v, want blocks %d, ghosts %d, runs %d, granules %d, memberships %d", *n, blocks, ghosts, runs, granules, memberships)
	}
	entries := 0
	for i := range c.table.segments {
		entries += c.table.segments[i].Load().count
	}
	if entries != blocks+ghosts {
		t.Fatalf("the table has %d blocks, want %d", entries, blocks+ghosts)
	}
}

// checkGranules follows r's chain and returns its length.
func (c *core) checkGranules(t testing.TB, r uint32) int {
	t.Helper()
	run := c.runs.at(r)
	pos, hi := run.lo.Load(), run.hi.Load()
	n, prev := 0, uint32(0)
	for g := run.first; g != 0; g = c.metas.at(g).next.Load() {
		m := c.metas.at(g)
		if m.run.Load() != r || m.prev != prev || m.ordinal.Load() != pos/granuleBlocks || pos >= hi {
			t.Fatalf("run %d [%d,%d): granule %d at %d has run %d, prev %d, ordinal %d", r, run.lo.Load(), hi, g, pos, m.run.Load(), m.prev, m.ordinal.Load())
		}
		for ; pos < hi && pos/granuleBlocks == m.ordinal.Load(); pos++ {
			slot := place{r, g, pos}.slot()
			if found := c.table.find(blockAt(&c.blocks, slot)); found != slot {
				t.Fatalf("run %d: block %d is at slot %d, the table says %d", r, pos, slot, found)
			}
		}
		n++
		prev = g
	}
	if pos != hi || run.last != prev {
		t.Fatalf("run %d [%d,%d) ends at %d, last granule %d, want %d", r, run.lo.Load(), hi, pos, run.last, prev)
	}
	return n
}

// checkMembers returns how many blocks r's members hold.
func (c *core) checkMembers(t testing.TB, r uint32) (n int) {
	t.Helper()
	run := c.runs.at(r)
	l := memberList(run.members.Load())
	lo, hi := run.lo.Load(), run.hi.Load()
	held := make([]bool, hi-lo)
	var last member
	for i := range l.len() {
		m := c.member(l, i)
		if m.from() < lo || m.to() > hi || m.from() >= m.to() || i > 0 && m.key() < last.key() || i > 0 && m.key() == last.key() && m.from() <= last.to() {
			t.Fatalf("run %d [%d,%d): member %d is %v [%d,%d) after %v [%d,%d)", r, lo, hi, i, m.key(), m.from(), m.to(), last.key(), last.from(), last.to())
		}
		for p := m.from(); p < m.to(); p++ {
			held[p-lo] = true
		}
		n += int(m.to() - m.from())
		last = m
	}
	for i, h := range held {
		if !h && !run.isGhost() {
			t.Fatalf("run %d [%d,%d): nobody holds %d", r, lo, hi, int(lo)+i)
		}
	}
	return n
}
