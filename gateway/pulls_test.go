package gateway

import (
	"slices"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
)

func TestInCPUNamesTheOverlap(t *testing.T) {
	spans := []kv.Span{
		{Blocks: 4, Tiers: kv.Tiers(kv.GPU, kv.CPU)}, {Blocks: 3, Tiers: kv.Tiers(kv.CPU, kv.Peer)},
		{Blocks: 2, Tiers: kv.Tiers(kv.Disk, kv.Peer)}, {Blocks: 5, Tiers: kv.Tiers(kv.CPU)},
	}
	for _, c := range []struct {
		first, end int
		want       []workers.PeerSource
	}{
		{2, 6, []workers.PeerSource{{Address: "a", First: 2, Count: 4}}},
		{5, 11, []workers.PeerSource{{Address: "a", First: 5, Count: 2}, {Address: "a", First: 9, Count: 2}}},
		{7, 9, nil},
		{12, 30, []workers.PeerSource{{Address: "a", First: 12, Count: 2}}},
	} {
		if got := inCPU("a", spans, c.first, c.end); !slices.Equal(got, c.want) {
			t.Errorf("from %d to %d: %v, want %v", c.first, c.end, got, c.want)
		}
	}
}
