package policy

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

func newRand(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	if s, err := strconv.ParseUint(os.Getenv("KVASIR_SEED"), 10, 64); err == nil {
		seed = s
	}
	t.Logf("KVASIR_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

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
	s, ok := tab.Fill()
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
	tab := NewTable(2)
	b := chain(1, 1)[0]
	s := commit(t, tab, b)
	if tab.Drop(s) {
		t.Fatal("a leased block was dropped")
	}
	if _, _, ok := tab.Evict(); ok {
		t.Fatal("a leased block was evicted")
	}
	tab.Unlease(s)
	if got, ok := tab.Find(b.Hash); !ok || got != s {
		t.Fatal("a committed block is not found")
	}
	v, vb, ok := tab.Evict()
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
	tab := NewTable(2)
	b := chain(1, 1)[0]
	commit(t, tab, b)
	s, _ := tab.Fill()
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
	tab := NewTable(8)
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
		s, b, ok := tab.Evict()
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
	tab := NewTable(4)
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
		s, _, ok := tab.Evict()
		if !ok || s != slots[i] {
			t.Fatalf("evicted slot %d (%v), want %d", s, ok, slots[i])
		}
		tab.Evicted(s)
		check(t, tab)
	}
}

func TestRestoreTakesWhatFitsAndKeepsTheOrder(t *testing.T) {
	tab := NewTable(3)
	bs := chain(1, 3)
	refused := tab.Restore([]Held{{2, bs[0]}, {2, bs[1]}, {9, bs[1]}, {0, bs[0]}, {1, bs[2]}})
	if len(refused) != 3 {
		t.Fatalf("refused %v, want 3 of them", refused)
	}
	check(t, tab)
	if s, _ := tab.Fill(); s != 0 {
		t.Fatalf("filled slot %d, want the free one, 0", s)
	}
	if _, b, _ := tab.Evict(); b != bs[0] {
		t.Fatalf("evicted %v, want the oldest", b.Hash)
	}
}

// Random operations beside a naive model: after every step the table agrees
// with it and passes Check.
func TestTableAgreesWithModel(t *testing.T) {
	r := newRand(t)
	for range 60 {
		runTable(t, r, 1+r.IntN(12), 400)
	}
}

type modelSlot struct {
	state  State
	block  kv.Block
	leases int
	used   int
}

func runTable(t *testing.T, r *rand.Rand, capacity, steps int) {
	tab := NewTable(capacity)
	model := make([]modelSlot, capacity)
	in := func(st State) (out []Slot) {
		for i := range model {
			if model[i].state == st {
				out = append(out, Slot(i))
			}
		}
		return out
	}
	for step := range steps {
		pick := func(slots []Slot) Slot { return slots[r.IntN(len(slots))] }
		filling, committed, evicting := in(Filling), in(Committed), in(Evicting)
		switch op := r.IntN(8); {
		case op == 0:
			if s, ok := tab.Fill(); ok {
				if model[s].state != Free {
					t.Fatalf("step %d: slot %d was handed out while %s", step, s, model[s].state)
				}
				model[s].state = Filling
			} else if len(in(Free)) > 0 {
				t.Fatalf("step %d: a free slot was not handed out", step)
			}
		case op == 1 && len(filling) > 0:
			s := pick(filling)
			n := 1 + r.Uint64N(20) // a tree: each block follows its half
			b := kv.Block{Hash: hash(n), Parent: hash(n / 2)}
			dup := slices.ContainsFunc(committed, func(c Slot) bool { return model[c].block.Hash == b.Hash })
			if tab.Commit(s, b) == dup {
				t.Fatalf("step %d: commit of %v, held already: %v", step, b.Hash, dup)
			}
			if !dup {
				model[s] = modelSlot{Committed, b, 1, step}
			}
		case op == 2 && len(filling) > 0:
			s := pick(filling)
			tab.Abort(s)
			model[s] = modelSlot{}
		case op == 3 && len(committed) > 0:
			s := pick(committed)
			tab.Lease(s)
			model[s].leases++
		case op == 4 && len(committed) > 0:
			if s := pick(committed); model[s].leases > 0 {
				tab.Unlease(s)
				model[s].leases--
			}
		case op == 5 && len(committed) > 0:
			s := pick(committed)
			tab.Touch(s)
			model[s].used = step
		case op == 6:
			victim, ok := modelVictim(model)
			s, b, got := tab.Evict()
			if got != ok || ok && (s != victim || b != model[s].block) {
				t.Fatalf("step %d: evicted slot %d (%v), the model %d (%v)", step, s, got, victim, ok)
			}
			if ok {
				model[s].state = Evicting
			}
		case op == 7 && len(evicting) > 0:
			s := pick(evicting)
			tab.Evicted(s)
			model[s] = modelSlot{}
		}
		if err := tab.Check(); err != nil {
			t.Fatalf("step %d: %v", step, err)
		}
	}
}

// modelVictim looks at every slot: unleased, followed by no unleased block, and
// of those the least recently used.
func modelVictim(model []modelSlot) (victim Slot, ok bool) {
	for i, e := range model {
		if e.state != Committed || e.leases > 0 {
			continue
		}
		followed := slices.ContainsFunc(model, func(o modelSlot) bool {
			return o.state == Committed && o.leases == 0 && o.block.Parent == e.block.Hash
		})
		if !followed && (!ok || e.used < model[victim].used) {
			victim, ok = Slot(i), true
		}
	}
	return victim, ok
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
	tab := NewTable(1)
	must("lease of a free slot", func() { tab.Lease(0) })
	must("abort of a free slot", func() { tab.Abort(0) })
	s := commit(t, tab, chain(1, 1)[0])
	tab.Unlease(s)
	must("second return of a lease", func() { tab.Unlease(s) })
	must("end of an eviction that was not begun", func() { tab.Evicted(s) })
	check(t, tab)
}
