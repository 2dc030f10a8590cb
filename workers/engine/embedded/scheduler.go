package embedded

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/engine/embedded/llama"
)

// scheduler decides what each step of the model computes: continuous batching
// with chunked prefill over the block manager's pages.
//
// One goroutine (run) owns all sequences and everything below the line. Others
// reach it only through do, and it never waits for them: not for a slow reader
// (mailboxes grow), not for a restore (the sequence waits, not the step).
type scheduler struct {
	pool           *kvbm.Pool
	manager        *kvbm.Manager
	runner         *llama.Runner
	announcer      *announcer
	metrics        *metrics
	log            *slog.Logger
	blockSize      int
	chunk          int // most prefill tokens a step
	maxSeqs        int
	maxQueue       int
	restoreTimeout time.Duration
	eos            []uint32

	ctx    context.Context // ends with the scheduler
	wakeup chan struct{}   // capacity 1
	mu     sync.Mutex      // guards inbox, queued, closed
	inbox  []func()
	queued int // submitted and not yet in the batch
	closed bool

	// Only run's goroutine, from here.

	waiters   sync.WaitGroup // goroutines that wait for a restore
	arrivals  uint64
	restoring []*sequence
	waiting   []*sequence // by arrival; preempted ones came early, so they go first
	running   []*sequence // by arrival
	refused   refusal
	scratch   scratch
	batch     []work
	input     []llama.Sequence
}

// work is one sequence's part of a step.
type work struct {
	q *sequence
	n int // tokens from q.computed on
}

// refusal is the last admission that failed: which sequence, and how many pages
// there were to have.
type refusal struct {
	q         *sequence
	available int
}

// retryPause is how long a step that found no page waits: a transfer or an
// onboarding hold has them, and their end is not announced.
const retryPause = 2 * time.Millisecond

// do runs f in the scheduler's goroutine, before its next step.
func (s *scheduler) do(f func()) {
	s.mu.Lock()
	s.inbox = append(s.inbox, f)
	s.mu.Unlock()
	s.wake()
}

func (s *scheduler) wake() {
	select {
	case s.wakeup <- struct{}{}:
	default:
	}
}

// submit takes a job on, or says why not.
func (s *scheduler) submit(j *job) *apiError {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errBusy("shutting_down", "the engine is shutting down")
	}
	if s.queued+len(j.seqs) > s.maxQueue && s.queued > 0 {
		return errBusy("queue_full", "too many requests are waiting")
	}
	s.queued += len(j.seqs)
	s.inbox = append(s.inbox, func() {
		for _, q := range j.seqs {
			s.arrivals++
			q.arrival = s.arrivals
			s.intake(q)
		}
	})
	s.wake()
	return nil
}

// drain refuses new jobs; those taken on go on.
func (s *scheduler) drain() {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
}

// cancel ends a job at the next step. Its pages are free then.
func (s *scheduler) cancel(j *job) {
	j.cancelled.Store(true)
	s.wake()
}

// run steps until the scheduler's context ends, then fails what is left.
func (s *scheduler) run() {
	retry := time.NewTimer(0)
	defer retry.Stop()
	for s.ctx.Err() == nil {
		s.mu.Lock()
		inbox := s.inbox
		s.inbox = nil
		s.mu.Unlock()
		for _, f := range inbox {
			f()
		}
		s.reap()
		s.plan()
		if len(s.batch) > 0 {
			s.step()
		}
		s.announcer.flush()
		s.observe()
		if len(s.batch) > 0 {
			continue
		}
		var stalled <-chan time.Time
		if len(s.waiting)+len(s.running) > 0 {
			retry.Reset(retryPause)
			stalled = retry.C
		}
		select {
		case <-s.wakeup:
		case <-stalled:
		case <-s.ctx.Done():
		}
	}
	s.shutdown()
}

func (s *scheduler) shutdown() {
	s.mu.Lock()
	s.closed = true
	inbox := s.inbox
	s.inbox = nil
	s.mu.Unlock()
	for _, f := range inbox {
		f()
	}
	for _, list := range [][]*sequence{s.restoring, s.waiting, s.running} {
		for _, q := range list {
			s.fail(q, errBusy("shutting_down", "the engine is shutting down"))
		}
	}
	s.reap()
	s.announcer.flush()
	s.waiters.Wait()
}

// fail ends a sequence, and with it its request, with an error.
func (s *scheduler) fail(q *sequence, e *apiError) {
	if q.state != finished {
		q.job.put(item{index: q.index, err: e})
		q.end(finishAbort)
	}
}

// reap lets go of what has finished and of what nobody waits for any more.
func (s *scheduler) reap() {
	for _, list := range []*[]*sequence{&s.restoring, &s.waiting, &s.running} {
		*list = slices.DeleteFunc(*list, func(q *sequence) bool {
			if q.state != finished && !q.job.cancelled.Load() {
				return false
			}
			if q.state == restoring || q.state == waiting {
				s.dequeued()
			}
			q.end(finishAbort)
			s.dropHold(q)
			s.releasePages(q)
			s.announcer.forget(q)
			s.metrics.finished(q)
			return true
		})
	}
}

func (s *scheduler) dequeued() {
	s.mu.Lock()
	s.queued--
	s.mu.Unlock()
}

// enqueue puts q among the waiting, by arrival.
func (s *scheduler) enqueue(q *sequence) {
	q.state = waiting
	at, _ := slices.BinarySearchFunc(s.waiting, q.arrival, byArrival)
	s.waiting = slices.Insert(s.waiting, at, q)
}

func byArrival(q *sequence, arrival uint64) int {
	if q.arrival < arrival {
		return -1
	}
	return 1
}

