package router

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// TestPeers against the definition, block by block.
func TestPeers(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 1))
	var p Peers
	for range 3000 {
		r := randomRequest(rng)
		cs := make([]Candidate, 1+rng.IntN(6))
		for i := range cs {
			cs[i] = randomCandidate(rng, i)
		}
		before := make([][]kv.TierSet, len(cs))
		for i := range cs {
			before[i] = blockwise(cs[i].Spans)
		}
		p.Add(&r, cs)
		for i := range cs {
			want := pulled(&r, cs, before, i)
			if got := blockwise(cs[i].Spans); !slices.Equal(got, want) {
				t.Fatalf("candidate %d of %v: got %v, want %v", i, before, got, want)
			}
		}
	}
}

// TestPulledRunsAreTheEstimates: what a decision says comes from peers is what
// Pulled names, in order, and every block of it is at a peer.
func TestPulledRunsAreTheEstimates(t *testing.T) {
	rng := rand.New(rand.NewPCG(seed(t), 2))
	policy, _ := NewPolicy("predicted", 1)
	var p Peers
	found := 0
	for range 3000 {
		r := randomRequest(rng)
		cs := make([]Candidate, 2+rng.IntN(5))
		for i := range cs {
			cs[i] = randomCandidate(rng, i)
		}
		p.Add(&r, cs)
		var d Decision
		policy.DecideInto(&d, &r, cs)
		for i := range cs {
			e, sets := d.Estimates[i], blockwise(cs[i].Spans)
			sum, end := 0, 0
			for first, count := range cs[i].Pulled(&r, e.Cut) {
				if first < end || first+count > e.Cut {
					t.Fatalf("run %d+%d after %d, cut %d", first, count, end, e.Cut)
				}
				for _, set := range sets[first : first+count] {
					if !set.Has(kv.Peer) {
						t.Fatalf("run %d+%d of %v holds a block that no peer has", first, count, cs[i].Spans)
					}
				}
				sum, end = sum+count, first+count
			}
			if sum != e.Blocks[kv.Peer] {
				t.Fatalf("%d blocks are named, the estimate pulls %d: %+v", sum, e.Blocks[kv.Peer], e)
			}
			found += sum
		}
	}
	if found == 0 {
		t.Fatal("no estimate pulled anything")
	}
}

// pulled is what candidate i has with its peers.
func pulled(r *Request, cs []Candidate, before [][]kv.TierSet, i int) (sets []kv.TierSet) {
	for b := 0; ; b++ {
		set := kv.TierSet(0)
		if b < len(before[i]) {
			set = before[i][b]
		}
		for j := range cs {
			if j != i && b < r.maxCut() && b < len(before[j]) && before[j][b].Has(kv.CPU) && !set.Has(kv.GPU) &&
				cs[i].Rates.usable(kv.Peer) && cs[j].Rates.usable(kv.Peer) {
				set = set.With(kv.Peer)
			}
		}
		if set == 0 {
			return sets
		}
		sets = append(sets, set)
	}
}

func blockwise(spans []kv.Span) (sets []kv.TierSet) {
	for _, s := range spans {
		for range s.Blocks {
			sets = append(sets, s.Tiers)
		}
	}
	return sets
}

// TestPlannedTransfersQueue until they are through, with or without a report.
func TestPlannedTransfersQueue(t *testing.T) {
	rates := Rates{BlockBytes: 1000, Handoff: Link{BytesPerMS: 100}}
	rates.Links[kv.Disk] = Link{BytesPerMS: 10}
	start := time.Unix(100, 0)
	l := NewLedger()
	a := l.Account("w")
	a.Plan(&Estimate{Blocks: TierBlocks{kv.GPU: 5, kv.Disk: 3}}, &rates, start)
	a.Plan(&Estimate{Blocks: TierBlocks{kv.Disk: 1}}, &rates, start.Add(100*time.Millisecond))
	a.Plan(&Estimate{Blocks: TierBlocks{kv.Disk: 9}, Split: &Split{TransferBlocks: 2}}, &rates, start)
	for after, want := range map[time.Duration][2]int64{
		0: {4000, 2000}, 15 * time.Millisecond: {3850, 500}, 300 * time.Millisecond: {1000, 0}, 400 * time.Millisecond: {0, 0},
	} {
		got := rates
		a.Queue(&got, start.Add(after))
		if q := [2]int64{got.Links[kv.Disk].QueuedBytes, got.Handoff.QueuedBytes}; q != want {
			t.Errorf("after %v: %v bytes are queued on disk and handoff, want %v", after, q, want)
		}
		reported := rates
		reported.Links[kv.Disk].QueuedBytes = 2500
		a.Queue(&reported, start.Add(after))
		if q := reported.Links[kv.Disk].QueuedBytes; q != max(2500, want[0]) {
			t.Errorf("after %v, with a report: %d bytes are queued", after, q)
		}
	}
}

func BenchmarkPeers(b *testing.B) {
	for _, n := range []int{8, 1000} {
		b.Run(fmt.Sprintf("workers=%d", n), func(b *testing.B) {
			cs := fleetOf(n, rand.New(rand.NewPCG(1, 2)))
			for i := range cs {
				cs[i].Spans = nil
				if i%10 == 0 {
					cs[i].Spans = []kv.Span{{Blocks: 100 + i%50, Tiers: kv.Tiers(kv.CPU)}}
				}
			}
			own := slices.Clone(cs)
			r := Request{ID: "r", Tokens: 3000, BlockSize: 16}
			var p Peers
			b.ReportAllocs()
			for b.Loop() {
				for i := range cs {
					cs[i].Spans = own[i].Spans
				}
				p.Add(&r, cs)
			}
		})
	}
}
