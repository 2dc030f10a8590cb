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
	slots []uint64 // the tag in the upper half, the name's number plus one below; 0: empty
	shift int      // of a tag, to its home slot
	pages []*[namePage]name
	made  uint32   // names on pages, also those given back
	free  []uint32 // numbers given back
	live  int
}

const (
	namePage = 1024
	minSlots = 1 << 10
)

// name is what an engine hash stands for, and where its block is.
type name struct {
	engine       EngineHash
	ours, parent kv.Hash
	at           place // a count of 0: nowhere; further places are in translator.elsewhere
	resolved     bool  // ours is known
	odd          bool  // never will be: it holds more than tokens
	spread       bool  // translator.elsewhere has more places
}

func newNames() names {
	return names{slots: make([]uint64, minSlots), shift: 32 - bits.TrailingZeros(minSlots)}
}

// tag spreads engine hashes, which may be small numbers, over 32 bits.
func tag(h EngineHash) uint64 {
	x := uint64(h)
	x ^= x >> 32
	return x * 0x9E3779B97F4A7C15 >> 32
}

func (t *names) name(number uint64) *name {
	n := number - 1
	return &t.pages[n/namePage][n%namePage]
}

// warm touches the slots of hashes, all before any is needed, so that the cache
// misses overlap.
func (t *names) warm(hashes []EngineHash) (sum uint64) {
	for _, h := range hashes {
		sum += t.slots[tag(h)>>t.shift]
	}
	return sum
}

// find is the name of h, nil if it has none.
func (t *names) find(h EngineHash) *name {
	tag := tag(h)
	mask := uint64(len(t.slots) - 1)
	for i := tag >> t.shift; t.slots[i] != 0; i = (i + 1) & mask {
		if s := t.slots[i]; s>>32 == tag {
			if n := t.name(s & 0xFFFFFFFF); n.engine == h {
				return n
			}
		}
	}
	return nil
}

// findOrAdd is the name of h, which may be new.
func (t *names) findOrAdd(h EngineHash) *name {
	if t.live >= len(t.slots)/4*3 {
		t.grow()
	}
	tag := tag(h)
	mask := uint64(len(t.slots) - 1)
	i := tag >> t.shift
	for ; t.slots[i] != 0; i = (i + 1) & mask {
		if s := t.slots[i]; s>>32 == tag {
			if n := t.name(s & 0xFFFFFFFF); n.engine == h {
				return n
			}
		}
	}
	number := t.number()
	t.slots[i] = tag<<32 | number
	t.live++
	n := t.name(number)
	*n = name{engine: h}
	return n
}

// number is one that no name has.
func (t *names) number() uint64 {
	if k := len(t.free); k > 0 {
		n := t.free[k-1]
		t.free = t.free[:k-1]
		return uint64(n)
	}
	if t.made%namePage == 0 {
		t.pages = append(t.pages, new([namePage]name))
	}
	t.made++
	return uint64(t.made)
}

// grow doubles the slots. A tag knows its home in tables of any size.
func (t *names) grow() {
	old := t.slots
	t.slots = make([]uint64, 2*len(old))
	t.shift--
	mask := uint64(len(t.slots) - 1)
	for _, s := range old {
		if s == 0 {
			continue
		}
		i := s >> 32 >> t.shift
		for t.slots[i] != 0 {
			i = (i + 1) & mask
		}
		t.slots[i] = s
	}
}

// drop forgets the name of h.
func (t *names) drop(h EngineHash) {
	tag := tag(h)
	mask := uint64(len(t.slots) - 1)
	i := tag >> t.shift
	for ; t.slots[i] != 0; i = (i + 1) & mask {
		s := t.slots[i]
		if s>>32 != tag || t.name(s&0xFFFFFFFF).engine != h {
			continue
		}
		t.free = append(t.free, uint32(s))
		*t.name(s & 0xFFFFFFFF) = name{}
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
		if home := s >> 32 >> t.shift; (j-home)&mask >= (j-i)&mask {
			t.slots[i] = s
			i = j
		}
	}
	t.slots[i] = 0
}

// each visits every name; visit must not add or drop any.
func (t *names) each(visit func(*name)) {
	for _, s := range t.slots {
		if s != 0 {
			visit(t.name(s & 0xFFFFFFFF))
		}
	}
}
