package prefixindex

// split cuts r before pos, which is inside it, into head and tail. One of them
// keeps r's number: the tail if r has children, which then need no change, else
// the longer one.
func (c *core) split(r, pos uint32) (head, tail uint32) {
	run := c.runs.at(r)
	lo, hi := run.lo.Load(), run.hi.Load()
	began := run.begin()
	cut := c.cutGranule(r, pos)
	ms := c.appendMembers(c.scratch.members[:0], run)
	c.scratch.members = ms
	first := clip(c.scratch.pieces[0][:0], ms, lo, pos)
	second := clip(c.scratch.pieces[1][:0], ms, pos, hi)
	c.scratch.pieces = [2][]member{first, second}

	n := c.newRun(pos)
	other := c.runs.at(n)
	other.touched.Store(run.touched.Load())
	if run.child != 0 || pos-lo < hi-pos {
		head, tail = n, r
		other.lo.Store(lo)
		run.lo.Store(pos)
		other.first, other.last, run.first = run.first, c.metas.at(cut).prev, cut
		c.replace(r, n)
		other.child, run.parent, run.prev, run.next = r, n, 0, 0
	} else {
		head, tail = r, n
		other.hi.Store(hi)
		run.hi.Store(pos)
		other.first, other.last, run.last = cut, run.last, c.metas.at(cut).prev
		c.relist(r, n)
		run.child, other.parent = n, r
	}
	h, t := c.runs.at(head), c.runs.at(tail)
	h.hi.Store(pos)
	c.metas.at(h.last).next.Store(0)
	c.metas.at(t.first).prev = 0
	c.own(n, other.first, 0)
	c.setMembers(h, first)
	c.setMembers(t, second)
	other.end(true)
	run.end(began)
	return head, tail
}

// cutGranule makes pos, which is inside r, the first used cell of a granule of
// r, and returns that.
func (c *core) cutGranule(r, pos uint32) uint32 {
	run := c.runs.at(r)
	at := c.seek(r, pos)
	if pos%granuleBlocks == 0 {
		return at.granule
	}
	// The granule's later blocks move to one of their own, chained in behind.
	last := run.last
	n := c.newGranule(r, pos)
	if at.granule != last {
		c.metas.at(last).next.Store(0)
		run.last = last
		next := c.metas.at(at.granule).next.Load()
		c.metas.at(n).next.Store(next)
		c.metas.at(next).prev = n
		c.metas.at(n).prev = at.granule
		c.metas.at(at.granule).next.Store(n)
	}
	end := min(run.hi.Load(), (pos/granuleBlocks+1)*granuleBlocks)
	c.relocate(at.granule, n, pos, end)
	return n
}

// relocate moves the blocks at positions [from, to) from one granule to the
// same cells of another.
func (c *core) relocate(src, dst, from, to uint32) {
	s, d := c.blocks.at(src), c.blocks.at(dst)
	for pos := from; pos < to; pos++ {
		i := pos % granuleBlocks
		h := s[i].load()
		d[i].store(h)
		c.table.move(h, src*granuleBlocks+i, dst*granuleBlocks+i)
	}
	c.relocated.Add(1)
}

// own enters r as the owner of the granules from one up to another.
func (c *core) own(r, from, to uint32) {
	for g := from; g != to; g = c.metas.at(g).next.Load() {
		c.metas.at(g).run.Store(r)
	}
}

// mergeDown merges r with its only child, and that with its own, as far as
// possible.
func (c *core) mergeDown(r uint32) {
	for c.mergeable(r) {
		r = c.merge(r)
	}
}

// mergeable reports whether r and its only child could be one run.
func (c *core) mergeable(r uint32) bool {
	run := c.runs.at(r)
	if run.child == 0 || run.isGhost() {
		return false
	}
	child := c.runs.at(run.child)
	return child.next == 0 && run.hi.Load()+child.len() <= maxPosition
}

// merge makes one run of r and its only child, and returns it.
func (c *core) merge(r uint32) uint32 {
	head, tail := c.runs.at(r), c.runs.at(r).child
	t := c.runs.at(tail)
	if t.lo.Load() != head.hi.Load() {
		c.rebase(tail, head.hi.Load())
	}
	beganHead, beganTail := head.begin(), t.begin()
	c.scratch.pieces[0] = c.appendMembers(c.scratch.pieces[0][:0], head)
	c.scratch.pieces[1] = c.appendMembers(c.scratch.pieces[1][:0], t)
	c.scratch.joined = join(c.scratch.joined[:0], c.scratch.pieces[0], c.scratch.pieces[1])

	// What the head has of the granule in which both meet goes to the tail's.
	border := head.hi.Load()
	if border%granuleBlocks != 0 {
		last := head.last
		from := max(head.lo.Load(), border-border%granuleBlocks)
		c.relocate(last, t.first, from, border)
		head.last = c.metas.at(last).prev
		if head.last == 0 {
			head.first = 0
		}
		c.releaseGranule(last)
	}
	if head.last != 0 {
		c.metas.at(head.last).next.Store(t.first)
		c.metas.at(t.first).prev = head.last
	} else {
		head.first = t.first
	}

	keep, gone := tail, r
	if t.child == 0 && t.len() < head.len() {
		keep, gone = r, tail
	}
	if keep == tail {
		c.own(tail, head.first, t.first)
		t.first = head.first
		t.lo.Store(head.lo.Load())
		c.replace(r, tail)
	} else {
		c.own(r, t.first, 0)
		head.last = t.last
		head.hi.Store(t.hi.Load())
		head.child = 0
		c.relist(tail, r)
	}
	k := c.runs.at(keep)
	k.touched.Store(laterTick(head.touched.Load(), t.touched.Load()))
	c.setMembers(k, c.scratch.joined)
	c.runs.at(gone).child = 0
	c.releaseRun(gone)
	head.end(beganHead)
	t.end(beganTail)
	return keep
}

// rebase renumbers r's positions to start at lo. Only runs that came before
// their parent need it.
func (c *core) rebase(r, lo uint32) {
	run := c.runs.at(r)
	began := run.begin()
	from, n := run.lo.Load(), run.len()
	src := place{r, run.first, from}
	run.first, run.last = 0, 0
	var g uint32
	for pos := lo; pos < lo+n; pos++ {
		if g == 0 || pos%granuleBlocks == 0 {
			g = c.newGranule(r, pos)
		}
		dst := place{r, g, pos}
		h := c.at(src)
		c.blocks.at(g)[pos%granuleBlocks].store(h)
		c.table.move(h, src.slot(), dst.slot())
		old := src.granule
		if src.pos++; src.pos%granuleBlocks == 0 || pos+1 == lo+n {
			src.granule = c.metas.at(old).next.Load()
			c.relocated.Add(1)
			c.releaseGranule(old)
		}
	}
	ms := c.appendMembers(c.scratch.members[:0], run)
	for i, m := range ms {
		ms[i] = memberOf(m.key(), m.from()-from+lo, m.to()-from+lo)
	}
	c.scratch.members = ms
	run.lo.Store(lo)
	run.hi.Store(lo + n)
	c.setMembers(run, ms)
	run.end(began)
}

// laterTick is the later of two ticks, which wrap around.
func laterTick(a, b uint32) uint32 {
	if int32(a-b) > 0 {
		return a
	}
	return b
}
