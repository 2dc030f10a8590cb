package prefixindex

import "sync/atomic"

// core is the tree. One writer changes it at a time (the methods here and in
// store.go, remove.go, split.go, evict.go, which all run under Index.mu);
// readers walk it meanwhile without a lock (walk.go).
//
// A run is an edge of the radix tree: consecutive blocks with no branch after
// any but the last. Its blocks sit in granules of eight, chained in order. What
// each holder has of a run is a list of intervals of block positions
// (members.go), so that holders may come and go and evict from the end without
// touching the tree.
//
// Positions number the blocks of a run. They rise by one along a run and, as
// long as the tree was built from parents to children, from a run to its child;
// so a split keeps them and a merge finds them fitting. Nothing else relies on
// where they start.
//
// The parent of a prompt's first block is its root, which is not a block; and a
// parent may be unknown because its event was lost or is still to come. Either
// is kept as a ghost: a run of one block that nobody holds, without a parent.
//
// Invariants (checked by the tests after every step):
//   - every block of a run that is no ghost is held by somebody;
//   - a ghost has one block, no parent, no members, and at least one child;
//   - a run with exactly one child is a ghost, or could not merge with it
//     because positions would leave their range;
//   - the leaves that are no ghosts are in the eviction list, and nothing else.
type core struct {
	table   table
	blocks  slab[granule]
	metas   slab[granuleMeta]
	runs    slab[run]
	members slab[memberQuad]

	freeGranule uint32 // chained by next
	freeRun     uint32 // chained by child
	freeMembers [maxMemberClass + 1]uint32

	// relocated counts blocks that changed their slot. A reader that looks up a
	// block in vain while it changes tries again.
	relocated atomic.Uint64

	coldest, warmest uint32 // the ends of the eviction list
	tick             atomic.Uint32

	counts   counts
	scratch  scratch
	deferred bool // merges are left to the caller
}

// counts are kept up to date by the writer.
type counts struct {
	blocks, ghosts, runs int
	granules             int // in use
	tiers                [8]int
	memberships          int
	conflicts            uint64
	evicted              uint64
	crowded              uint64
}

const granuleBlocks = 8

// granule is eight consecutive blocks at positions 8n..8n+7, of which the first
// and last granule of a run use a part. Slot s is cell s%8 of granule s/8.
type granule [granuleBlocks]cell

type cell struct{ a, b atomic.Uint64 }

func (c *cell) load() hash   { return hash{c.a.Load(), c.b.Load()} }
func (c *cell) store(h hash) { c.a.Store(h.a); c.b.Store(h.b) }

// granuleMeta says whose a granule is.
type granuleMeta struct {
	run     atomic.Uint32
	ordinal atomic.Uint32 // of its first position, in granules
	next    atomic.Uint32
	prev    uint32
}

// run is one edge, blocks [lo, hi) by position. The atomic fields are what
// readers look at. A writer that changes them so that a reader might put
// together what never belonged together makes seq odd meanwhile; appending
// blocks and widening an interval need no such care.
type run struct {
	seq     atomic.Uint32
	lo, hi  atomic.Uint32
	touched atomic.Uint32 // tick of the last use
	members atomic.Uint64 // a memberList

	first, last    uint32 // granules
	parent, child  uint32
	prev, next     uint32 // siblings
	colder, warmer uint32 // neighbours in the eviction list
	stamp          uint32 // touched, when it was put there
}

// maxPosition bounds positions, so that an interval fits into a word.
const maxPosition = 1<<20 - 1

func newCore() *core {
	c := &core{}
	c.table.init(&c.blocks)
	// Index 0 of every slab stands for "none".
	c.blocks.grow(1)
	c.metas.grow(1)
	c.runs.grow(1)
	c.newList(0)
	return c
}

// blockAt is the hash of the block in a slot.
func blockAt(blocks *slab[granule], slot uint32) hash {
	return blocks.at(slot / granuleBlocks)[slot%granuleBlocks].load()
}

// place is where a block is.
type place struct {
	run     uint32
	granule uint32
	pos     uint32
}

func (p place) slot() uint32 { return p.granule*granuleBlocks + p.pos%granuleBlocks }

// placeOf is where the block in a slot is.
func (c *core) placeOf(slot uint32) place {
	g := slot / granuleBlocks
	m := c.metas.at(g)
	return place{m.run.Load(), g, m.ordinal.Load()*granuleBlocks + slot%granuleBlocks}
}

// after is the place behind p in the same run, which has one.
func (c *core) after(p place) place {
	p.pos++
	if p.pos%granuleBlocks == 0 {
		p.granule = c.metas.at(p.granule).next.Load()
	}
	return p
}

