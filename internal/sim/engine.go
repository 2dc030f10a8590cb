package sim

import (
	"cmp"
	"container/heap"
	"slices"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/router"
)

// engine is one worker. It schedules as vLLM does: each step gives every running
// request a token, and what is left of the step's budget of tokens goes to
// prompts in order of arrival, in chunks. When the KV cache is full the youngest
// request is preempted, and computed again later.
type engine struct {
	fleet  *fleet
	id     kv.WorkerID
	number int
	slower float64 // factor on every step
	gpu    *pool
	tiers  *lowerTiers // nil: none

	waiting  []*request // to be admitted, first come first
	running  []*request // admitted, in that order
	decoding int        // of the running
	due      dueHeap    // decoding requests by the step in which something is due
	kvTokens int        // of the running

	step      int  // steps done
	run       int  // counts runs; the one under way, if any, ends at an event
	busy      bool // a run is under way
	plain     bool // it is one of decodes only, and may be cut short
	began     instant
	steps     int     // of the run
	chunks    []chunk // of the run
	chunkInfo []Chunk

	queuedTokens int // to be computed before a first token
	fresh        []kv.Block

	reported router.Report
	busyTime instant
	workMS   float64 // of prompts
	routed   int
	preempts int
}

type chunk struct {
	r      *request
	tokens int
}

// due is a decoding request and the step before which it must be looked at: to
// end, or to get another KV slot.
type due struct {
	step  int
	r     *request
	epoch int
}

