package sim

import (
	"fmt"
	"strconv"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trace"
	"github.com/kvasir-ai/kvasir/prefixindex"
)

// fleet is one run.
type fleet struct {
	o           *Options
	trace       *trace.Trace
	blockSize   int
	reportEvery instant

	agenda   agenda
	engines  []*engine
	there    []*engine // those that take requests
	gateways []*gateway
	index    *prefixindex.Index
	late     []lateEvent // block events that gateways have not seen yet, in order
	store    *pool       // the shared store
	writer   *engine     // whose event a shared store's change is
	books    books
	open     int
}

// lateEvent is a block event on its way to the gateways.
type lateEvent struct {
	due    instant
	worker kv.WorkerID
	event  kv.Event
}

// sharedStore is the name of the Redis that all workers share.
const sharedStore = "redis"

// Run replays the trace and says how it went.
func Run(t *trace.Trace, o Options) (*Result, error) {
	if err := t.Check(); err != nil {
		return nil, err
	}
	if err := o.check(t); err != nil {
		return nil, err
	}
	f := &fleet{o: &o, trace: t, blockSize: t.BlockSize, reportEvery: instant(o.ReportEvery)}
	f.index = prefixindex.New(prefixindex.Options{})
	f.build()
	for range o.Gateways {
		g, err := newGateway(f)
		if err != nil {
			return nil, err
		}
		f.gateways = append(f.gateways, g)
	}
	f.books.begin(f)
	if err := f.play(); err != nil {
		return nil, err
	}
	if err := f.settle(); err != nil {
		return nil, err
	}
	return f.books.result(f), nil
}

// build makes the engines and their tiers.
func (f *fleet) build() {
	o := f.o
	blockBytes := o.Timing.TokenBytes() * f.blockSize
	if o.Tiers.RedisBlocks > 0 {
		f.store = newPool(kv.Redis, o.Tiers.RedisBlocks, func(e kv.Event) { f.tell(f.writer, e) })
	}
	for i := range o.Workers {
		e := &engine{fleet: f, id: kv.WorkerID("w" + strconv.Itoa(i)), number: i, slower: o.slower(i)}
		tell := func(ev kv.Event) { f.tell(e, ev) }
		e.gpu = newPool(kv.GPU, o.blocks(f.trace), tell)
		if o.Tiers.any() {
			t := &lowerTiers{engine: e, bytes: blockBytes}
			for tier := range t.up {
				t.up[tier], t.down[tier] = link{Link: o.Tiers.Up[tier]}, link{Link: o.Tiers.Down[tier]}
			}
			t.pools[kv.CPU] = newPool(kv.CPU, o.Tiers.CPUBlocks, tell)
			if o.Tiers.DiskBlocks > 0 {
				t.pools[kv.Disk] = newPool(kv.Disk, o.Tiers.DiskBlocks, tell)
			}
			t.pools[kv.Redis] = f.store
			e.tiers = t
		}
		f.engines = append(f.engines, e)
		if !o.joinsLater(i) {
			f.join(e)
		}
	}
	for _, c := range o.Changes {
		f.agenda.add(event{at: instant(c.At), kind: change, what: c})
	}
}

func (f *fleet) join(e *engine) {
	f.there = append(f.there, e)
	f.index.AddWorker(e.id, sharedStore)
}

func (f *fleet) leave(e *engine) {
	f.index.RemoveWorker(e.id)
	for i := range f.there {
		if f.there[i] == e {
			f.there = append(f.there[:i:i], f.there[i+1:]...)
			return
		}
	}
}

// time is virtual time as the router has it.
func (f *fleet) time(t instant) time.Time { return time.Unix(0, int64(t)) }

// tell sends a block event on its way.
func (f *fleet) tell(e *engine, ev kv.Event) {
	if f.o.EventDelay == 0 {
		f.index.Apply(e.id, ev)
		return
	}
	ev.Hashes = append([]kv.Hash(nil), ev.Hashes...)
	f.late = append(f.late, lateEvent{f.now() + instant(f.o.EventDelay), e.id, ev})
}

func (f *fleet) now() instant { return f.books.now }

// hear applies the events that have reached the gateways.
func (f *fleet) hear(now instant) {
	n := 0
	for ; n < len(f.late) && f.late[n].due <= now; n++ {
		f.index.Apply(f.late[n].worker, f.late[n].event)
	}
	f.late = f.late[n:]
}

// play runs the trace to its end.
func (f *fleet) play() error {
	next := 0
	for {
		if next < len(f.trace.Requests) && (len(f.agenda.events) == 0 || instant(f.trace.Requests[next].At) <= f.agenda.events[0].at) {
			at := instant(f.trace.Requests[next].At)
			f.books.advance(f, at)
			f.arrive(next, at)
			next++
			continue
		}
		e, ok := f.agenda.next()
		if !ok {
			return nil
		}
		f.books.advance(f, e.at)
		f.happen(&e)
	}
}

func (f *fleet) happen(e *event) {
	switch e.kind {
	case stepEnd:
		if e.run == e.engine.run {
			e.engine.report(e.at)
			e.engine.end(e.at)
		}
	case restored:
		e.engine.report(e.at)
		f.writer = e.engine
		e.engine.tiers.arrived(e.what.(*request))
		e.engine.wake(e.at)
	case offloaded:
		e.engine.tiers.landed(e.what.(offload), e.at)
	case change:
		c := e.what.(Change)
		if c.Leaves {
			f.leave(f.engines[c.Worker])
		} else {
			f.join(f.engines[c.Worker])
		}
	}
}

// arrive takes the trace's i-th request to a gateway and from there to a worker.
func (f *fleet) arrive(i int, now instant) {
	f.hear(now)
	g := f.gateways[i%len(f.gateways)]
	r := &request{Request: &f.trace.Requests[i], id: strconv.Itoa(i), number: i, gateway: g, arrived: now}
	f.open++
	e := g.place(r, now)
	e.report(now)
	e.accept(r, now)
}

// finished closes a request's books.
func (f *fleet) finished(r *request, now instant) {
	f.open--
	r.gateway.done(r, now)
	f.books.close(r)
}

// settle proves the laws.
func (f *fleet) settle() error {
	if f.open != 0 {
		return fmt.Errorf("sim: law 6: %d requests never ended", f.open)
	}
	for i, g := range f.gateways {
		if n := g.ledger.Open(); n != 0 {
			return fmt.Errorf("sim: law 4: gateway %d still has %d requests in its books", i, n)
		}
	}
	for _, e := range f.engines {
		pools := []*pool{e.gpu}
		if e.tiers != nil {
			pools = append(pools, e.tiers.pools[kv.CPU], e.tiers.pools[kv.Disk], f.store)
		}
		for _, p := range pools {
			if p == nil {
				continue
			}
			c := p.Counts()
			if c.Leased+c.Filling+c.Evicting != 0 || c.Free+c.Committed != p.Capacity() {
				return fmt.Errorf("sim: law 1: %s of %s ends with %+v of %d", p.tier, e.id, c, p.Capacity())
			}
		}
		if e.kvTokens != 0 || e.queuedTokens != 0 || len(e.running)+len(e.waiting) != 0 {
			return fmt.Errorf("sim: %s ends with %d tokens in use, %d to compute", e.id, e.kvTokens, e.queuedTokens)
		}
	}
	return nil
}
