package embedded

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
)

// Why a sequence ended.
const (
	finishStop   = "stop"
	finishLength = "length"
	finishAbort  = "abort" // the client left, or an error
)

// job is one HTTP request: a sequence for each choice, and the mailbox through
// which the scheduler hands over their tokens.
type job struct {
	mailbox
	seqs      []*sequence
	cancelled atomic.Bool // the client is gone; honoured at the next step
}

// sequence is one choice. After submission everything belongs to the scheduler's
// goroutine, save job.
type sequence struct {
	options
	job     *job
	index   int    // of the choice
	id      string // joins the router's Onboard with ours
	arrival uint64 // order of submission; the newest is preempted first
	tokens  []uint32
	prompt  int // tokens[:prompt] came with the request
	root    kv.Hash
	hashes  []kv.Hash // of tokens' full blocks
	restore int       // most leading blocks to bring up from lower tiers; <0: all

	pages      []page // hold the KV of tokens[:computed]
	bytes      [][]byte
	computed   int
	committed  int // leading pages that are committed blocks
	onboarding *kvbm.Onboarding
	state      state
	reason     string // why it finished

	sampler *sampler
	decoder *tokenizer.Decoder
	stopper stopper

	cached                        int // prompt tokens whose KV was found, not computed
	restored                      int // blocks that came from lower tiers for this request
	submitted, admitted, lastSeen time.Time
}

// state is where a sequence stands. restoring -> waiting <-> running -> finished,
// and any -> finished.
type state uint8

const (
	restoring state = iota // its blocks are on their way up
	waiting                // for pages and a place in the batch
	running
	finished
)

// item is what one step added to a choice.
type item struct {
	index      int
	text       string
	ids        []uint32
	logprobs   []logprobs // one for each id, if wanted
	finish     string     // "" while the choice goes on
	stopReason any        // the stop string or token id that ended it
	cached     int
	err        *apiError // the request failed
}

// mailbox passes items from the scheduler, which never waits, to one reader.
type mailbox struct {
	mu    sync.Mutex
	items []item
	ready chan struct{} // capacity 1
}

func (m *mailbox) put(it item) {
	m.mu.Lock()
	m.items = append(m.items, it)
	m.mu.Unlock()
	select {
	case m.ready <- struct{}{}:
	default:
	}
}

// take waits for items and appends all there are to dst.
func (m *mailbox) take(ctx context.Context, dst []item) ([]item, error) {
	for {
		m.mu.Lock()
		dst = append(dst, m.items...)
		clear(m.items)
		m.items = m.items[:0]
		m.mu.Unlock()
		if len(dst) > 0 {
			return dst, nil
		}
		select {
		case <-m.ready:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// block names the i-th full block.
func (q *sequence) block(i int) kv.Block {
	if i == 0 {
		return kv.Block{Hash: q.hashes[0], Parent: q.root}
	}
	return kv.Block{Hash: q.hashes[i], Parent: q.hashes[i-1]}
}

// generated is the number of tokens chosen so far.
func (q *sequence) generated() int { return len(q.tokens) - q.prompt }

// end marks q as over; reap does the rest.
func (q *sequence) end(reason string) {
	if q.state != finished {
		q.state, q.reason = finished, reason
	}
}

// accept adds the chosen token, tells the reader, and finishes the sequence when
// that token was its last.
func (q *sequence) accept(id uint32, logits []float32, isEOS bool) {
	it := item{index: q.index, ids: []uint32{id}, cached: q.cached}
	if q.wantLogprobs {
		it.logprobs = []logprobs{logprobsOf(logits, id, q.topLogprobs)}
	}
	q.tokens = append(q.tokens, id)
	if isEOS && !q.ignoreEOS {
		it.finish = finishStop
	} else if slices.Contains(q.stopIDs, id) {
		it.finish, it.stopReason = finishStop, id
	}
	matched := ""
	if it.finish == "" || q.includeStop {
		it.text, _ = q.decoder.Push(id)
		if q.generated() > q.minTokens {
			it.text, matched = q.stopper.push(it.text)
		}
	}
	switch {
	case matched != "":
		it.finish, it.stopReason = finishStop, matched
	case it.finish == "" && q.generated() >= q.maxTokens:
		it.finish = finishLength
	}
	if it.finish != "" && matched == "" {
		it.text += q.stopper.flush() + q.decoder.Flush()
	}
	if it.finish != "" {
		q.end(it.finish)
	}
	q.job.put(it)
}
