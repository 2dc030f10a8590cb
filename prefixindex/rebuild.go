package prefixindex

import (
	"unsafe"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// sparseGranules is the size from which a core is worth rebuilding.
const sparseGranules = 4 * slabChunk

// sparse reports whether so little of the core's memory is in use that a new
// one is worth the work: that is a fraction of what filling it took.
func (c *core) sparse() bool {
	return c.metas.used > sparseGranules && c.counts.granules < int(c.metas.used)/4
}

// rebuilt is a core with the same content, coldest leaves first, in as little
// memory as it takes. Readers of c finish on what it was.
func (c *core) rebuilt() *core {
	n := newCore()
	var path []uint32
	done := make([]bool, c.runs.used)
	for leaf := c.coldest; leaf != 0; leaf = c.runs.at(leaf).warmer {
		path = path[:0]
		for r := leaf; c.runs.at(r).parent != 0 && !done[r]; r = c.runs.at(r).parent {
			path = append(path, r)
			done[r] = true
		}
		for i := len(path) - 1; i >= 0; i-- {
			// Ticks start anew, with the order of use by leaf kept.
			n.tick.Add(1)
			c.eachMember(path[i], func(k key, parent kv.Hash, chain []kv.Hash) { n.store(k, parent, chain) })
		}
	}
	n.tick.Store(c.tick.Load())
	n.counts.conflicts, n.counts.evicted, n.counts.crowded = c.counts.conflicts, c.counts.evicted, c.counts.crowded
	return n
}

// eachMember calls f for every interval of r's members. The chain is only good
// during the call.
func (c *core) eachMember(r uint32, f func(k key, parent kv.Hash, chain []kv.Hash)) {
	chain := c.chainOf(r)
	run := c.runs.at(r)
	l := memberList(run.members.Load())
	lo := run.lo.Load()
	for i := range l.len() {
		m := c.member(l, i)
		// chain[0] is the block before the run's first.
		from, to := m.from()-lo+1, m.to()-lo+1
		f(m.key(), chain[from-1], chain[from:to])
	}
}

// chainOf is the block before r's first and r's blocks. r is no ghost.
func (c *core) chainOf(r uint32) []kv.Hash {
	run := c.runs.at(r)
	parent := c.runs.at(run.parent)
	chain := make([]kv.Hash, 0, run.len()+1)
	chain = append(chain, c.at(place{run.parent, parent.last, parent.hi.Load() - 1}).bytes())
	at := place{r, run.first, run.lo.Load()}
	for {
		chain = append(chain, c.at(at).bytes())
		if at.pos+1 == run.hi.Load() {
			return chain
		}
		at = c.after(at)
	}
}

// bytes is the memory that the core has allocated.
func (c *core) bytes() int64 {
	return c.table.bytes() +
		int64(c.blocks.chunkCount())*slabChunk*int64(unsafe.Sizeof(granule{})) +
		int64(c.metas.chunkCount())*slabChunk*int64(unsafe.Sizeof(granuleMeta{})) +
		int64(c.runs.chunkCount())*slabChunk*int64(unsafe.Sizeof(run{})) +
		int64(c.members.chunkCount())*slabChunk*int64(unsafe.Sizeof(memberQuad{}))
}
