package workers

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// FleetConfig says where workers come from and where their events go.
type FleetConfig struct {
	Sources []Source
	Sink    Sink
	Log     *slog.Logger
	// HTTP is used for health, description and metrics of engines.
	HTTP *http.Client
	// AgentTLS is how agents are reached over TCP; nil: in plain text.
	AgentTLS *tls.Config
	Now      func() time.Time
	// Registerer takes the fleet's metrics; nil: none.
	Registerer prometheus.Registerer

	HealthInterval time.Duration // between probes of a healthy engine (default 2 s)
	HealthTimeout  time.Duration // of one probe (default 2 s)
	StatsInterval  time.Duration // between reports of load (default 500 ms)
	// Grace keeps a worker that vanished from discovery but answers /health
	// (default 30 s).
	Grace time.Duration
	// StaleAfter is how long a worker's blocks are believed after its agent's
	// stream broke (default 10 s).
	StaleAfter time.Duration
	// SilentAfter raises the alarm for a worker that computes prompts but sends
	// no events (default 30 s).
	SilentAfter time.Duration
	// EjectShare is how much of a model's workers may be ejected as outliers at a
	// time (default 0.5; negative: none).
	EjectShare float64
	// Backoff bounds the pause between attempts (default 100 ms to 5 s).
	BackoffMin, BackoffMax time.Duration
}

func (c *FleetConfig) setDefaults() {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&c.HealthInterval, 2*time.Second)
	def(&c.HealthTimeout, 2*time.Second)
	def(&c.StatsInterval, 500*time.Millisecond)
	def(&c.Grace, 30*time.Second)
	def(&c.StaleAfter, 10*time.Second)
	def(&c.SilentAfter, 30*time.Second)
	def(&c.BackoffMin, 100*time.Millisecond)
	def(&c.BackoffMax, 5*time.Second)
	if c.EjectShare == 0 {
		c.EjectShare = 0.5
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.HTTP == nil {
		c.HTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 4, IdleConnTimeout: 30 * time.Second}}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
}

// Fleet is the set of workers. Its methods may be called from any goroutine.
type Fleet struct {
	c       FleetConfig
	view    atomic.Pointer[[]*Worker]
	changed chan struct{} // capacity 1: lists differ from workers

	judging sync.Mutex // one worker is judged at a time, so that few enough are ejected

	mu    sync.Mutex
	lists [][]Info // of each source, the latest; nil: none yet
}

// NewFleet returns a fleet that Run fills.
func NewFleet(c FleetConfig) *Fleet {
	c.setDefaults()
	f := &Fleet{c: c, changed: make(chan struct{}, 1), lists: make([][]Info, len(c.Sources))}
	f.view.Store(&[]*Worker{})
	if c.Registerer != nil {
		c.Registerer.MustRegister(collector{f})
	}
	return f
}

// Workers are those in the fleet now, by id. The slice is shared: read only.
func (f *Fleet) Workers() []*Worker { return *f.view.Load() }

// Worker finds one by its id; nil: not in the fleet.
func (f *Fleet) Worker(id kv.WorkerID) *Worker {
	ws := f.Workers()
	i, found := slices.BinarySearchFunc(ws, id, func(w *Worker, id kv.WorkerID) int {
		return strings.Compare(string(w.id), string(id))
	})
	if !found {
		return nil
	}
	return ws[i]
}

// Run keeps the fleet until ctx ends, then lets every worker go and returns.
func (f *Fleet) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	for i, s := range f.c.Sources {
		wg.Go(func() { f.follow(ctx, i, s) })
	}
	members := map[kv.WorkerID]*member{}
	// The tick ends grace times; everything else arrives through changed.
	tick := time.NewTicker(max(f.c.Grace/10, 10*time.Millisecond))
	defer tick.Stop()
	for ctx.Err() == nil {
		f.reconcile(ctx, members)
		select {
		case <-ctx.Done():
		case <-f.changed:
		case <-tick.C:
		}
	}
	wg.Wait()
	for id, m := range members {
		f.retire(id, m, members)
	}
	f.publish(members)
	return ctx.Err()
}

