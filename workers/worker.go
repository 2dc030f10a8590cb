package workers

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/events"
)

// Worker is one member of the fleet. Its methods may be called from any
// goroutine, also after it has left.
type Worker struct {
	id     kv.WorkerID
	c      *FleetConfig
	fleet  *Fleet // whose other workers it is compared with
	log    *slog.Logger
	engine Engine
	joined time.Time

	agent  atomic.Pointer[agentClient]   // nil: none
	reader atomic.Pointer[events.Reader] // of the engine's own events, when there is no agent

	info      atomic.Pointer[Info] // completed as more is learned, under completing
	stats     atomic.Pointer[Stats]
	healthy   atomic.Bool
	described atomic.Bool
	primed    atomic.Bool // its blocks were known once
	left      atomic.Bool
	lives     atomic.Uint64 // times that the engine became healthy
	silent    atomic.Bool
	ejected   atomic.Int64 // until when, in Unix nanoseconds; 0: not
	trial     atomic.Int64 // when the request that tries an ejected worker was sent
	counters  counters

	completing sync.Mutex

	kick chan struct{} // capacity 1: probe now

	mu       sync.Mutex
	failures int // in a row, reported by dispatchers
	conduct  conduct
	epoch    uint64 // grows with each verdict "not healthy": older probes do not overrule it
	since    time.Time

	// Of the goroutine that follows the worker's blocks.
	added bool // the Sink knows the worker, with this shared store
	store string

	silence silence // of the goroutine that reports stats
}

// counters of one worker's events; read by the metrics.
type counters struct {
	events    atomic.Uint64 // applied to the Sink
	blocks    atomic.Uint64 // named by those events
	resyncs   atomic.Uint64 // snapshots taken, after the first
	breaks    atomic.Uint64 // streams broken
	lastEvent atomic.Int64  // Unix nanoseconds; 0: never
	connected atomic.Bool   // the agent's stream stands
	failures  atomic.Uint64 // reported by dispatchers
	ejections atomic.Uint64
	lost      atomic.Uint64 // events that the agent could not use
}

func newWorker(c *FleetConfig, info Info) *Worker {
	w := &Worker{
		id:     info.ID,
		c:      c,
		log:    c.Log.With("worker", info.ID),
		engine: NewEngine(c.HTTP, info),
		kick:   make(chan struct{}, 1),
		joined: c.Now(),
		since:  c.Now(),
	}
	w.info.Store(&info)
	w.stats.Store(&Stats{KVUsage: -1, QueuedPrefillTokens: -1})
	return w
}

// ID is the worker's id.
func (w *Worker) ID() kv.WorkerID { return w.id }

// Info is what is known of the worker: discovery's entry, completed by what its
// agent and engine say.
func (w *Worker) Info() Info { return *w.info.Load() }

// Known is Info without the copy: it is shared, and only to read.
func (w *Worker) Known() *Info { return w.info.Load() }

// Stats is the latest report.
func (w *Worker) Stats() Stats { return *w.stats.Load() }

// Report is Stats without the copy: it is shared, and only to read. The next
// report is another one.
func (w *Worker) Report() *Stats { return w.stats.Load() }

// primeTimeout is how long a worker may serve nothing because its blocks are not
// known yet; routing to it blindly is better than not at all.
const primeTimeout = 3 * time.Second

// Ready reports whether requests may be sent: the engine answers, what it
// serves is known, and so is what it holds.
func (w *Worker) Ready() bool {
	out, _ := w.out()
	return w.healthy.Load() && w.described.Load() && !w.left.Load() && w.isPrimed() && !out
}

// isPrimed reports whether the worker's blocks have been known once, or were
// waited for long enough.
func (w *Worker) isPrimed() bool {
	if !w.primed.Load() && (w.EventsConnected() && w.reader.Load() != nil || w.c.Now().Sub(w.joined) > primeTimeout) {
		w.primed.Store(true)
	}
	return w.primed.Load()
}

// State is "starting", "ready", "unhealthy", "ejected", "half-open" or "left".
func (w *Worker) State() string {
	out, halfOpen := w.out()
	switch {
	case w.left.Load():
		return "left"
	case !w.described.Load() || !w.isPrimed():
		return "starting"
	case !w.healthy.Load():
		return "unhealthy"
	case halfOpen:
		return "half-open"
	case out:
		return "ejected"
	}
	return "ready"
}

