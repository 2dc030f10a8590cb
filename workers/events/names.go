package events

import (
	"math/bits"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// names is what every engine hash stands for. An engine of a million blocks has
// as many names, and each event looks some up, so it is an open-addressed table
// of words over pages of names: no pointers for the garbage collector, one
// cache miss a look-up, and names that stay where they are.
type names struct {
	slots []uint32 // a tag of tagBits above the name's number, from 1 on; 0: empty
	shift int      // of a spread hash, to its home slot
	pages []*[namePage]name
	made  uint32   // names on pages, also those given back
	free  []uint32 // numbers given back
	live  int
}

const (
	namePage = 1024
	minSlots = 1 << 10
	tagBits  = 6 // keeps most other names' pages out of a search
	numbers  = 1<<(32-tagBits) - 1
)

// name is what an engine hash stands for, and where its block is.
type name struct {
	engine       EngineHash
	ours, parent kv.Hash
	at           place // a count of 0: nowhere; further places are in translator.elsewhere
	resolved     bool  // ours is known
	odd          bool  // never will be: it holds more than tokens
	first        bool  // in its prompt
	spread       bool  // translator.elsewhere has more places
	used         bool
}

func newNames() names {
	return names{slots: make([]uint32, minSlots), shift: 64 - bits.TrailingZeros(minSlots)}
}

// spread makes all bits of engine hashes, which may be small numbers, count in
// the upper ones. A home slot is taken from the top, a tag from below.
func spread(h EngineHash) uint64 {
	x := uint64(h)
	x ^= x >> 32
	return x * 0x9E3779B97F4A7C15
}

func tagOf(x uint64) uint32 { return uint32(x) &^ numbers }

func (t *names) name(number uint32) *name {
	n := number - 1
	return &t.pages[n/namePage][n%namePage]
}

// warm touches the slots of hashes, all before any is needed, so that the cache
// misses overlap.
func (t *names) warm(hashes []EngineHash) (sum uint32) {
	for _, h := range hashes {
		sum += t.slots[spread(h)>>t.shift]
	}
	return sum
}

// find is the name of h, nil if it has none.
func (t *names) find(h EngineHash) *name {
	x := spread(h)
	mask := uint64(len(t.slots) - 1)
	for i := x >> t.shift; t.slots[i] != 0; i = (i + 1) & mask {
		if s := t.slots[i]; s&^numbers == tagOf(x) {
			if n := t.name(s & numbers); n.engine == h {
				return n
			}
		}
	}
	return nil
}

// findOrAdd is the name of h, which may be new. An engine has far fewer blocks
// than there are numbers; one that has not is forgotten as a whole (see full).
func (t *names) findOrAdd(h EngineHash) *name {
	if t.live >= len(t.slots)/4*3 {
		t.grow()
	}
	x := spread(h)
	mask := uint64(len(t.slots) - 1)
	i := x >> t.shift
	for ; t.slots[i] != 0; i = (i + 1) & mask {
		if s := t.slots[i]; s&^numbers == tagOf(x) {
			if n := t.name(s & numbers); n.engine == h {
				return n
			}
		}
	}
	number := t.number()
	t.slots[i] = tagOf(x) | number
	t.live++
	n := t.name(number)
	*n = name{engine: h, used: true}
	return n
}

// number is one that no name has.
func (t *names) number() uint32 {
	if k := len(t.free); k > 0 {
		n := t.free[k-1]
		t.free = t.free[:k-1]
		return n
	}
	if t.made%namePage == 0 {
		t.pages = append(t.pages, new([namePage]name))
	}
	t.made++
	return t.made
}

// full reports whether there may be no number for n more names.
func (t *names) full(n int) bool { return t.live+n > numbers }

// grow doubles the slots and enters all names again, page by page.
func (t *names) grow() {
	t.slots = make([]uint32, 2*len(t.slots))
	t.shift--
	mask := uint64(len(t.slots) - 1)
	for number := uint32(1); number <= t.made; number++ {
		n := t.name(number)
		if !n.used {
			continue
		}
		x := spread(n.engine)
		i := x >> t.shift
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = tagOf(x) | number
	}
}

// drop forgets the name of h.
func (t *names) drop(h EngineHash) {
	x := spread(h)
	mask := uint64(len(t.slots) - 1)
	i := x >> t.shift
	for ; t.slots[i] != 0; i = (i + 1) & mask {
		s := t.slots[i]
		if s&^numbers != tagOf(x) || t.name(s&numbers).engine != h {
			continue
		}
		t.free = append(t.free, s&numbers)
		*t.name(s & numbers) = name{}
		t.live--
		t.close(i, mask)
		return
	}
}

// close fills the hole at slot i, so that no later one becomes unreachable from
// its home.
func (t *names) close(i, mask uint64) {
	for j := i; ; {
		j = (j + 1) & mask
		s := t.slots[j]
		if s == 0 {
			break
		}
		if home := spread(t.name(s&numbers).engine) >> t.shift; (j-home)&mask >= (j-i)&mask {
			t.slots[i] = s
			i = j
		}
	}
	t.slots[i] = 0
}

// each visits every name; visit must not add or drop any.
func (t *names) each(visit func(*name)) {
	for number := uint32(1); number <= t.made; number++ {
		if n := t.name(number); n.used {
			visit(n)
		}
	}
}
