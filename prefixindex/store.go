package prefixindex

import "github.com/kvasir-ai/kvasir/internal/kv"

// store enters that k holds the chain of blocks that follows parent.
func (c *core) store(k key, parent kv.Hash, chain []kv.Hash) {
	if len(chain) == 0 {
		return
	}
	p := wordsOf(&parent)
	slot := c.table.find(p)
	if slot == 0 {
		slot = c.newGhost(p)
		// It stays without children if the chain turns out to be a lie.
		defer c.dropIdle(c.placeOf(slot).run)
	}
	at := c.placeOf(slot)
	for len(chain) > 0 {
		if n := c.follow(&at, chain); n > 0 {
			c.cover(c.runs.at(at.run), k, at.pos+1-uint32(n), at.pos+1)
			chain = chain[n:]
			continue
		}
		h := wordsOf(&chain[0])
		if slot := c.table.find(h); slot != 0 {
			at = c.join(k, at, c.placeOf(slot), h)
			chain = chain[1:]
			continue
		}
		chain = chain[c.extend(k, &at, chain):]
	}
}

// follow moves at along its run as far as the blocks after it are those of
// chain, and returns how many they are.
func (c *core) follow(at *place, chain []kv.Hash) int {
	left := int(c.runs.at(at.run).hi.Load() - at.pos - 1)
	n := 0
	for n < len(chain) && n < left {
		next := c.after(*at)
		if c.at(next) != wordsOf(&chain[n]) {
			break
		}
		*at = next
		n++
	}
	return n
}

// join enters that k holds h, a known block at that is not next in the run of
// at, and returns where it is then. A ghost's parent becomes known by it.
//
// A hash names everything before it, so no block can have two parents or follow
// itself. Where an event says so it lies, and the tree stays as it is.
func (c *core) join(k key, at, that place, h hash) place {
	run := c.runs.at(that.run)
	if !run.isGhost() {
		if that.pos != run.lo.Load() || run.parent != at.run || at.pos+1 != c.runs.at(at.run).hi.Load() {
			c.counts.conflicts++
		}
		c.cover(run, k, that.pos, that.pos+1)
		return that
	}
	if c.rootOf(at.run) == that.run {
		c.counts.conflicts++
		return that
	}
	c.cover(run, k, that.pos, that.pos+1)
	c.counts.ghosts--
	c.counts.blocks++
	head := at.run
	if at.pos+1 < c.runs.at(head).hi.Load() {
		head, _ = c.split(head, at.pos+1)
	}
	c.adopt(head, that.run)
	if run.child == 0 { // it was named a parent in this very event, so far in vain
		c.list(that.run)
	}
	if c.mergeable(head) {
		c.mergeDown(head)
	} else {
		c.mergeDown(that.run)
	}
	return c.placeOf(c.table.find(h))
}

// rootOf is the ghost above r, or r if it is one.
func (c *core) rootOf(r uint32) uint32 {
	for c.runs.at(r).parent != 0 {
		r = c.runs.at(r).parent
	}
	return r
}

// newGhost makes h the unknown parent of blocks to come.
func (c *core) newGhost(h hash) uint32 {
	r := c.newRun(0)
	p := place{r, c.newGranule(r, 0), 0}
	c.blocks.at(p.granule)[0].store(h)
	run := c.runs.at(r)
	run.hi.Store(1)
	run.end(true)
	c.table.insert(h, p.slot())
	c.counts.ghosts++
	return p.slot()
}

// dropIdle removes r if it is a ghost without children.
func (c *core) dropIdle(r uint32) {
	if run := c.runs.at(r); run.isGhost() && run.child == 0 && run.len() > 0 {
		c.bereave(r)
	}
}

// extend adds new blocks of chain behind at, up to the first one that is known,
// and returns how many; the first one is not known. It moves at to the last.
func (c *core) extend(k key, at *place, chain []kv.Hash) int {
	r := at.run
	run := c.runs.at(r)
	if at.pos+1 < run.hi.Load() {
		r, _ = c.split(r, at.pos+1)
		run = c.runs.at(r)
	}
	pos := at.pos + 1
	if run.isGhost() || run.child != 0 || pos == maxPosition {
		if pos == maxPosition {
			pos = 0
		}
		parent := r
		r = c.newRun(pos)
		run = c.runs.at(r)
		c.adopt(parent, r)
		c.list(r)
		run.end(true) // empty so far, and that is how readers see it
	}
	n := c.fill(r, pos, chain, at)
	hi := pos + uint32(n)
	run.hi.Store(hi)
	c.counts.blocks += n
	c.cover(run, k, pos, hi)
	return n
}

// fill writes blocks of chain to the end of r, from pos on, and enters them in
// the table. They are not r's before its hi says so.
func (c *core) fill(r, pos uint32, chain []kv.Hash, last *place) (n int) {
	at := place{r, c.runs.at(r).last, pos}
	for ; n < len(chain) && at.pos < maxPosition; n++ {
		h := wordsOf(&chain[n])
		if n > 0 && c.table.find(h) != 0 {
			break
		}
		if at.granule == 0 || at.pos%granuleBlocks == 0 {
			at.granule = c.newGranule(r, at.pos)
		}
		c.blocks.at(at.granule)[at.pos%granuleBlocks].store(h)
		c.table.insert(h, at.slot())
		*last = at
		at.pos++
	}
	return n
}