// EventsConnected reports whether the worker's event stream stands.
func (w *Worker) EventsConnected() bool {
	if r := w.reader.Load(); r != nil {
		return r.Stats().Connected
	}
	return w.counters.connected.Load()
}

// Life counts how often the engine came, or came back. What was found out about
// an engine in an earlier life may not be true of this one.
func (w *Worker) Life() uint64 { return w.lives.Load() }

// Silent reports whether the worker computes prompts but sends no events, so
// that what the index says of it is not to be believed.
func (w *Worker) Silent() bool { return w.silent.Load() }

// Blind reports whether nothing is known of what the worker holds: it tells
// nothing of its blocks, or has not yet.
func (w *Worker) Blind() bool { return w.counters.events.Load() == 0 || w.silent.Load() }

// run is the worker's life in the fleet.
func (w *Worker) run(ctx context.Context) {
	if target := w.Info().Agent; target != "" {
		a, err := dialAgent(target, w.c.AgentTLS)
		if err != nil {
			w.log.Error("the agent's address is unusable; the worker runs without it", "agent", target, "error", err)
		} else {
			w.agent.Store(a)
			defer a.close()
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { w.watchHealth(ctx) })
	wg.Go(func() { w.watchBlocks(ctx) })
	wg.Go(func() { w.watchStats(ctx) })
	wg.Go(func() { w.learnShare(ctx) })
	wg.Wait()
	w.left.Store(true)
	if w.added {
		w.c.Sink.RemoveWorker(w.id)
	}
}

// complete adds to Info what discovery did not say, and what also does besides.
func (w *Worker) complete(d Info, also func(*Info)) Info {
	w.completing.Lock()
	defer w.completing.Unlock()
	info := w.Info()
	also(&info)
	fill := func(to *string, from string) {
		if *to == "" {
			*to = from
		}
	}
	fill(&info.Model, d.Model)
	fill(&info.Engine, d.Engine)
	fill(&info.Tokenizer, d.Tokenizer)
	fill(&info.Connector, d.Connector)
	fill(&info.Bootstrap, d.Bootstrap)
	if info.BlockSize == 0 {
		info.BlockSize = d.BlockSize
	}
	if info.Role == kv.Aggregated {
		info.Role = d.Role
	}
	w.info.Store(&info)
	return info
}

// learn completes Info and announces the worker to the Sink.
func (w *Worker) learn(d Info, store string) error {
	if w.Info().Model == "" && d.Model == "" {
		return errors.New("neither discovery nor the worker says which model it serves")
	}
	info := w.complete(d, func(i *Info) { i.Peer = d.Peer }) // an agent that was restarted may lend elsewhere, or no more
	if !w.knows(store) {
		if w.added {
			w.c.Sink.RemoveWorker(w.id)
		}
		w.c.Sink.AddWorker(w.id, store)
		w.added, w.store = true, store
	}
	if !w.described.Swap(true) {
		w.log.Info("worker described", "model", info.Model, "engine", info.Engine, "block_size", info.BlockSize,
			"role", info.Role, "agent", info.Agent != "", "shared_store", store != "")
		if info.BlockSize == 0 {
			w.log.Warn("the engine's metrics do not tell its block size, so its blocks cannot be matched: set workers[].block_size, or start it without --disable-log-stats")
		}
	}
	return nil
}

// knows reports whether the Sink has the worker with this shared store.
func (w *Worker) knows(store string) bool { return w.added && w.store == store }

// apply hands events to the Sink.
func (w *Worker) apply(events []kv.Event) {
	for _, e := range events {
		w.c.Sink.Apply(w.id, e)
		w.counters.blocks.Add(uint64(len(e.Hashes)))
	}
	w.counters.events.Add(uint64(len(events)))
	w.counters.lastEvent.Store(w.c.Now().UnixNano())
}

// clear forgets what the worker holds in its own tiers. Blocks in a shared store
// are not its alone.
func (w *Worker) clear() {
	for t := range kv.NumMarks {
		if t != kv.Redis {
			w.c.Sink.Apply(w.id, kv.Event{Kind: kv.Cleared, Tier: t})
		}
	}
}
