package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/gateway"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
)

// splitRecord is a decision for a prefill and a decode worker, as a gateway
// would have recorded it.
func splitRecord(t *testing.T) gateway.Record {
	t.Helper()
	rates := router.Rates{PrefillBaseMS: 7, PrefillPerTokenMS: 0.02, BlockBytes: 1 << 20, Handoff: router.Link{LatencyMS: 1, BytesPerMS: 5e7}}
	cs := []router.Candidate{
		{Worker: "p0", Role: kv.Prefill, Rates: rates, Spans: []kv.Span{{Blocks: 100, Tiers: kv.Tiers(kv.GPU)}}},
		{Worker: "d0", Role: kv.Decode, Rates: rates, Load: router.Load{Running: 20, FreeKVShare: 1}},
	}
	p, err := router.NewPolicy("predicted", 3)
	if err != nil {
		t.Fatal(err)
	}
	req := router.Request{ID: "abc", Tokens: 8000, BlockSize: 16, Now: time.Unix(1, 0).UTC()}
	return gateway.NewRecord(req, cs, p.Decide(req, cs))
}

// TestExplainReadsAndReplaysRecords with no gateway: one that was kept says the
// same again, one that was tampered with does not.
func TestExplainReadsAndReplaysRecords(t *testing.T) {
	explain := func(r gateway.Record, args ...string) (string, error) {
		b, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(t.TempDir(), "record.json")
		if err := os.WriteFile(file, b, 0o600); err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		c := newExplain()
		c.SetOut(&out)
		c.SetErr(&out)
		c.SilenceUsage, c.SilenceErrors = true, true
		c.SetArgs(append([]string{"--record", file}, args...))
		err = c.Execute()
		return out.String(), err
	}
	r := splitRecord(t)
	out, err := explain(r, "--replay")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"→ p0 then d0", "p0 (first leg)", "transfer", "the same decision", "d0 would have been next"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	r.Candidates[1].Inputs.Load.Running = 0 // then d0 alone is no burden to anybody
	r.Candidates[0].Inputs.Load.QueuedPrefillMS = 1000
	if _, err := explain(r, "--replay"); err == nil || !strings.Contains(err.Error(), "replayed") {
		t.Errorf("a record that was tampered with: %v", err)
	}
	if _, err := explain(r); err != nil {
		t.Errorf("printing does not replay: %v", err)
	}
}
