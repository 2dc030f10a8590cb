package indexbench

import (
	"encoding/json"
	"testing"
	"time"
)

// TestRun: every figure is there, and the index ends as it began.
func TestRun(t *testing.T) {
	r, err := Run(t.Context(), Options{Blocks: 20_000, Workers: 3, PromptBlocks: 64, WriteRate: 1e5,
		Duration: 100 * time.Millisecond, Writers: 2, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	b, _ := json.Marshal(r)
	var fields map[string]float64
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lookup_p50_us", "lookup_p99_us", "write_block_ops_per_s", "bytes_per_membership"} {
		if fields[name] <= 0 {
			t.Errorf("%s is %v", name, fields[name])
		}
	}
	if r.AllocsPerLookup >= 1 {
		t.Errorf("%v allocations a lookup", r.AllocsPerLookup)
	}
	if r.Blocks < 20_000 || r.Memberships < r.Blocks {
		t.Errorf("%d blocks, %d memberships", r.Blocks, r.Memberships)
	}
}

func TestOptionsSayWhatIsWrong(t *testing.T) {
	o := DefaultOptions()
	o.Workers = 0
	if _, err := Run(t.Context(), o); err == nil {
		t.Fatal("no error for 0 workers")
	}
}

// BenchmarkIndex runs with the default options.
func BenchmarkIndex(b *testing.B) {
	for b.Loop() {
		r, err := Run(b.Context(), DefaultOptions())
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(r.LookupP50US, "p50-us")
		b.ReportMetric(r.LookupP99US, "p99-us")
		b.ReportMetric(r.WriteBlockOpsPerS/1e6, "Mblock-ops/s")
		b.ReportMetric(r.WriteRateReached/1e6, "Mblock-ops/s-during")
		b.ReportMetric(r.BytesPerMembership, "B/membership")
		b.ReportMetric(float64(r.Lookups), "lookups")
	}
}
