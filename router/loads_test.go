package router

import (
	"testing"
	"time"
)

// TestLoadCountsNobodyTwice walks one worker through its reports.
func TestLoadCountsNobodyTwice(t *testing.T) {
	ls, ledger := NewLoads(), NewLedger()
	rates := Rates{PrefillPerTokenMS: 1}
	now := time.Unix(1000, 0)
	report := func(running, waiting, queued int, age time.Duration) *Report {
		return &Report{At: now.Add(-age), Running: running, Waiting: waiting, QueuedPrefillTokens: queued, KVUsage: 0.25}
	}
	want := func(what string, s *Report, running, waiting int, queuedMS float64) {
		t.Helper()
		l := ls.Of("w", s, &rates, ledger, now)
		if l.Running != running || l.Waiting != waiting || l.QueuedPrefillMS != queuedMS {
			t.Errorf("%s: %+v", what, l)
		}
	}
	want("nothing known", &Report{}, 0, 0, 0)
	want("another gateway's requests", report(2, 1, 300, 0), 2, 1, 300)
	want("a report too old to believe", report(2, 1, 300, time.Minute), 0, 0, 0)

	ledger.Add("a", "w", Estimate{PrefillMS: 100}, now)
	ls.Note("w", ledger, now)
	want("our own, and the worker sees it too", report(0, 1, 100, 0), 0, 1, 100)
	want("our own, and one of another gateway", report(1, 1, 250, 0), 0, 2, 250)

	now = now.Add(300 * time.Millisecond)
	ls.Note("w", ledger, now)
	ledger.Done("a", now)
	now = now.Add(100 * time.Millisecond)
	want("our own ended after the report was made", report(1, 0, 100, 200*time.Millisecond), 0, 0, 0)
	want("whatever was left of its prefill", report(1, 0, 500, 200*time.Millisecond), 0, 0, 0)
	now = now.Add(3 * time.Second)
	want("a report long after ours ended", report(1, 0, 50, 0), 1, 0, 50)
	if l := ls.Of("w", report(0, 0, 0, 0), &rates, ledger, now); l.FreeKVShare != 0.75 {
		t.Errorf("free KV %v", l.FreeKVShare)
	}
}
