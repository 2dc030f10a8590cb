package policy

import (
	"iter"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Slot is the number of one slot of a tier, 0 to capacity-1.
type Slot int32

// State is where a slot is in its life:
// free -> filling -> committed -> evicting -> free, and filling -> free when
// the fill is given up.
type State uint8

// The states of a slot.
const (
	Free State = iota
	Filling
	Committed
	Evicting
	numStates
)

// String is the state's name in logs and failures.
func (s State) String() string {
	return [...]string{"free", "filling", "committed", "evicting"}[s]
}

// Counts is the number of slots in each state. Leased ones are among the
// committed ones.
type Counts struct{ Free, Filling, Committed, Evicting, Leased int }

type entry struct {
	block  kv.Block
	used   uint64 // Table.tick of the last use
	leases int32
	rank   int32 // position in its heap, -1 when not evictable now
	state  State
	class  class
	part   uint8
}

// Parts is a set of a table's parts, bit by bit. A tier on one device has one.
type Parts uint64

// AllParts is every part that a table may have.
const AllParts = ^Parts(0)

// MaxParts is how many parts a table may have.
const MaxParts = 64

// Has reports whether part i is in the set.
func (p Parts) Has(i int) bool { return p>>i&1 == 1 }

// Table is the state of every slot of one tier and the order in which its
// blocks are evicted.
//
// A committed, unleased slot that no other such slot follows is a leaf. Leaves
// are kept in heaps by last use, and only the head of a heap is evicted; that
// makes its parent a leaf. Thus the victim is always the least recently used
// suffix (of a list, under ARC), and as long as an unleased slot exists there is
// a leaf, so exactly Free + Committed - Leased slots can be had without waiting.
//
// The slots may be parted, for a tier on several devices. What is a leaf does
// not depend on the part it is in; each part has its own heaps so that one may
// be filled while another is out of order.
type Table struct {
	slots  []entry
	free   [][]Slot // by part: a stack; the lowest numbers are handed out first
	byHash map[kv.Hash]Slot
	// heirs counts, for a block in this table or not, the committed and unleased
	// slots that directly follow it.
	heirs  map[kv.Hash]int32
	order  [][numClasses][]Slot // by part: heaps of leaves, least recently used first
	arc    *arc                 // nil under LRU
	listed [numClasses]int      // committed slots by list
	counts [numStates]int
	leased int
	tick   uint64
}

// NewTable is a table of free slots: parts says how many each part has.
func NewTable(e Eviction, parts ...int) *Table {
	capacity := 0
	for _, n := range parts {
		capacity += n
	}
	t := &Table{
		slots:  make([]entry, capacity),
		free:   make([][]Slot, len(parts)),
		byHash: make(map[kv.Hash]Slot, capacity),
		heirs:  make(map[kv.Hash]int32),
		order:  make([][numClasses][]Slot, len(parts)),
	}
	if e == ARC {
		t.arc = &arc{capacity: capacity}
	}
	s := 0
	for part, n := range parts {
		for range n {
			t.slots[s].rank, t.slots[s].part = -1, uint8(part)
			s++
		}
	}
	t.counts[Free] = capacity
	t.listFree()
	return t
}

// listFree makes the free lists anew.
func (t *Table) listFree() {
	for part := range t.free {
		t.free[part] = t.free[part][:0]
	}
	for i := len(t.slots) - 1; i >= 0; i-- {
		if e := &t.slots[i]; e.state == Free {
			t.free[e.part] = append(t.free[e.part], Slot(i))
		}
	}
}

// Part is the part that a slot is in.
func (t *Table) Part(s Slot) int { return int(t.slots[s].part) }

// Capacity is the number of slots.
func (t *Table) Capacity() int { return len(t.slots) }

// Counts is the number of slots in each state.
func (t *Table) Counts() Counts {
	return Counts{t.counts[Free], t.counts[Filling], t.counts[Committed], t.counts[Evicting], t.leased}
}

// Available is how many slots Fill and Evict can yield now.
func (t *Table) Available() int { return t.counts[Free] + t.counts[Committed] - t.leased }

// Find is the committed slot that holds h.
func (t *Table) Find(h kv.Hash) (Slot, bool) {
	s, ok := t.byHash[h]
	return s, ok
}

// Has reports whether h is committed.
func (t *Table) Has(h kv.Hash) bool {
	_, ok := t.byHash[h]
	return ok
}

// Block is what a committed or evicting slot holds.
func (t *Table) Block(s Slot) kv.Block { return t.slots[s].block }

// State is the slot's state.
func (t *Table) State(s Slot) State { return t.slots[s].state }

// Leases is the number of leases on a slot.
func (t *Table) Leases(s Slot) int { return int(t.slots[s].leases) }

// All yields the committed slots, in the order of their numbers.
func (t *Table) All() iter.Seq2[Slot, kv.Block] {
	return func(yield func(Slot, kv.Block) bool) {
		for i := range t.slots {
			if t.slots[i].state == Committed && !yield(Slot(i), t.slots[i].block) {
				return
			}
		}
	}
}

// Fill takes a free slot from the given parts, of which that with the most room
// gives one: free -> filling.
func (t *Table) Fill(from Parts) (Slot, bool) {
	defer t.verify()
	best := -1
	for part, free := range t.free {
		if from.Has(part) && len(free) > 0 && (best < 0 || len(free) > len(t.free[best])) {
			best = part
		}
	}
	if best < 0 {
		return 0, false
	}
	free := t.free[best]
	s := free[len(free)-1]
	t.free[best] = free[:len(free)-1]
	t.become(s, Filling)
	return s, true
}

// Evict takes the leaf in the given parts that can best be spared: committed ->
// evicting. The block is no longer found.
func (t *Table) Evict(from Parts) (Slot, kv.Block, bool) {
	s, ok := t.victim(from)
	if !ok {
		return 0, kv.Block{}, false
	}
	in := t.slots[s].class
	t.Drop(s)
	b := t.slots[s].block
	if t.arc != nil {
		t.arc.evicted(b.Hash, in, t.listed)
	}
	return s, b, true
}

func (t *Table) victim(from Parts) (Slot, bool) {
	first := recent
	if t.arc != nil && t.listed[recent] <= t.arc.target {
		first = frequent
	}
	for _, in := range [...]class{first, numClasses - 1 - first} {
		best, found := Slot(0), false
		for part := range t.order {
			if heap := t.order[part][in]; from.Has(part) && len(heap) > 0 && (!found || t.older(heap[0], best)) {
				best, found = heap[0], true
			}
		}
		if found {
			return best, true
		}
	}
	return 0, false
}

// Drop takes a certain slot, whatever its place in the order: committed ->
// evicting. It fails when the slot is leased or not committed.
func (t *Table) Drop(s Slot) bool {
	defer t.verify()
	e := &t.slots[s]
	if e.state != Committed || e.leases > 0 {
		return false
	}
	delete(t.byHash, e.block.Hash)
	t.leave(s)
	t.listed[e.class]--
	t.become(s, Evicting)
	return true
}

// Evicted ends an eviction: evicting -> free.
func (t *Table) Evicted(s Slot) {
	defer t.verify()
	t.expect(s, Evicting)
	t.slots[s].block = kv.Block{}
	t.giveBack(s)
}

// Abort gives up a fill: filling -> free.
func (t *Table) Abort(s Slot) {
	defer t.verify()
	t.expect(s, Filling)
	t.giveBack(s)
}

func (t *Table) giveBack(s Slot) {
	t.become(s, Free)
	part := t.slots[s].part
	t.free[part] = append(t.free[part], s)
}

// Commit makes a filled slot findable under b, with one lease on it: filling ->
// committed. It fails, and changes nothing, when another slot holds b.
func (t *Table) Commit(s Slot, b kv.Block) bool {
	defer t.verify()
	t.expect(s, Filling)
	if t.Has(b.Hash) {
		return false
	}
	e := &t.slots[s]
	e.block, e.leases = b, 1
	t.leased++
	t.tick++
	e.used = t.tick
	e.class = recent
	if t.arc != nil {
		e.class = t.arc.admit(b.Hash)
	}
	t.listed[e.class]++
	t.byHash[b.Hash] = s
	t.become(s, Committed)
	return true
}

// Held is a block and the slot that holds it.
type Held struct {
	Slot  Slot
	Block kv.Block
}

// Restore fills free slots with what was found again after a restart, unleased,
// in the order of last use. It returns those it could not take: no such slot, or
// a slot or block that is taken.
func (t *Table) Restore(found []Held) (refused []Held) {
	defer t.verify()
	if len(t.heirs) == 0 {
		t.heirs = make(map[kv.Hash]int32, len(found))
	}
	for _, h := range found {
		if h.Slot < 0 || int(h.Slot) >= len(t.slots) || t.slots[h.Slot].state != Free || t.Has(h.Block.Hash) {
			refused = append(refused, h)
			continue
		}
		t.tick++
		t.slots[h.Slot].block, t.slots[h.Slot].used = h.Block, t.tick
		t.slots[h.Slot].class = recent
		t.listed[recent]++
		t.byHash[h.Block.Hash] = h.Slot
		t.become(h.Slot, Committed)
		t.join(h.Slot)
	}
	t.listFree()
	return refused
}

// Lease keeps a committed slot from being evicted.
func (t *Table) Lease(s Slot) {
	defer t.verify()
	t.expect(s, Committed)
	e := &t.slots[s]
	if e.leases == 0 {
		t.leave(s)
		t.leased++
	}
	e.leases++
}

// Unlease takes back one lease.
func (t *Table) Unlease(s Slot) {
	defer t.verify()
	t.expect(s, Committed)
	e := &t.slots[s]
	if e.leases == 0 {
		panic("kvbm: lease returned twice")
	}
	if e.leases--; e.leases == 0 {
		t.leased--
		t.join(s)
	}
}

// Hit is Touch by somebody who wanted the block: to ARC it is worth more than
// one that was only kept longer.
func (t *Table) Hit(s Slot) {
	if e := &t.slots[s]; t.arc != nil && e.class == recent {
		inOrder := e.rank >= 0
		if inOrder {
			t.remove(s)
		}
		t.listed[recent]--
		e.class = frequent
		t.listed[frequent]++
		if inOrder {
			t.push(s)
		}
	}
	t.Touch(s)
}

// Touch makes the block the most recently used one. Leases alone do not: an
// offload reads a block without anybody wanting it.
func (t *Table) Touch(s Slot) {
	t.tick++
	e := &t.slots[s]
	e.used = t.tick
	if e.rank >= 0 {
		t.down(*t.heapOf(s), int(e.rank))
	}
}

// join makes a committed slot that has no lease (any more) evictable, and its
// parent not.
func (t *Table) join(s Slot) {
	b := t.slots[s].block
	if b.Parent != b.Hash {
		t.heirs[b.Parent]++
		if p, ok := t.byHash[b.Parent]; ok && t.slots[p].rank >= 0 {
			t.remove(p)
		}
	}
	if t.heirs[b.Hash] == 0 {
		t.push(s)
	}
}

// leave undoes join. A parent that becomes a leaf by it keeps its last use,
// which is no older than its children's: whoever uses a block uses its prefix.
func (t *Table) leave(s Slot) {
	b := t.slots[s].block
	if t.slots[s].rank >= 0 {
		t.remove(s)
	}
	if b.Parent == b.Hash {
		return
	}
	if t.heirs[b.Parent]--; t.heirs[b.Parent] > 0 {
		return
	}
	delete(t.heirs, b.Parent)
	if p, ok := t.byHash[b.Parent]; ok && t.slots[p].leases == 0 {
		t.push(p)
	}
}

func (t *Table) become(s Slot, to State) {
	t.counts[t.slots[s].state]--
	t.counts[to]++
	t.slots[s].state = to
}

// expect stops a caller that broke the state machine before it serves a wrong
// byte. It is a bug in the caller, never a matter of input.
func (t *Table) expect(s Slot, want State) {
	if got := t.slots[s].state; got != want {
		panic("kvbm: slot is " + got.String() + ", want " + want.String())
	}
}
