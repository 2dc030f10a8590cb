package policy

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// model is a table that looks at everything each time. It knows the rules and
// none of the structures.
type model struct {
	slots  []modelSlot
	arc    bool
	target int
	ghosts [2][]kv.Hash // by class, oldest first
}

type modelSlot struct {
	state  State
	block  kv.Block
	leases int
	used   int
	class  class
	part   int
}

func (m *model) in(st State) (out []Slot) {
	for i := range m.slots {
		if m.slots[i].state == st {
			out = append(out, Slot(i))
		}
	}
	return out
}

func (m *model) listed(c class) (n int) {
	for _, e := range m.slots {
		if e.state == Committed && e.class == c {
			n++
		}
	}
	return n
}

func (m *model) commit(s Slot, b kv.Block, step int) {
	e := &m.slots[s]
	e.state, e.block, e.leases, e.used, e.class = Committed, b, 1, step, recent
	if !m.arc {
		return
	}
	r, f := len(m.ghosts[recent]), len(m.ghosts[frequent])
	for c := range m.ghosts {
		i := slices.Index(m.ghosts[c], b.Hash)
		if i < 0 {
			continue
		}
		m.ghosts[c] = slices.Delete(m.ghosts[c], i, i+1)
		e.class = frequent
		if class(c) == recent {
			m.target = min(len(m.slots), m.target+max(1, f/r))
		} else {
			m.target = max(0, m.target-max(1, r/f))
		}
	}
}

func (m *model) hit(s Slot, step int) {
	m.slots[s].used = step
	if m.arc {
		m.slots[s].class = frequent
	}
}

// victim is, of the unleased slots that no unleased block follows, the least
// recently used one: in the class that is larger than it should be, if it has
// any in the parts.
func (m *model) victim(from Parts) (victim Slot, ok bool) {
	first := recent
	if m.arc && m.listed(recent) <= m.target {
		first = frequent
	}
	for _, c := range []class{first, 1 - first} {
		for i, e := range m.slots {
			if e.state != Committed || e.leases > 0 || e.class != c || !from.Has(e.part) {
				continue
			}
			followed := slices.ContainsFunc(m.slots, func(o modelSlot) bool {
				return o.state == Committed && o.leases == 0 && o.block.Parent == e.block.Hash
			})
			if !followed && (!ok || e.used < m.slots[victim].used) {
				victim, ok = Slot(i), true
			}
		}
		if ok {
			return victim, true
		}
	}
	return 0, false
}

func (m *model) evict(s Slot) {
	e := &m.slots[s]
	e.state = Evicting
	if !m.arc {
		return
	}
	m.ghosts[e.class] = append(m.ghosts[e.class], e.block.Hash)
	for len(m.ghosts[recent]) > 0 && m.listed(recent)+len(m.ghosts[recent]) > len(m.slots) {
		m.ghosts[recent] = m.ghosts[recent][1:]
	}
	for len(m.ghosts[recent])+len(m.ghosts[frequent]) > len(m.slots) {
		oldest := frequent
		if len(m.ghosts[frequent]) == 0 {
			oldest = recent
		}
		m.ghosts[oldest] = m.ghosts[oldest][1:]
	}
}

func runTable(t *testing.T, r *rand.Rand, capacity, steps int) {
	eviction := Eviction(r.IntN(2))
	parts := []int{capacity}
	if r.IntN(2) == 0 {
		cut := r.IntN(capacity + 1)
		parts = []int{cut, capacity - cut}
	}
	tab := NewTable(eviction, parts...)
	m := model{slots: make([]modelSlot, capacity), arc: eviction == ARC}
	for i := parts[0]; i < capacity; i++ {
		m.slots[i].part = 1
	}
	for step := range steps {
		pick := func(slots []Slot) Slot { return slots[r.IntN(len(slots))] }
		from := AllParts
		if r.IntN(4) == 0 {
			from = Parts(r.IntN(4))
		}
		filling, committed, evicting := m.in(Filling), m.in(Committed), m.in(Evicting)
		switch op := r.IntN(9); {
		case op == 0:
			free := slices.DeleteFunc(m.in(Free), func(s Slot) bool { return !from.Has(m.slots[s].part) })
			if s, ok := tab.Fill(from); ok {
				if !slices.Contains(free, s) {
					t.Fatalf("step %d: slot %d was handed out while %s", step, s, m.slots[s].state)
				}
				m.slots[s].state = Filling
			} else if len(free) > 0 {
				t.Fatalf("step %d: a free slot was not handed out", step)
			}
		case op == 1 && len(filling) > 0:
			s := pick(filling)
			n := 1 + r.Uint64N(20) // a tree: each block follows its half
			b := kv.Block{Hash: hash(n), Parent: hash(n / 2)}
			dup := slices.ContainsFunc(committed, func(c Slot) bool { return m.slots[c].block.Hash == b.Hash })
			if tab.Commit(s, b) == dup {
				t.Fatalf("step %d: commit of %v, held already: %v", step, b.Hash, dup)
			}
			if !dup {
				m.commit(s, b, step)
			}
		case op == 2 && len(filling) > 0:
			s := pick(filling)
			tab.Abort(s)
			m.slots[s].state = Free
		case op == 3 && len(committed) > 0:
			s := pick(committed)
			tab.Lease(s)
			m.slots[s].leases++
		case op == 4 && len(committed) > 0:
			if s := pick(committed); m.slots[s].leases > 0 {
				tab.Unlease(s)
				m.slots[s].leases--
			}
		case op == 5 && len(committed) > 0:
			s := pick(committed)
			tab.Touch(s)
			m.slots[s].used = step
		case op == 6 && len(committed) > 0:
			s := pick(committed)
			tab.Hit(s)
			m.hit(s, step)
		case op == 7:
			victim, ok := m.victim(from)
			s, b, got := tab.Evict(from)
			if got != ok || ok && (s != victim || b != m.slots[victim].block) {
				t.Fatalf("step %d: evicted slot %d (%v), the model %d (%v)", step, s, got, victim, ok)
			}
			if ok {
				m.evict(s)
			}
		case op == 8 && len(evicting) > 0:
			s := pick(evicting)
			tab.Evicted(s)
			m.slots[s] = modelSlot{part: m.slots[s].part}
		}
		if err := tab.Check(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
}
