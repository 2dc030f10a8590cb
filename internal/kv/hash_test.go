package kv

import (
	"encoding/json"
	"math/rand/v2"
	"slices"
	"testing"
)

func tokens(n int) []uint32 {
	ts := make([]uint32, n)
	for i := range ts {
		ts[i] = uint32(1000 + i)
	}
	return ts
}

// Stored blocks are found by these names on disks and in Redis servers: a change
// of the construction must be meant, and changes the domain string. The values
// were computed from the description in docs/architecture.md by other means.
func TestHashesAreStable(t *testing.T) {
	root := RootSpec{Model: "qwen3", BlockSize: 16}.Hash()
	chain := Chain(nil, root, tokens(40), 16)
	got := []string{root.String(), chain[0].String(), chain[1].String()}
	want := []string{"b0c5ed5cc201b1089ffe05edee2d9833", "eb49fb4baa90ae96aae7e3fa48a2e163", "c02a2ab2a259912fc28c668fec4129e5"}
	if len(chain) != 2 || !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Law 7 begins here: whatever differs in the root, no block is shared.
func TestRootsShareNothing(t *testing.T) {
	specs := []RootSpec{
		{Model: "a", BlockSize: 16}, {Model: "b", BlockSize: 16}, {Model: "a", BlockSize: 32},
		{Model: "a", LoRA: "x", BlockSize: 16}, {Model: "a", Salt: "x", BlockSize: 16},
		{Model: "ax", BlockSize: 16}, {LoRA: "ax", BlockSize: 16}, {Model: "a", LoRA: "xy", BlockSize: 16},
		{Model: "a", LoRA: "x", Salt: "y", BlockSize: 16},
	}
	seen := map[Hash]RootSpec{}
	for _, s := range specs {
		h := Chain(nil, s.Hash(), tokens(16), 16)[0]
		if other, dup := seen[h]; dup {
			t.Errorf("%+v and %+v share a block", s, other)
		}
		seen[h] = s
	}
}

// A processor's own instructions for SHA-256 give the same names.
func TestQuickHashesAreTheSame(t *testing.T) {
	rng := rand.New(rand.NewPCG(7, 7))
	for size := 1; size <= 260; size++ {
		ts := make([]uint32, 3*size+rng.IntN(size))
		for i := range ts {
			ts[i] = rng.Uint32()
		}
		root := RootSpec{Model: "m", BlockSize: size}.Hash()
		want := chainPortably(nil, root, ts, size)
		if got := Chain(nil, root, ts, size); !slices.Equal(got, want) || len(got) != 3 {
			t.Fatalf("blocks of %d tokens: got %v, want %v", size, got, want)
		}
		if got := root.Child(ts[:size]); got != want[0] {
			t.Fatalf("blocks of %d tokens: child is %v, want %v", size, got, want[0])
		}
	}
}

func BenchmarkChain(b *testing.B) {
	dst, ts := make([]Hash, 0, 64), tokens(64*16)
	for _, f := range []struct {
		name  string
		chain func([]Hash, Hash, []uint32, int) []Hash
	}{{"chain", Chain}, {"portable", chainPortably}} {
		b.Run(f.name, func(b *testing.B) {
			for b.Loop() {
				dst = f.chain(dst[:0], Hash{}, ts, 16)
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/64, "ns/block")
		})
	}
}

// A block's name covers everything before it.
func TestAChangeReachesAllThatFollows(t *testing.T) {
	root := RootSpec{Model: "m", BlockSize: 4}.Hash()
	a := tokens(20)
	b := slices.Clone(a)
	b[5]++
	ha, hb := Chain(nil, root, a, 4), Chain(nil, root, b, 4)
	for i := range ha {
		if same := ha[i] == hb[i]; same != (i < 1) {
			t.Errorf("block %d: same %v", i, same)
		}
	}
}

func TestChainDoesNotAllocate(t *testing.T) {
	root, ts, dst := RootSpec{Model: "m", BlockSize: 16}.Hash(), tokens(1600), make([]Hash, 0, 100)
	if n := testing.AllocsPerRun(10, func() { Chain(dst, root, ts, 16) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTextForms(t *testing.T) {
	h := RootSpec{Model: "m"}.Hash()
	if back, err := ParseHash(h.String()); err != nil || back != h {
		t.Errorf("%v came back as %v, %v", h, back, err)
	}
	for _, bad := range []string{"", "00", h.String() + "0", "x" + h.String()[1:]} {
		if _, err := ParseHash(bad); err == nil {
			t.Errorf("%q was read as a hash", bad)
		}
	}
	for tier := range NumTiers {
		b, err := json.Marshal(tier)
		var back Tier
		if err != nil || json.Unmarshal(b, &back) != nil || back != tier {
			t.Errorf("%v came back as %v", tier, back)
		}
	}
	if s := Tiers(GPU, Redis); s.String() != "gpu+redis" || s.Has(CPU) || !s.With(CPU).Has(CPU) || s.Without(GPU) != Tiers(Redis) {
		t.Errorf("set of tiers: %v", s)
	}
	var r Role
	if err := json.Unmarshal([]byte(`"decode"`), &r); err != nil || r != Decode {
		t.Errorf("role %v, %v", r, err)
	}
	if err := json.Unmarshal([]byte(`"boss"`), &r); err == nil {
		t.Error("an unknown role was read")
	}
}

func TestLayoutsDiffer(t *testing.T) {
	l := Layout{Model: "m", DType: "bf16", Layers: 30, BlockSize: 16, BlockBytes: 368640, TPSize: 1, Version: 1}
	other := l
	other.Version = 2
	if l.Fingerprint() == other.Fingerprint() || l.Fingerprint() != (Layout{Model: "m", DType: "bf16", Layers: 30, BlockSize: 16, BlockBytes: 368640, TPSize: 1, Version: 1}).Fingerprint() {
		t.Error("fingerprints do not follow layouts")
	}
}
