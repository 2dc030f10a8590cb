package prefixindex

// The eviction list has every leaf that is no ghost, coldest first. Using a run
// only stamps it; a leaf that was used since it was put into the list goes to
// the warm end when its turn comes.

// list puts r at the warm end.
func (c *core) list(r uint32) {
	run := c.runs.at(r)
	run.stamp = run.touched.Load()
	run.colder, run.warmer = c.warmest, 0
	if c.warmest != 0 {
		c.runs.at(c.warmest).warmer = r
	} else {
		c.coldest = r
	}
	c.warmest = r
}

// listCold puts r, which has lost its last child, at the cold end: it was last
// used when its children were, or is given a second chance.
func (c *core) listCold(r uint32) {
	run := c.runs.at(r)
	run.stamp = c.tick.Load()
	if c.coldest != 0 {
		run.stamp = c.runs.at(c.coldest).stamp
		c.runs.at(c.coldest).colder = r
	} else {
		c.warmest = r
	}
	run.colder, run.warmer = 0, c.coldest
	c.coldest = r
}

// unlist takes r out.
func (c *core) unlist(r uint32) {
	run := c.runs.at(r)
	if run.colder != 0 {
		c.runs.at(run.colder).warmer = run.warmer
	} else {
		c.coldest = run.warmer
	}
	if run.warmer != 0 {
		c.runs.at(run.warmer).colder = run.colder
	} else {
		c.warmest = run.colder
	}
	run.colder, run.warmer = 0, 0
}

// relist gives r's place in the list to by.
func (c *core) relist(r, by uint32) {
	old, n := c.runs.at(r), c.runs.at(by)
	n.colder, n.warmer, n.stamp = old.colder, old.warmer, old.stamp
	if n.colder != 0 {
		c.runs.at(n.colder).warmer = by
	} else {
		c.coldest = by
	}
	if n.warmer != 0 {
		c.runs.at(n.warmer).colder = by
	} else {
		c.warmest = by
	}
	old.colder, old.warmer = 0, 0
}

// evict removes n blocks or a few more, from the ends of the coldest leaves,
// whoever holds them.
func (c *core) evict(n int) {
	rotations := c.counts.runs
	for n > 0 && c.coldest != 0 {
		r := c.coldest
		run := c.runs.at(r)
		if touched := run.touched.Load(); int32(touched-run.stamp) > 0 && rotations > 0 {
			rotations--
			c.unlist(r)
			c.list(r)
			continue
		}
		lo, hi := run.lo.Load(), run.hi.Load()
		from := lo
		if int(hi-lo) > n {
			from = hi - uint32(n)
		}
		ms := c.appendMembers(c.scratch.members[:0], run)
		for _, m := range ms {
			if m.to() > from {
				c.count(m.key(), -int(m.to()-max(m.from(), from)))
			}
		}
		kept := clip(c.scratch.pieces[0][:0], ms, lo, from)
		c.scratch.members, c.scratch.pieces[0] = ms, kept
		c.setMembers(run, kept)
		c.truncate(r, from)
		n -= int(hi - from)
		c.counts.evicted += uint64(hi - from)
	}
}
