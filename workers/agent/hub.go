package agent

import (
	"context"
	"math/rand/v2"
	"sync"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// origin is who told of a block.
type origin uint8

const (
	fromEngine origin = iota
	fromManager
	numOrigins
)

// inbox takes events without ever waiting for a reader of the hub: its mutex is
// held for an append only. Its length is bounded by how far the hub's goroutine
// can fall behind, which is one snapshot.
type inbox struct {
	mu     sync.Mutex
	queue  []told
	filled chan struct{} // capacity 1
}

type told struct {
	by     origin
	events []kv.Event
}

func (i *inbox) put(by origin, events []kv.Event) {
	i.mu.Lock()
	i.queue = append(i.queue, told{by, events})
	i.mu.Unlock()
	select {
	case i.filled <- struct{}{}:
	default:
	}
}

func (i *inbox) take(reuse []told) []told {
	i.mu.Lock()
	defer i.mu.Unlock()
	q := i.queue
	i.queue = reuse[:0]
	return q
}

// hub merges the events of engine and manager into one numbered stream, and
// knows what it adds up to.
type hub struct {
	in    inbox
	epoch uint64

	mu      sync.Mutex
	held    holdings
	log     deltaLog
	changed chan struct{} // closed and replaced with each change
}

func newHub(logBlocks int) *hub {
	return &hub{
		in:      inbox{filled: make(chan struct{}, 1)},
		epoch:   rand.Uint64() | 1, // never 0, which means nothing
		held:    newHoldings(),
		log:     deltaLog{maxBlocks: logBlocks},
		changed: make(chan struct{}),
	}
}

// run files what the inbox takes until ctx ends.
func (h *hub) run(ctx context.Context) {
	var batch []told
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.in.filled:
		}
		batch = h.in.take(batch)
		h.file(batch)
		clear(batch)
	}
}

func (h *hub) file(batch []told) {
	h.mu.Lock()
	defer h.mu.Unlock()
	var effective []kv.Event
	for _, t := range batch {
		for _, e := range t.events {
			effective = h.held.apply(effective, t.by, e)
		}
	}
	if len(effective) == 0 {
		return
	}
	h.log.add(effective)
	close(h.changed)
	h.changed = make(chan struct{})
}

// snapshot is everything held, and the number of the last delta in it.
func (h *hub) snapshot() (events []kv.Event, seq uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.held.snapshot(), h.log.last
}

// since is the deltas after a number, and a channel that closes when there are
// more. Not ok: the log no longer reaches back that far, or never was there.
func (h *hub) since(epoch, after uint64) (deltas []delta, more <-chan struct{}, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if epoch != h.epoch {
		return nil, nil, false
	}
	deltas, ok = h.log.since(after)
	return deltas, h.changed, ok
}

// blocks is how many blocks are held in any tier.
func (h *hub) blocks() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.held.numbers)
}

// leading is how many of the leading blocks the engine says are on its pages.
func (h *hub) leading(hashes []kv.Hash) (n int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for n < len(hashes) {
		number := h.held.numbers[hashes[n]]
		if number == 0 || !h.held.at(number).by[fromEngine].Has(kv.GPU) {
			break
		}
		n++
	}
	return n
}
