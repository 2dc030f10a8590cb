package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
	"github.com/kvasir-ai/kvasir/workers/events"
)

// describeRetry is the pause before an engine that does not describe itself yet
// is asked again.
const describeRetry = 500 * time.Millisecond

// followManager takes the block manager's events, without those about the gpu
// when the engine tells of it.
func (a *Agent) followManager(m *kvbm.Manager, engineTellsGPU bool) {
	take := func(events []kv.Event) {
		if engineTellsGPU {
			events = slices.DeleteFunc(slices.Clone(events), func(e kv.Event) bool { return e.Tier == kv.GPU })
		}
		if len(events) > 0 {
			a.hub.in.put(fromManager, events)
		}
	}
	// The manager may have the first change ready before its snapshot is filed:
	// order holds it back for that moment.
	var order sync.Mutex
	order.Lock()
	snapshot, stop := m.Watch(func(events []kv.Event) {
		order.Lock()
		defer order.Unlock()
		take(events)
	})
	take(snapshot)
	order.Unlock()
	context.AfterFunc(a.ctx, stop)
}

// followEngine reads the engine's own events until ctx ends.
func (a *Agent) followEngine(ctx context.Context) {
	info, err := a.describe(ctx)
	for err != nil {
		a.log.Debug("the engine does not describe itself yet", "error", err)
		t := time.NewTimer(describeRetry)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		}
		info, err = a.describe(ctx)
	}
	r := events.NewReader(events.ReaderConfig{
		Resolve:   a.engineEvents,
		Poll:      workers.PollsEvents(a.engine),
		Model:     info.Model,
		BlockSize: info.BlockSize,
		Engine:    info.Engine,
		Emit:      func(e []kv.Event) { a.hub.in.put(fromEngine, cloned(e)) },
		Log:       a.log,
	})
	a.reader.Store(r)
	r.Run(ctx)
}

// cloned is a copy of events, in two pieces of memory.
func cloned(events []kv.Event) []kv.Event {
	n := 0
	for i := range events {
		n += len(events[i].Hashes)
	}
	events, hashes := slices.Clone(events), make([]kv.Hash, 0, n)
	for i := range events {
		from := len(hashes)
		hashes = append(hashes, events[i].Hashes...)
		events[i].Hashes = hashes[from:len(hashes):len(hashes)]
	}
	return events
}

// engineEvents is where the engine publishes: as configured, else as it says.
func (a *Agent) engineEvents(ctx context.Context) (events.Source, error) {
	if s := a.c.Info.Events; s.Endpoint != "" {
		return events.Source(s), nil
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	e, err := a.engine.Events(ctx)
	if errors.Is(err, vllm.ErrNoEvents) {
		err = fmt.Errorf("%w: %w", events.ErrNoSource, err)
	}
	return events.Source(e), err
}
