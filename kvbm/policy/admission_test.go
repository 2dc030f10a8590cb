package policy

import (
	"testing"
	"time"
)

func TestAShortBudgetIsKeptForBlocksThatAreUsedAgain(t *testing.T) {
	now := time.Unix(1000, 0)
	a := NewAdmission(24*100, 10, 100) // 100 bytes an hour: ten blocks at once
	admitted := 0
	for n := range uint64(20) {
		if a.Admit(hash(n), 10, now) {
			admitted++
		}
	}
	if admitted != 5 {
		t.Fatalf("%d blocks were written for the first time, want half a bucket, 5", admitted)
	}
	for n := range uint64(20) {
		if again := a.Admit(hash(n), 10, now); again != (n >= 5 && n < 10) {
			t.Fatalf("block %d offered again: admitted %v", n, again)
		}
	}
	if left := a.Left(now); left != 0 {
		t.Fatalf("%d bytes are left, want none", left)
	}
	now = now.Add(30 * time.Minute)
	if left := a.Left(now); left != 50 {
		t.Fatalf("%d bytes are left after half an hour, want 50", left)
	}
	if a.Admit(hash(100), 10, now) {
		t.Fatal("a block is written for the first time although the bucket is not more than half full")
	}
	if left := a.Left(now.Add(100 * time.Hour)); left != 100 {
		t.Fatalf("%d bytes are left after days, want a bucket, 100", left)
	}
}

func TestWithoutABudgetEverythingIsWritten(t *testing.T) {
	a := NewAdmission(0, 10, 100)
	for n := range uint64(1000) {
		if !a.Admit(hash(n), 1<<30, time.Unix(0, 0)) {
			t.Fatal("a block was turned away")
		}
	}
}

// The trace's hour of new blocks against a budget of a tenth of them an hour: it
// holds at every moment, and is used up.
func TestTheWriteBudgetHoldsOnTheConversationTrace(t *testing.T) {
	requests := readTrace(t, conversation)
	const perDay, bytes = 24 * 18_000, 1 // 18 k blocks an hour, of 183 k that are new
	a := NewAdmission(perDay, bytes, 60_000)
	disk := NewTable(LRU, 60_000)
	start := time.Unix(0, 0)
	written, offered := 0, 0
	for i, bs := range requests {
		now := start.Add(time.Hour * time.Duration(i) / time.Duration(len(requests)))
		for _, b := range bs {
			if disk.Has(b.Hash) {
				continue
			}
			offered++
			if !a.Admit(b.Hash, bytes, now) {
				continue
			}
			written++
			s, ok := disk.Fill(AllParts)
			if !ok {
				t.Fatal("more was written than the budget allows")
			}
			disk.Commit(s, b)
			disk.Unlease(s)
		}
		allowed := 18_000 + int(18_000*now.Sub(start)/time.Hour)
		if written > allowed {
			t.Fatalf("%d blocks were written after %v, the budget is %d", written, now.Sub(start), allowed)
		}
	}
	t.Logf("%d of %d offered blocks were written; the budget was %d", written, offered, 36_000)
	if written < 30_000 {
		t.Errorf("only %d blocks were written: the budget is not used", written)
	}
}
