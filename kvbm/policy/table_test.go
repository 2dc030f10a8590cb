package policy

import (
	"encoding/binary"
	"slices"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
)

func hash(n uint64) (h kv.Hash) {
	binary.LittleEndian.PutUint64(h[:], n)
	h[15] = 1 // no block is the zero hash
	return h
}

// chain names n blocks that follow each other.
func chain(from uint64, n int) []kv.Block {
	var hashes []kv.Hash
	for i := range n {
		hashes = append(hashes, hash(from+uint64(i)))
	}
	return kv.Blocks(nil, kv.Hash{}, hashes)
}

// commit fills a slot with b and returns the lease that comes with it.
func commit(t *testing.T, tab *Table, b kv.Block) Slot {
	t.Helper()
	s, ok := tab.Fill(AllParts)
	if !ok {
		t.Fatal("no free slot")
	}
	if !tab.Commit(s, b) {
		t.Fatalf("%v is there already", b.Hash)
	}
	return s
}

func check(t *testing.T, tab *Table) {
	t.Helper()
	if err := tab.Check(); err != nil {
		t.Fatal(err)
	}
}

func TestSlotGoesThroughItsStates(t *testing.T) {
	tab := NewTable(LRU, 2)
	b := chain(1, 1)[0]
	s := commit(t, tab, b)
	if tab.Drop(s) {
		t.Fatal("a leased block was dropped")
	}
	if _, _, ok := tab.Evict(AllParts); ok {
		t.Fatal("a leased block was evicted")
	}
	tab.Unlease(s)
	if got, ok := tab.Find(b.Hash); !ok || got != s {
		t.Fatal("a committed block is not found")
	}
	v, vb, ok := tab.Evict(AllParts)
	if !ok || v != s || vb != b {
		t.Fatalf("evicted %v %v %v", v, vb, ok)
	}
	if tab.Has(b.Hash) || tab.Counts() != (Counts{Free: 1, Evicting: 1}) {
		t.Fatalf("while evicting: %+v", tab.Counts())
	}
	tab.Evicted(v)
	if tab.Counts() != (Counts{Free: 2}) {
		t.Fatalf("after: %+v", tab.Counts())
	}
	check(t, tab)
}

func TestTheSameBlockIsNotCommittedTwice(t *testing.T) {
	tab := NewTable(LRU, 2)
	b := chain(1, 1)[0]
	commit(t, tab, b)
	s, _ := tab.Fill(AllParts)
	if tab.Commit(s, b) {
		t.Fatal("a second slot took the block")
	}
	if tab.State(s) != Filling {
		t.Fatal("the refused slot is not filling any more")
	}
	tab.Abort(s)
	check(t, tab)
}

// Three prompts share their first two blocks. The blocks are used in any
// order, yet no block goes before those that follow it, and among the tails
// the least recently used goes first.
func TestSuffixIsEvictedBeforePrefix(t *testing.T) {
	tab := NewTable(LRU, 8)
	trunk := chain(1, 2)
	var order []kv.Block
	order = append(order, trunk...)
	for i := range uint64(3) {
		tail := chain(10*(i+1), 2)
		tail[0].Parent = trunk[1].Hash
		order = append(order, tail...)
	}
	var slots []Slot
	for _, b := range order {
		slots = append(slots, commit(t, tab, b))
	}
	for _, s := range slots {
		tab.Unlease(s)
	}
	// Use the first tail's last block alone: its prompt becomes the newest.
	tab.Touch(slots[3])
	var got []kv.Hash
	for range order {
		s, b, ok := tab.Evict(AllParts)
		if !ok {
			t.Fatal("nothing to evict")
		}
		tab.Evicted(s)
		got = append(got, b.Hash)
		check(t, tab)
	}
	want := []kv.Hash{hash(21), hash(20), hash(31), hash(30), hash(11), hash(10), hash(2), hash(1)}
	if !slices.Equal(got, want) {
		t.Fatalf("evicted %v\nwant    %v", got, want)
	}
}

// An offload that reads the last block of a long prompt must not keep the
// engine from getting the slots of the others.
func TestALeasedTailDoesNotPinItsPrefix(t *testing.T) {
	tab := NewTable(LRU, 4)
	var slots []Slot
	for _, b := range chain(1, 4) {
		slots = append(slots, commit(t, tab, b))
	}
	for _, s := range slots[:3] {
		tab.Unlease(s)
	}
	if tab.Available() != 3 {
		t.Fatalf("available %d, want 3", tab.Available())
	}
	for i := 2; i >= 0; i-- {
		s, _, ok := tab.Evict(AllParts)
		if !ok || s != slots[i] {
			t.Fatalf("evicted slot %d (%v), want %d", s, ok, slots[i])
		}
		tab.Evicted(s)
		check(t, tab)
	}
}

func TestRestoreTakesWhatFitsAndKeepsTheOrder(t *testing.T) {
	tab := NewTable(LRU, 3)
	bs := chain(1, 3)
	refused := tab.Restore([]Held{{2, bs[0]}, {2, bs[1]}, {9, bs[1]}, {0, bs[0]}, {1, bs[2]}})
	if len(refused) != 3 {
		t.Fatalf("refused %v, want 3 of them", refused)
	}
	check(t, tab)
	if s, _ := tab.Fill(AllParts); s != 0 {
		t.Fatalf("filled slot %d, want the free one, 0", s)
	}
	if _, b, _ := tab.Evict(AllParts); b != bs[0] {
		t.Fatalf("evicted %v, want the oldest", b.Hash)
	}
}

// Random operations beside a naive model: after every step the table agrees
// with it and passes Check.
func TestTableAgreesWithModel(t *testing.T) {
	r := trial.Rand(t)
	for range 60 {
		runTable(t, r, 1+r.IntN(12), 400)
	}
}

func TestMisuseIsNotSilent(t *testing.T) {
	must := func(name string, f func()) {
		defer func() {
			if recover() == nil {
				t.Errorf("%s went unnoticed", name)
			}
		}()
		f()
	}
	tab := NewTable(LRU, 1)
	must("lease of a free slot", func() { tab.Lease(0) })
	must("abort of a free slot", func() { tab.Abort(0) })
	s := commit(t, tab, chain(1, 1)[0])
	tab.Unlease(s)
	must("second return of a lease", func() { tab.Unlease(s) })
	must("end of an eviction that was not begun", func() { tab.Evicted(s) })
	check(t, tab)
}
