package prefixindex

import (
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Predictions are the prompts that workers were sent lately, and so will hold
// for a while: what there is to go by when a worker tells nothing, or has not
// told yet. They are kept apart from the Index, which holds only what workers
// said themselves.
//
// A prediction ends after a fixed time, or earlier when there are too many.
// Whoever was sent a block was sent all before it, at least as lately; so the
// blocks of a prompt end from the last to the first (law 5).
//
// Predictions is not safe for concurrent use, nor are those of its workers.
type Predictions struct {
	ttl       time.Duration
	maxBlocks int
	queue     []prediction // in the order in which they end; queue[head:] are current
	head      int
}

// Predicted is what one worker was sent.
type Predicted struct {
	all   *Predictions
	until map[kv.Hash]int64 // nanoseconds since 1970
}

// prediction is a queued end of one; a later one of the same block overrules it.
type prediction struct {
	of    *Predicted
	hash  kv.Hash
	until int64
}

// NewPredictions makes predictions that hold for ttl, of at most maxBlocks
// blocks, those sent to several workers or again counted as often.
func NewPredictions(ttl time.Duration, maxBlocks int) *Predictions {
	return &Predictions{ttl: ttl, maxBlocks: maxBlocks}
}

// OfWorker is a place for what one worker is sent.
func (p *Predictions) OfWorker() *Predicted { return &Predicted{all: p, until: map[kv.Hash]int64{}} }

// Sent notes that the worker was sent a prompt. Time must not go back.
func (w *Predicted) Sent(hashes []kv.Hash, now time.Time) {
	p := w.all
	p.expire(now)
	hashes = hashes[:min(len(hashes), p.maxBlocks)]
	if len(hashes) == 0 {
		return
	}
	until := now.Add(p.ttl).UnixNano()
	// A popular prompt is not noted each time.
	if last := w.until[hashes[len(hashes)-1]]; last > until-int64(p.ttl)/8 {
		return
	}
	for len(p.queue)-p.head+len(hashes) > p.maxBlocks {
		p.end()
	}
	for i := len(hashes) - 1; i >= 0; i-- {
		w.until[hashes[i]] = until
		p.queue = append(p.queue, prediction{w, hashes[i], until})
	}
}

// Blocks is how many leading blocks of a prompt the worker is predicted to hold,
// if they are more than those that it is known to hold; else it is known. When
// they are not more, that takes one look.
func (w *Predicted) Blocks(hashes []kv.Hash, known int, now time.Time) int {
	at := now.UnixNano()
	if len(w.until) == 0 || known >= len(hashes) || w.until[hashes[known]] <= at {
		return known
	}
	from, to := known, len(hashes) // hashes[from] is held, hashes[to] is not
	for to-from > 1 {
		if mid := (from + to) / 2; w.until[hashes[mid]] > at {
			from = mid
		} else {
			to = mid
		}
	}
	return to
}

// expire ends what holds no more.
func (p *Predictions) expire(now time.Time) {
	for at := now.UnixNano(); p.head < len(p.queue) && p.queue[p.head].until <= at; {
		p.end()
	}
}

// end takes the oldest prediction off the queue, and out of the books unless a
// later one is about the same block.
func (p *Predictions) end() {
	e := p.queue[p.head]
	p.head++
	if e.of.until[e.hash] == e.until {
		delete(e.of.until, e.hash)
	}
	// Give the front of the slice back once it is half of it.
	if p.head > len(p.queue)/2 {
		p.queue = append([]prediction(nil), p.queue[p.head:]...)
		p.head = 0
	}
}