// follow runs one source for as long as the fleet runs.
func (f *Fleet) follow(ctx context.Context, i int, s Source) {
	pause := retry{min: f.c.BackoffMin, max: f.c.BackoffMax}
	for ctx.Err() == nil {
		err := s.Run(ctx, func(list []Info) {
			pause.reset()
			list = f.usable(list)
			f.mu.Lock()
			f.lists[i] = list
			f.mu.Unlock()
			select {
			case f.changed <- struct{}{}:
			default:
			}
		})
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			f.c.Log.Error("a source of workers failed; the fleet stays as it is", "error", err)
		}
		pause.wait(ctx)
	}
}

// usable is the entries of a list that make sense.
func (f *Fleet) usable(list []Info) []Info {
	return slices.DeleteFunc(slices.Clone(list), func(info Info) bool {
		err := info.Validate()
		if err != nil {
			f.c.Log.Error("an entry of discovery is unusable", "error", err)
		}
		return err != nil
	})
}

// member is a worker and its life in the fleet; it belongs to Run.
type member struct {
	w        *Worker
	given    Info      // as discovery had it
	vanished time.Time // from discovery; zero: is in it
	stop     context.CancelFunc
	done     chan struct{}
}

// reconcile starts and retires workers until members match the lists.
func (f *Fleet) reconcile(ctx context.Context, members map[kv.WorkerID]*member) {
	wanted := f.wanted()
	now := f.c.Now()
	changed := false
	for id, m := range members {
		info, in := wanted[id]
		if in && info == m.given {
			m.vanished = time.Time{}
			continue
		}
		if !in && f.keeps(m, now) {
			continue
		}
		f.retire(id, m, members)
		changed = true
	}
	for id, info := range wanted {
		if members[id] == nil {
			members[id] = f.start(ctx, info)
			changed = true
		}
	}
	if changed {
		f.publish(members)
	}
}

// keeps reports whether a worker that is in no list stays: it serves, and its
// grace time is not over.
func (f *Fleet) keeps(m *member, now time.Time) bool {
	if m.vanished.IsZero() {
		m.vanished = now
		f.c.Log.Info("worker vanished from discovery", "worker", m.given.ID, "grace", f.c.Grace)
	}
	return m.w.healthy.Load() && now.Sub(m.vanished) < f.c.Grace
}

// wanted is the union of the lists; the first source to name an id wins.
func (f *Fleet) wanted() map[kv.WorkerID]Info {
	f.mu.Lock()
	defer f.mu.Unlock()
	wanted := map[kv.WorkerID]Info{}
	for _, list := range f.lists {
		for _, info := range list {
			if _, dup := wanted[info.ID]; !dup {
				wanted[info.ID] = info
			}
		}
	}
	return wanted
}

func (f *Fleet) start(ctx context.Context, info Info) *member {
	ctx, stop := context.WithCancel(ctx)
	m := &member{w: newWorker(&f.c, info), given: info, stop: stop, done: make(chan struct{})}
	m.w.fleet = f
	f.c.Log.Info("worker joined", "worker", info.ID, "url", info.URL)
	go func() {
		defer close(m.done)
		m.w.run(ctx)
	}()
	return m
}

// retire stops a worker and takes it out of the Sink, once its goroutines can
// no longer call it.
func (f *Fleet) retire(id kv.WorkerID, m *member, members map[kv.WorkerID]*member) {
	m.stop()
	<-m.done
	delete(members, id)
	f.c.Log.Info("worker left", "worker", id)
}

func (f *Fleet) publish(members map[kv.WorkerID]*member) {
	view := make([]*Worker, 0, len(members))
	for _, m := range members {
		view = append(view, m.w)
	}
	slices.SortFunc(view, func(a, b *Worker) int { return strings.Compare(string(a.id), string(b.id)) })
	f.view.Store(&view)
}