// plan fills s.batch: every decode, and prefill up to the chunk, oldest first.
func (s *scheduler) plan() {
	s.batch = s.batch[:0]
	budget := s.chunk
	for i := 0; i < len(s.running); i++ { // preemption may shorten it as we go
		s.schedule(s.running[i], &budget)
	}
	for budget > 0 && len(s.waiting) > 0 && len(s.running) < s.maxSeqs {
		q := s.waiting[0]
		if !s.admit(q) {
			break
		}
		s.schedule(q, &budget)
	}
}

// schedule adds q's next tokens to the batch, if it can have pages for them.
func (s *scheduler) schedule(q *sequence, budget *int) {
	n := len(q.tokens) - q.computed
	prefill := n > 1
	if prefill {
		n = min(n, *budget)
	}
	if n == 0 || !s.grow(q, q.computed+n) {
		return
	}
	if prefill {
		*budget -= n
	}
	s.batch = append(s.batch, work{q, n})
}

// grow makes room for the first n tokens of q. When pages run out, first the
// waiting give up the restored blocks they hold, then the newest in the batch
// gives up its place: it computes again later and loses nothing else. False: q
// itself had to, or nobody has anything to give.
func (s *scheduler) grow(q *sequence, n int) bool {
	for !s.reserve(q, n) {
		if s.dropHolds() {
			continue
		}
		newest := s.running[len(s.running)-1]
		if len(s.running) == 1 {
			return false
		}
		s.preempt(newest)
		if newest == q {
			return false
		}
	}
	return true
}

func (s *scheduler) preempt(q *sequence) {
	s.releasePages(q)
	s.batch = slices.DeleteFunc(s.batch, func(w work) bool { return w.q == q })
	s.running = s.running[:len(s.running)-1]
	s.mu.Lock()
	s.queued++
	s.mu.Unlock()
	s.enqueue(q)
	s.metrics.preemptions.Inc()
}

// admit moves the oldest waiting sequence into the batch if all its tokens, and
// those promised to the others there, have pages.
func (s *scheduler) admit(q *sequence) bool {
	before := refusal{q, s.pool.Available()}
	if len(s.running) > 0 && s.refused.q == q && before.available <= s.refused.available {
		return false // as last time; looking again would count its blocks as used again
	}
	s.reuse(q)
	need := s.pagesFor(len(q.tokens)+1) - len(q.pages)
	for _, r := range s.running {
		need += max(0, s.pagesFor(len(r.tokens)+1)-len(r.pages))
	}
	for s.pool.Available() < need {
		if len(s.running) > 0 || !s.dropHolds() {
			s.releasePages(q)
			s.refused = before
			return false
		}
	}
	s.refused = refusal{}
	s.waiting = s.waiting[1:]
	s.dequeued()
	q.state = running
	at, _ := slices.BinarySearchFunc(s.running, q.arrival, byArrival)
	s.running = slices.Insert(s.running, at, q)
	if q.admitted.IsZero() {
		q.admitted = time.Now()
		q.cached = q.computed
		s.metrics.admitted(q, s.blockSize)
	}
	s.dropHold(q)
	return true
}

// step computes the batch and hands out what it chose.
func (s *scheduler) step() {
	s.input = s.input[:0]
	for _, w := range s.batch {
		end := w.q.computed + w.n
		s.input = append(s.input, llama.Sequence{
			Tokens: w.q.tokens[w.q.computed:end],
			Start:  w.q.computed,
			Pages:  w.q.bytes[:s.pagesFor(end)],
			Logits: end == len(w.q.tokens),
		})
	}
	logits, err := s.runner.Step(s.ctx, s.input)
	clear(s.input)
	if err != nil {
		if s.ctx.Err() == nil {
			s.log.Error("a step of the model failed", "sequences", len(s.batch), "error", err)
			for _, w := range s.batch {
				s.fail(w.q, errInternal(err))
			}
		}
		return
	}
	tokens := 0
	for i, w := range s.batch {
		tokens += w.n
		w.q.computed += w.n
		s.commit(w.q)
		if logits[i] != nil {
			s.choose(w.q, logits[i])
		}
	}
	s.metrics.iteration.Observe(float64(tokens))
}

// observe shows the queues as the step left them.
func (s *scheduler) observe() {
	s.metrics.running.Set(float64(len(s.running)))
	s.metrics.waiting.Set(float64(len(s.waiting) + len(s.restoring)))
	prefill := 0
	for _, list := range [][]*sequence{s.restoring, s.waiting, s.running} {
		for _, q := range list {
			if n := len(q.tokens) - q.computed; n > 1 {
				prefill += n
			}
		}
	}
	s.metrics.queuedPrefill.Set(float64(prefill))
}

// choose picks q's next token.
func (s *scheduler) choose(q *sequence, logits []float32) {
	var banned []uint32
	if q.generated() < q.minTokens {
		banned = q.stopIDs
		if !q.ignoreEOS {
			banned = append(slices.Clone(banned), s.eos...)
		}
	}
	id := q.sampler.sample(logits, banned, &s.scratch)
	s.metrics.token(q) // before the client can know of it
	q.accept(id, logits, slices.Contains(s.eos, id))
}

// reset empties the pool for good measure (POST /reset_prefix_cache). False:
// something still uses it.
func (s *scheduler) reset() bool {
	s.announcer.flush()
	n := s.pool.Capacity()
	pages, err := s.pool.Reserve(n)
	if err != nil {
		return false
	}
	for _, p := range pages {
		p.Abort()
	}
	s.announcer.cleared()
	s.announcer.flush()
	return true
}
