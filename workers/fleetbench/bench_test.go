package fleetbench

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type index struct{ *prefixindex.Index }

func newIndex() index { return index{prefixindex.New(prefixindex.Options{})} }

func (x index) Held(id kv.WorkerID, hashes []kv.Hash) (n int) {
	var m prefixindex.Matches
	x.Match(&m, hashes)
	for _, s := range m.Spans(id) {
		n += s.Blocks
	}
	return n
}

// TestWire: every block arrives, also when engines hash equal content
// differently.
func TestWire(t *testing.T) {
	f := func(o WireOptions) {
		t.Helper()
		r, err := Wire(t.Context(), o, newIndex())
		if err != nil || r.BlocksPerS <= 0 || r.Memberships != 4096 {
			t.Errorf("%+v: %+v, %v", o, r, err)
		}
	}
	f(WireOptions{Workers: 4, Blocks: 4096, Run: 64, Rounds: 2, Seed: 1})
	f(WireOptions{Workers: 4, Blocks: 4096, Run: 1, Rounds: 1, OwnHashes: true, Seed: 1})
	if _, err := Wire(t.Context(), WireOptions{Workers: 4, Blocks: 1, Run: 64}, newIndex()); err == nil {
		t.Error("no error for less than a prompt each")
	}
}

// TestJoin: a gateway that joins has every block of every agent.
func TestJoin(t *testing.T) {
	r, err := Join(t.Context(), JoinOptions{Agents: 2, Blocks: 50 * wireChain}, newIndex())
	if err != nil || r.Memberships != 100*wireChain || r.FullAfterS <= 0 {
		t.Errorf("%+v, %v", r, err)
	}
}

// BenchmarkJoin runs with the default options.
func BenchmarkJoin(b *testing.B) {
	for b.Loop() {
		r, err := Join(b.Context(), DefaultJoin(), newIndex())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(r.FullAfterS, "s-full")
		b.ReportMetric(r.CPUS, "cpu-s")
	}
}

// BenchmarkWire runs with the default options.
func BenchmarkWire(b *testing.B) {
	for b.Loop() {
		r, err := Wire(b.Context(), DefaultWire(), newIndex())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(r.BlocksPerS/1e6, "Mblocks/s")
		b.ReportMetric(r.CPUPerBlockUS, "cpu-us/block")
		b.ReportMetric(r.BytesPerMembership, "B/membership")
	}
}
