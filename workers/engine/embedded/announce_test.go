package embedded

import (
	"slices"
	"testing"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/events"
)

// announcements is an announcer with a chain of blocks of four tokens, and what
// it has published.
type announcements struct {
	*announcer
	published []events.Event
	wakes     int
}

func newAnnouncements() *announcements {
	a := &announcements{}
	a.announcer = newAnnouncer(4, func() { a.wakes++ }, func(batch []events.Event) { a.published = append(a.published, batch...) })
	return a
}

func chainOf(salt string, blocks int) *sequence {
	q := &sequence{options: options{salt: salt}, root: kv.RootSpec{Model: "m", Salt: salt, BlockSize: 4}.Hash()}
	for i := range uint32(blocks * 4) {
		q.tokens = append(q.tokens, i)
	}
	q.hashes = kv.Chain(nil, q.root, q.tokens, 4)
	return q
}

func (a *announcements) learnAll(q *sequence) {
	for i := range q.hashes {
		a.learn(q, i)
	}
}

// happens is what the block manager tells about q's blocks.
func (a *announcements) happens(kind kv.EventKind, tier kv.Tier, q *sequence, blocks ...int) {
	for _, i := range blocks {
		a.collect([]kv.Event{{Kind: kind, Tier: tier, Parent: q.block(i).Parent, Hashes: []kv.Hash{q.hashes[i]}}})
	}
}

func (a *announcements) take() []events.Event {
	a.flush()
	e := a.published
	a.published = nil
	return e
}

func TestAStepsBlocksAreOneEvent(t *testing.T) {
	a, q := newAnnouncements(), chainOf("tenant", 4)
	a.learnAll(q)
	a.happens(kv.Stored, kv.GPU, q, 0, 1, 2)
	a.happens(kv.Stored, kv.CPU, q, 0, 1, 2) // another tier is not ours to tell
	got := a.take()
	if len(got) != 1 || len(got[0].Hashes) != 3 || got[0].Parent != nil || got[0].Salt != "tenant" || !slices.Equal(got[0].Tokens, q.tokens[:12]) {
		t.Fatalf("want one event of three blocks, got %+v", got)
	}
	a.happens(kv.Stored, kv.GPU, q, 3)
	got = a.take()
	if len(got) != 1 || *got[0].Parent != events.HashOf(q.hashes[2]) || got[0].Salt != "" {
		t.Fatalf("want the fourth block with its parent and no salt, got %+v", got)
	}
	if a.wakes != 4 {
		t.Errorf("woke the scheduler %d times, want 4", a.wakes)
	}
}

func TestBlocksOfTwoPromptsAreTwoEvents(t *testing.T) {
	a, q, r := newAnnouncements(), chainOf("", 1), chainOf("other", 1)
	a.learnAll(q)
	a.learnAll(r)
	a.happens(kv.Stored, kv.GPU, q, 0)
	a.happens(kv.Stored, kv.GPU, r, 0)
	if got := a.take(); len(got) != 2 || got[1].Salt != "other" {
		t.Fatalf("got %+v", got)
	}
}

func TestAnOnboardedBlockIsToldWhenItsTokensAreKnown(t *testing.T) {
	a, q := newAnnouncements(), chainOf("", 3)
	a.happens(kv.Stored, kv.GPU, q, 0, 1, 2) // the router's Onboard came first
	if got := a.take(); len(got) != 0 {
		t.Fatalf("told without tokens: %+v", got)
	}
	a.happens(kv.Removed, kv.GPU, q, 2)
	if got := a.take(); len(got) != 0 {
		t.Fatalf("a block that was never told need not be taken back: %+v", got)
	}
	a.learnAll(q)
	if got := a.take(); len(got) != 1 || len(got[0].Hashes) != 2 {
		t.Fatalf("want the two blocks that are still there, got %+v", got)
	}
	a.forget(q)
	a.happens(kv.Removed, kv.GPU, q, 1, 0)
	if got := a.take(); len(got) != 2 || got[0].Kind != kv.Removed || got[0].Hashes[0] != events.HashOf(q.hashes[1]) {
		t.Fatalf("want one removal a block, tail first, got %+v", got)
	}
	if len(a.known)+len(a.held)+len(a.told) != 0 {
		t.Error("something is remembered of blocks that are gone")
	}
}

func TestTwoSequencesShareWhatIsKnown(t *testing.T) {
	a, q, twin := newAnnouncements(), chainOf("", 2), chainOf("", 2)
	a.learnAll(q)
	a.learnAll(twin)
	a.forget(q)
	a.happens(kv.Stored, kv.GPU, twin, 0, 1)
	if got := a.take(); len(got) != 1 {
		t.Fatalf("the second sequence still knows the tokens, got %+v", got)
	}
}

func TestClearedForgetsRemovalsThatFollow(t *testing.T) {
	a, q := newAnnouncements(), chainOf("", 1)
	a.learnAll(q)
	a.happens(kv.Stored, kv.GPU, q, 0)
	a.flush()
	a.happens(kv.Removed, kv.GPU, q, 0)
	a.cleared()
	if got := a.take(); len(got) != 2 || got[1].Kind != kv.Cleared {
		t.Fatalf("want stored, cleared; got %+v", got)
	}
}