// before is the place ahead of p in the same run, which has one.
func (c *core) before(p place) place {
	if p.pos%granuleBlocks == 0 {
		p.granule = c.metas.at(p.granule).prev
	}
	p.pos--
	return p
}

// at is the hash of the block at p.
func (c *core) at(p place) hash { return blockAt(&c.blocks, p.slot()) }

// seek is the place of position pos of run r, found from its nearer end.
func (c *core) seek(r, pos uint32) place {
	run := c.runs.at(r)
	ordinal := pos / granuleBlocks
	g := run.last
	if end := c.metas.at(g).ordinal.Load(); end-ordinal <= (end-c.metas.at(run.first).ordinal.Load())/2 {
		for c.metas.at(g).ordinal.Load() != ordinal {
			g = c.metas.at(g).prev
		}
	} else {
		for g = run.first; c.metas.at(g).ordinal.Load() != ordinal; {
			g = c.metas.at(g).next.Load()
		}
	}
	return place{r, g, pos}
}

// begin makes readers of r try again until end, and reports whether it was the
// one to do so: changes nest.
func (r *run) begin() bool {
	s := r.seq.Load()
	if s%2 == 1 {
		return false
	}
	r.seq.Store(s + 1)
	return true
}

func (r *run) end(began bool) {
	if began {
		r.seq.Store(r.seq.Load() + 1)
	}
}

func (r *run) len() uint32   { return r.hi.Load() - r.lo.Load() }
func (r *run) isGhost() bool { return r.parent == 0 }

// newGranule appends an empty granule for the position pos to run r.
func (c *core) newGranule(r, pos uint32) uint32 {
	g := c.freeGranule
	if g != 0 {
		c.freeGranule = c.metas.at(g).next.Load()
	} else {
		c.blocks.grow(1)
		g = c.metas.grow(1)
	}
	c.counts.granules++
	run, m := c.runs.at(r), c.metas.at(g)
	m.ordinal.Store(pos / granuleBlocks)
	m.next.Store(0)
	m.prev = run.last
	m.run.Store(r)
	if run.last == 0 {
		run.first = g
	} else {
		c.metas.at(run.last).next.Store(g)
	}
	run.last = g
	return g
}

// releaseGranule gives back g, which no run refers to any more.
func (c *core) releaseGranule(g uint32) {
	m := c.metas.at(g)
	m.run.Store(0)
	m.next.Store(c.freeGranule)
	c.freeGranule = g
	c.counts.granules--
}

// newRun is an empty run from position pos on, in the making: it must be ended.
func (c *core) newRun(pos uint32) uint32 {
	r := c.freeRun
	if r != 0 {
		c.freeRun = c.runs.at(r).child
	} else {
		r = c.runs.grow(1)
	}
	run := c.runs.at(r)
	run.begin()
	run.lo.Store(pos)
	run.hi.Store(pos)
	run.touched.Store(c.tick.Load())
	run.first, run.last = 0, 0
	run.parent, run.child, run.prev, run.next = 0, 0, 0, 0
	c.counts.runs++
	return r
}

// releaseRun gives back r, which has no blocks, relatives or place in the
// eviction list any more.
func (c *core) releaseRun(r uint32) {
	run := c.runs.at(r)
	began := run.begin()
	c.setMembers(run, nil)
	run.lo.Store(0)
	run.hi.Store(0)
	run.child = c.freeRun
	c.freeRun = r
	run.end(began)
	c.counts.runs--
}

// adopt makes child the newest child of parent.
func (c *core) adopt(parent, child uint32) {
	p, k := c.runs.at(parent), c.runs.at(child)
	if p.child == 0 && !p.isGhost() {
		c.unlist(parent)
	}
	k.parent, k.prev, k.next = parent, 0, p.child
	if p.child != 0 {
		c.runs.at(p.child).prev = child
	}
	p.child = child
}

// orphan takes child away from its parent, which may have to change for it: see
// childless.
func (c *core) orphan(child uint32) {
	k := c.runs.at(child)
	if k.prev != 0 {
		c.runs.at(k.prev).next = k.next
	} else {
		c.runs.at(k.parent).child = k.next
	}
	if k.next != 0 {
		c.runs.at(k.next).prev = k.prev
	}
	k.parent, k.prev, k.next = 0, 0, 0
}

// replace puts by in the place that r has among its siblings.
func (c *core) replace(r, by uint32) {
	old, n := c.runs.at(r), c.runs.at(by)
	n.parent, n.prev, n.next = old.parent, old.prev, old.next
	if n.parent != 0 && n.prev == 0 {
		c.runs.at(n.parent).child = by
	}
	if n.prev != 0 {
		c.runs.at(n.prev).next = by
	}
	if n.next != 0 {
		c.runs.at(n.next).prev = by
	}
}
