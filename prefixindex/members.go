package prefixindex

import (
	"sort"
	"sync/atomic"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// A member is one interval of a run's positions that one holder has in one
// tier, in one word: key, from, to. A run's members are sorted, so a key's
// intervals are together, in order; they neither overlap nor touch.
type member uint64

// key is a holder and a tier.
type key uint32

const (
	tierBits     = 3
	positionBits = 20
	keyShift     = 2 * positionBits
	maxHolder    = 1<<(64-keyShift-tierBits) - 1
)

func keyOf(holder uint32, t kv.Tier) key { return key(holder<<tierBits | uint32(t)) }

func (k key) holder() uint32 { return uint32(k) >> tierBits }
func (k key) tier() kv.Tier  { return kv.Tier(k % (1 << tierBits)) }

func memberOf(k key, from, to uint32) member {
	return member(k)<<keyShift | member(from)<<positionBits | member(to)
}

func (m member) key() key     { return key(m >> keyShift) }
func (m member) from() uint32 { return uint32(m>>positionBits) & maxPosition }
func (m member) to() uint32   { return uint32(m) & maxPosition }

// memberQuad is the unit in which member lists are allocated.
type memberQuad [4]atomic.Uint64

// maxMemberClass bounds a list to slabChunk quads.
const maxMemberClass = 12

// memberList is where a run's members are: first quad, class (the list has room
// for 4<<class) and length, in one word so that readers see them fitting.
type memberList uint64

func listOf(quad, class, n uint32) memberList {
	return memberList(quad)<<32 | memberList(class)<<24 | memberList(n)
}

func (l memberList) quad() uint32  { return uint32(l >> 32) }
func (l memberList) class() uint32 { return uint32(l>>24) & 0xff }
func (l memberList) len() int      { return int(l & 0xffffff) }
func (l memberList) room() int {
	if l.quad() == 0 {
		return 0
	}
	return 4 << l.class()
}

// word is the i-th word of a list. A list lies within one chunk.
func (c *core) word(l memberList, i int) *atomic.Uint64 {
	return &c.members.at(l.quad() + uint32(i)/4)[i%4]
}

func (c *core) member(l memberList, i int) member { return member(c.word(l, i).Load()) }

// newList allocates 1<<class quads, halving a larger piece if need be.
func (c *core) newList(class uint32) uint32 {
	if q := c.freeMembers[class]; q != 0 {
		c.freeMembers[class] = uint32(c.members.at(q)[0].Load())
		return q
	}
	if class == maxMemberClass {
		return c.members.grow(1 << maxMemberClass)
	}
	q := c.newList(class + 1)
	c.freeList(q+1<<class, class)
	return q
}

func (c *core) freeList(quad, class uint32) {
	c.members.at(quad)[0].Store(uint64(c.freeMembers[class]))
	c.freeMembers[class] = quad
}

// setMembers replaces r's list. Lists that do not fit at all lose their end,
// which is counted.
func (c *core) setMembers(r *run, ms []member) {
	l := memberList(r.members.Load())
	if most := 4 << maxMemberClass; len(ms) > most {
		c.counts.crowded += uint64(len(ms) - most)
		ms = ms[:most]
	}
	began := r.begin()
	// Shrink late, so that a list at the brink does not move all the time.
	if room := l.room(); len(ms) > room || len(ms) == 0 || l.class() > 0 && len(ms) <= room/4 {
		if l.quad() != 0 {
			c.freeList(l.quad(), l.class())
			l = 0
		}
		if len(ms) > 0 {
			class := uint32(0)
			for 4<<class < len(ms) {
				class++
			}
			l = listOf(c.newList(class), class, 0)
		}
	}
	for i, m := range ms {
		c.word(l, i).Store(uint64(m))
	}
	r.members.Store(uint64(listOf(l.quad(), l.class(), uint32(len(ms)))))
	r.end(began)
}

// appendMembers appends r's members to ms.
func (c *core) appendMembers(ms []member, r *run) []member {
	l := memberList(r.members.Load())
	for i := range l.len() {
		ms = append(ms, c.member(l, i))
	}
	return ms
}

// rangeOf is where k's intervals are in l.
func (c *core) rangeOf(l memberList, k key) (i, j int) {
	i = sort.Search(l.len(), func(i int) bool { return c.member(l, i).key() >= k })
	for j = i; j < l.len() && c.member(l, j).key() == k; j++ {
	}
	return i, j
}

// cover enters that k holds [from, to) of r.
func (c *core) cover(r *run, k key, from, to uint32) {
	r.touched.Store(c.tick.Load())
	l := memberList(r.members.Load())
	i, j := c.rangeOf(l, k)
	// Nearly always k has one interval, and it ends where this one begins.
	if j == i+1 {
		m := c.member(l, i)
		if m.from() <= from && from <= m.to() {
			if to > m.to() {
				c.count(k, int(to-m.to()))
				c.word(l, i).Store(uint64(memberOf(k, m.from(), to)))
			}
			return
		}
	}
	ms := c.appendMembers(c.scratch.members[:0], r)
	lo, hi, before := from, to, 0
	for ; i < j && ms[i].to() < from; i++ {
	}
	end := i
	for ; end < j && ms[end].from() <= to; end++ {
		lo, hi = min(lo, ms[end].from()), max(hi, ms[end].to())
		before += int(ms[end].to() - ms[end].from())
	}
	c.count(k, int(hi-lo)-before)
	ms = splice(ms, i, end, memberOf(k, lo, hi))
	c.scratch.members = ms
	c.setMembers(r, ms)
}

// uncover enters that k no longer holds [from, to) of r, and returns how many
// blocks that were.
func (c *core) uncover(r *run, k key, from, to uint32) int {
	l := memberList(r.members.Load())
	i, j := c.rangeOf(l, k)
	if j == i+1 {
		// Nearly always it is the end of the only interval, or all of it.
		m := c.member(l, i)
		if m.from() < from && from < m.to() && m.to() <= to {
			c.word(l, i).Store(uint64(memberOf(k, m.from(), from)))
			c.count(k, -int(m.to()-from))
			return int(m.to() - from)
		}
	}
	ms := c.appendMembers(c.scratch.members[:0], r)
	gone := 0
	for ; i < j; i++ {
		m := ms[i]
		a, b := max(m.from(), from), min(m.to(), to)
		if a >= b {
			continue
		}
		gone += int(b - a)
		var keep [2]member
		n := 0
		if m.from() < a {
			keep[n] = memberOf(k, m.from(), a)
			n++
		}
		if b < m.to() {
			keep[n] = memberOf(k, b, m.to())
			n++
		}
		ms = splice(ms, i, i+1, keep[:n]...)
		i += n - 1
		j += n - 1
	}
	c.scratch.members = ms
	if gone > 0 {
		c.count(k, -gone)
		c.setMembers(r, ms)
	}
	return gone
}

// count books n more memberships of k.
func (c *core) count(k key, n int) {
	c.counts.tiers[k.tier()] += n
	c.counts.memberships += n
}

// splice replaces ms[i:j] by with.
func splice(ms []member, i, j int, with ...member) []member {
	grow := len(with) - (j - i)
	n := len(ms)
	for range grow {
		ms = append(ms, 0)
	}
	copy(ms[j+grow:], ms[j:n])
	copy(ms[i:], with)
	return ms[:n+grow]
}

// clip appends to dst the parts of ms within [from, to).
func clip(dst, ms []member, from, to uint32) []member {
	for _, m := range ms {
		if a, b := max(m.from(), from), min(m.to(), to); a < b {
			dst = append(dst, memberOf(m.key(), a, b))
		}
	}
	return dst
}

// join appends to dst the members of two neighbouring pieces of a run, the
// first of which ends where the second begins.
func join(dst, first, second []member) []member {
	for len(first) > 0 || len(second) > 0 {
		if len(second) == 0 || len(first) > 0 && first[0].key() <= second[0].key() {
			dst = append(dst, first[0])
			first = first[1:]
			continue
		}
		m := second[0]
		second = second[1:]
		if n := len(dst); n > 0 && dst[n-1].key() == m.key() && dst[n-1].to() == m.from() {
			dst[n-1] = memberOf(m.key(), dst[n-1].from(), m.to())
			continue
		}
		dst = append(dst, m)
	}
	return dst
}

// scratch are buffers of the writer.
type scratch struct {
	members []member
	pieces  [2][]member
	joined  []member
	gaps    []gap
}