type dueHeap []due

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	return cmp.Or(cmp.Compare(h[i].step, h[j].step), cmp.Compare(h[i].r.number, h[j].r.number)) < 0
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *dueHeap) Push(x any)   { *h = append(*h, x.(due)) }
func (h *dueHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

// accept queues a request that a gateway sent.
func (e *engine) accept(r *request, now instant) {
	r.engine, r.target = e, r.Input
	e.routed++
	e.queuedTokens += r.target
	e.waiting = append(e.waiting, r)
	if e.tiers != nil {
		e.tiers.onboard(r, now)
	}
	e.wake(now)
}

// wake makes the engine look at its queue at the end of the step under way.
func (e *engine) wake(now instant) {
	switch {
	case !e.busy:
		e.begin(now)
	case e.plain:
		// Walk the run again, up to the end of the step that is under way now.
		e.plain = false
		at, kvTokens, steps := e.began, e.kvTokens, 0
		for at < now || steps == 0 {
			at += e.stepTime(kvTokens, nil)
			kvTokens += e.decoding
			steps++
		}
		if steps < e.steps {
			e.steps = steps
			e.run++
			e.fleet.agenda.add(event{at: at, kind: stepEnd, engine: e, run: e.run})
		}
	}
}

func (e *engine) stepTime(kvTokens int, prefills []Chunk) instant {
	s := Step{Decodes: e.decoding, KVTokens: kvTokens, Capacity: e.gpu.Capacity() * e.fleet.blockSize, Prefills: prefills}
	return max(1, instant(e.fleet.o.Timing.StepMS(&s)*e.slower*float64(millisecond)))
}

// begin starts a run: one step with prompts, or as many steps of decodes as pass
// until one of them needs attention.
func (e *engine) begin(now instant) {
	e.makeRoom()
	e.schedule()
	e.gpu.flush()
	if len(e.running) == 0 {
		return
	}
	e.busy, e.began, e.steps = true, now, 1
	e.run++
	at := now
	if e.plain = len(e.chunks) == 0; !e.plain {
		at += e.stepTime(e.kvTokens, e.chunkInfo)
		e.workMS += (at - now).ms()
	} else {
		kvTokens := e.kvTokens
		at += e.stepTime(kvTokens, nil)
		for ; e.step+e.steps < e.due[0].step; e.steps++ {
			kvTokens += e.decoding
			at += e.stepTime(kvTokens, nil)
		}
	}
	e.fleet.agenda.add(event{at: at, kind: stepEnd, engine: e, run: e.run})
}

// end closes the run and begins the next one.
func (e *engine) end(now instant) {
	e.busy = false
	e.busyTime += now - e.began
	e.step += e.steps
	e.kvTokens += e.steps * e.decoding
	for len(e.due) > 0 && e.due[0].step <= e.step {
		d := heap.Pop(&e.due).(due)
		if d.epoch == d.r.epoch && d.r.generatedBy(e.step) >= d.r.Output {
			e.finish(d.r, now)
		} // else its slots are full: makeRoom sees to that
	}
	for _, c := range e.chunks {
		if c.r.computed += c.tokens; c.r.computed == c.r.target {
			e.firstToken(c.r, now)
		}
	}
	e.chunks = e.chunks[:0]
	if e.tiers != nil {
		e.tiers.offload(e.fresh, now)
	}
	e.fresh = e.fresh[:0]
	e.begin(now)
}

// generatedBy is how many tokens of the answer there are after that many steps.
func (r *request) generatedBy(step int) int {
	if !r.decoding {
		return r.generated
	}
	return r.generated + step - r.joined
}

// firstToken moves a request whose prompt is computed to the decoding ones.
func (e *engine) firstToken(r *request, now instant) {
	r.generated++
	if r.generated == 1 {
		r.firstToken = now
		r.gateway.firstToken(r, now)
	}
	r.decoding, r.joined = true, e.step
	e.decoding++
	if r.generated >= r.Output {
		e.finish(r, now)
	} else if r.computed < len(r.slots)*e.fleet.blockSize { // else makeRoom does it
		e.watch(r)
	}
}

// watch notes when r needs attention next: when it ends, or when its KV slots
// are full.
func (e *engine) watch(r *request) {
	ends := r.joined + r.Output - r.generated
	full := r.joined + len(r.slots)*e.fleet.blockSize - r.computed
	heap.Push(&e.due, due{min(ends, full), r, r.epoch})
}

// makeRoom gives every decoding request whose slots are full another one, and
// preempts the youngest requests until that works.
func (e *engine) makeRoom() {
	for i := 0; i < len(e.running); i++ {
		r := e.running[i]
		if !r.decoding {
			continue
		}
		length := r.computed + e.step - r.joined
		if length < len(r.slots)*e.fleet.blockSize {
			continue
		}
		e.keepOwn(r, len(r.slots)-1)
		for {
			if s, ok := e.gpu.take(); ok {
				r.slots = append(r.slots, held{slot: s})
				e.watch(r)
				break
			}
			youngest := e.running[len(e.running)-1]
			e.preempt(youngest)
			if youngest == r {
				break
			}
		}
	}
}

// keepOwn makes a full block of the request's own findable.
func (e *engine) keepOwn(r *request, i int) {
	if h := &r.slots[i]; !h.shared {
		b := r.block(i, e.fleet.blockSize)
		if e.gpu.keep(h.slot, b) {
			h.shared = true
			e.fresh = append(e.fresh, b)
		}
	}
}

// release gives back the KV slots of a request, its last blocks to be evicted
// first.
func (e *engine) release(r *request) {
	for i := len(r.slots) - 1; i >= 0; i-- {
		if h := r.slots[i]; h.shared {
			e.gpu.Touch(h.slot)
			e.gpu.Unlease(h.slot)
		} else {
			e.gpu.drop(h.slot)
		}
	}
	r.slots = r.slots[:0]
}

func (e *engine) finish(r *request, now instant) {
	length := r.computed + e.step - r.joined
	for i := range r.slots {
		if (i+1)*e.fleet.blockSize <= length {
			e.keepOwn(r, i)
		}
	}
	e.kvTokens -= length
	e.leave(r)
	r.generated, r.ended = r.Output, now
	e.fleet.finished(r, now)
}

// leave takes r out of the batch.
func (e *engine) leave(r *request) {
	e.release(r)
	if r.decoding {
		e.decoding--
		r.decoding = false
	}
	i := slices.Index(e.running, r)
	e.running = slices.Delete(e.running, i, i+1)
	r.epoch++
}

// preempt puts r back to the head of the queue, to be computed again with what it
// has generated.
func (e *engine) preempt(r *request) {
	e.preempts++
	if r.decoding {
		e.kvTokens -= r.computed + e.step - r.joined
		r.generated = r.generatedBy(e.step)
	} else {
		e.kvTokens -= r.computed
		e.queuedTokens -= r.target - r.computed
		e.chunks = slices.DeleteFunc(e.chunks, func(c chunk) bool { return c.r == r })
	}
	e.leave(r)
	r.computed, r.target = 0, r.Input+r.generated
	e.queuedTokens += r.target
	e.waiting = slices.Insert(e.waiting, 0, r)
}

// schedule fills the step's budget of tokens with chunks of prompts.
func (e *engine) schedule() {
	e.chunks, e.chunkInfo = e.chunks[:0], e.chunkInfo[:0]
	budget := e.fleet.o.ChunkTokens - e.decoding
	preempts := e.preempts
	for i := 0; i < len(e.running) && budget > 0; i++ {
		if r := e.running[i]; !r.decoding {
			budget -= e.advance(r, budget)
		}
	}
	for i := 0; i < len(e.waiting) && budget > 0 && len(e.running) < e.fleet.o.MaxBatch && e.preempts == preempts; {
		r := e.waiting[i]
		if r.restore != nil && !r.restore.done {
			i++
			continue
		}
		if !e.admit(r, budget) {
			break
		}
		e.waiting = slices.Delete(e.waiting, i, i+1)
		budget -= e.advance(r, budget)
	}
	for _, c := range e.chunks {
		end := c.r.computed + c.tokens
		e.kvTokens += c.tokens
		e.queuedTokens -= c.tokens
		e.chunkInfo = append(e.chunkInfo, Chunk{Tokens: c.tokens, Context: end, Last: end == c.r.target})
	}
}

// advance gives r a chunk of at most budget tokens.
func (e *engine) advance(r *request, budget int) int {
	n := min(budget, r.target-r.computed)
	size := e.fleet.blockSize
	for len(r.slots)*size < r.computed+n {
		s, ok := e.gpu.take()
		if !ok {
			youngest := e.running[len(e.running)-1]
			e.preempt(youngest)
			if youngest == r {
				return 0
			}
			continue
		}
		r.slots = append(r.slots, held{slot: s})
	}
	for i := r.computed / size; (i+1)*size <= r.computed+n; i++ {
		e.keepOwn(r, i)
	}
	e.chunks = append(e.chunks, chunk{r, n})
	return n
}

// admit takes r into the batch with the blocks that it finds in the KV cache and
// those restored for it; false when its first chunk has no room.
func (e *engine) admit(r *request, budget int) bool {
	size := e.fleet.blockSize
	most := (r.target - 1) / size
	found, fetched, idle := 0, 0, 0
	for i := range most {
		if s, ok := e.gpu.Find(r.hash(i, size)); ok && fetched == 0 {
			if found++; e.gpu.Leases(s) == 0 {
				idle++
			}
		} else if r.restore.has(i) {
			fetched++
		} else {
			break
		}
	}
	n := min(budget, r.target-(found+fetched)*size)
	room := ((found+fetched)*size + n + size - 1) / size
	if e.gpu.Available()-idle < room-found {
		return false
	}
	first := r.epoch == 0
	for i := range found + fetched {
		h := r.hash(i, size)
		tier := kv.GPU
		s, ok := e.gpu.Find(h)
		if ok {
			e.gpu.Lease(s)
			r.slots = append(r.slots, held{s, true})
		} else {
			s, _ = e.gpu.take()
			r.slots = append(r.slots, held{slot: s})
			e.gpu.keep(s, r.block(i, size))
			r.slots[i].shared = true
			tier = r.restore.from(i)
		}
		if first {
			r.cached[tier] += size
		}
	}
	r.computed = (found + fetched) * size
	e.queuedTokens -= r.computed
	e.kvTokens += r.computed
	e.running = append(e.running, r)
	if r.restore != nil {
		r.restore.release(e)
		r.restore = nil
	}
	return true
}

// report is the latest load report as of now: its state does not change between
// the calls, which come before every change.
func (e *engine) report(now instant) *router.Report {
	at := now - now%e.fleet.reportEvery
	if t := e.fleet.time(at); at > 0 && t.After(e.reported.At) {
		e.reported = router.Report{At: t, Running: len(e.running), Waiting: len(e.waiting),
			KVUsage: e.gpu.usage(), QueuedPrefillTokens: e.queuedTokens}
	}
	return &e.reported
}
