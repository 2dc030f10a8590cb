package embedded

import (
	"sync"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/events"
)

// announcer tells the world which blocks are in the engine's pages, as vLLM does.
//
// The block manager's own stream of gpu events decides what is told and in which
// order, so that a commit, an onboarding and an eviction can never be told the
// wrong way round. vLLM's events carry token ids, though, and the manager knows
// only hashes: the tokens come from the sequences alive. A block that was
// onboarded before its request came (the router's call may be first) is held
// until a sequence with its tokens shows up, and one that leaves before is never
// told at all: an index misses a block for a moment, but never sees a wrong one.
//
// collect may be called from any goroutine; all else belongs to the scheduler's.
type announcer struct {
	blockSize int
	publish   func([]events.Event)
	wake      func()

	mu  sync.Mutex
	raw []kv.Event // gpu events not yet looked at

	known map[kv.Hash]*blockText // blocks of live sequences
	held  map[kv.Hash]struct{}   // in a page, tokens unknown
	told  map[kv.Hash]struct{}   // in a page, announced
	batch []events.Event         // of this step
	tail  kv.Hash                // the block that ends batch's last event, if that is a Stored
}

// blockText is what an event says about a block besides its hash.
type blockText struct {
	sequences int
	block     kv.Block
	first     bool // of its prompt: the parent is the root, which has no name on the wire
	salt      string
	tokens    []uint32
}

func newAnnouncer(blockSize int, wake func(), publish func([]events.Event)) *announcer {
	return &announcer{blockSize: blockSize, wake: wake, publish: publish,
		known: map[kv.Hash]*blockText{}, held: map[kv.Hash]struct{}{}, told: map[kv.Hash]struct{}{}}
}

// collect takes events from the block manager.
func (a *announcer) collect(changes []kv.Event) {
	a.mu.Lock()
	before := len(a.raw)
	for _, e := range changes {
		if e.Tier == kv.GPU {
			a.raw = append(a.raw, e)
		}
	}
	news := len(a.raw) > before
	a.mu.Unlock()
	if news {
		a.wake()
	}
}

// learn notes the tokens of q's i-th block, until forget.
func (a *announcer) learn(q *sequence, i int) {
	b := q.block(i)
	t := a.known[b.Hash]
	if t == nil {
		t = &blockText{block: b, first: i == 0, salt: q.salt, tokens: q.tokens[i*a.blockSize : (i+1)*a.blockSize]}
		a.known[b.Hash] = t
	}
	t.sequences++
	if _, ok := a.held[b.Hash]; ok {
		delete(a.held, b.Hash)
		a.stored(t)
	}
}

// forget undoes every learn of q.
func (a *announcer) forget(q *sequence) {
	for _, h := range q.hashes {
		if t := a.known[h]; t.sequences > 1 {
			t.sequences--
		} else {
			delete(a.known, h)
		}
	}
}

// flush publishes what changed since the last flush.
func (a *announcer) flush() {
	a.mu.Lock()
	raw := a.raw
	a.raw = nil
	a.mu.Unlock()
	for _, e := range raw {
		switch e.Kind {
		case kv.Stored:
			for _, h := range e.Hashes {
				if t := a.known[h]; t != nil {
					a.stored(t)
				} else {
					a.held[h] = struct{}{}
				}
			}
		case kv.Removed:
			for _, h := range e.Hashes {
				a.removed(h)
			}
		case kv.Cleared:
			a.cleared()
		}
	}
	if len(a.batch) > 0 {
		a.publish(a.batch)
		a.batch, a.tail = nil, kv.Hash{}
	}
}

// stored joins a block to the event before it if it continues that one's chain.
func (a *announcer) stored(t *blockText) {
	a.told[t.block.Hash] = struct{}{}
	if t.first || t.block.Parent != a.tail {
		e := events.Event{Kind: kv.Stored, BlockSize: a.blockSize, Medium: events.MediumGPU}
		if t.first {
			e.Salt = t.salt
		} else {
			parent := events.HashOf(t.block.Parent)
			e.Parent = &parent
		}
		a.batch = append(a.batch, e)
	}
	e := &a.batch[len(a.batch)-1]
	e.Hashes = append(e.Hashes, events.HashOf(t.block.Hash))
	e.Tokens = append(e.Tokens, t.tokens...)
	a.tail = t.block.Hash
}

// removed makes an event of its own for each block, as vLLM does.
func (a *announcer) removed(h kv.Hash) {
	delete(a.held, h)
	if _, ok := a.told[h]; ok {
		delete(a.told, h)
		a.batch = append(a.batch, events.Event{Kind: kv.Removed, Hashes: []events.EngineHash{events.HashOf(h)}, Medium: events.MediumGPU})
		a.tail = kv.Hash{}
	}
}

func (a *announcer) cleared() {
	clear(a.held)
	clear(a.told)
	a.batch = append(a.batch, events.Event{Kind: kv.Cleared})
	a.tail = kv.Hash{}
}
