package workers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
	"github.com/kvasir-ai/kvasir/workers/engine/vllm"
	"github.com/kvasir-ai/kvasir/workers/events"
)

// watchBlocks keeps the Sink up to date with what the worker holds, through its
// agent if it has one, else straight from the engine.
func (w *Worker) watchBlocks(ctx context.Context) {
	if w.agent.Load() == nil {
		w.followEngine(ctx)
		return
	}
	pause := retry{min: w.c.BackoffMin, max: w.c.BackoffMax}
	var at position
	var broken time.Time // since when there is no stream; zero: there is
	for ctx.Err() == nil {
		err := w.followAgent(ctx, &at, func() {
			pause.reset()
			broken = time.Time{}
			w.counters.connected.Store(true)
		})
		w.counters.connected.Store(false)
		if ctx.Err() != nil {
			return
		}
		now := w.c.Now()
		if broken.IsZero() {
			broken = now
			w.counters.breaks.Add(1)
			w.log.Warn("no event stream from the agent", "error", err)
		}
		if at.epoch != 0 && now.Sub(broken) >= w.c.StaleAfter {
			w.log.Warn("the agent is away for too long: its blocks are forgotten", "after", w.c.StaleAfter)
			w.clear()
			at = position{}
		}
		if !w.described.Load() {
			w.describeByEngine(ctx)
		}
		pause.wait(ctx)
	}
}

// position is how far a watcher got in an agent's numbered stream; an epoch of
// zero means that it has nothing.
type position struct{ epoch, seq uint64 }

// followAgent describes the worker and applies its agent's stream until that
// breaks.
func (w *Worker) followAgent(ctx context.Context, at *position, standing func()) error {
	a := w.agent.Load()
	info, store, err := a.describe(ctx, w.c.HealthTimeout)
	if err != nil {
		return err
	}
	if !w.knows(store) {
		*at = position{} // learn starts the Sink's entry over
	}
	if err := w.learn(info, store); err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := a.rpc.WatchBlocks(ctx, &agentpb.WatchBlocksRequest{Epoch: at.epoch, AfterSeq: at.seq})
	if err != nil {
		return fmt.Errorf("agent: watch blocks: %w", err)
	}
	var events []kv.Event
	resyncing := false
	for {
		m, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("agent: watch blocks: %w", err)
		}
		standing()
		if events, err = unpack(events[:0], m.GetEvents()); err != nil {
			*at = position{}
			return err
		}
		switch m.GetPart() {
		case agentpb.WatchBlocksResponse_PART_SNAPSHOT, agentpb.WatchBlocksResponse_PART_SNAPSHOT_END:
			// Each part is entered as it comes, in place of all that was known. One
			// that breaks off is true as far as it goes.
			if !resyncing {
				w.clear()
				w.c.Sink.Expect(int(min(m.GetBlocks(), maxExpected)))
				resyncing, *at = true, position{}
			}
			w.apply(events)
			if m.GetPart() == agentpb.WatchBlocksResponse_PART_SNAPSHOT_END {
				resyncing, *at = false, position{m.GetEpoch(), m.GetLastSeq()}
				w.counters.resyncs.Add(1)
				w.primed.Store(true)
			}
		case agentpb.WatchBlocksResponse_PART_DELTA:
			if m.GetEpoch() != at.epoch || m.GetFirstSeq() != at.seq+1 {
				err := fmt.Errorf("agent: delta %d of epoch %x does not follow %d of %x", m.GetFirstSeq(), m.GetEpoch(), at.seq, at.epoch)
				*at = position{}
				return err
			}
			w.apply(events)
			at.seq = m.GetLastSeq()
		default:
			*at = position{}
			return fmt.Errorf("agent: unknown part %d of the block stream", m.GetPart())
		}
	}
}

// maxExpected bounds the room that an agent may ask for.
const maxExpected = 4 << 20

// unpack appends events from the wire to events.
func unpack(events []kv.Event, packed []*agentpb.BlockEvent) ([]kv.Event, error) {
	for _, b := range packed {
		e, err := b.ToEvent()
		if err != nil {
			return events, err
		}
		events = append(events, e)
	}
	return events, nil
}

// describeByEngine asks the engine what it serves, so that a worker whose agent
// is away can serve at least.
func (w *Worker) describeByEngine(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, w.c.HealthTimeout)
	defer cancel()
	d, err := w.engine.Describe(ctx)
	if err == nil {
		err = w.learn(Info{Model: d.Model, Engine: d.Engine, BlockSize: d.BlockSize, Tokenizer: vllm.Folder(d.Root), Role: d.Role, Bootstrap: d.Bootstrap}, "")
	}
	if err != nil {
		w.log.Debug("the engine does not describe itself yet", "error", err)
		return false
	}
	return true
}

// followEngine reads the engine's own event sockets.
func (w *Worker) followEngine(ctx context.Context) {
	pause := retry{min: w.c.BackoffMin, max: w.c.BackoffMax}
	for !w.describeByEngine(ctx) {
		if pause.wait(ctx); ctx.Err() != nil {
			return
		}
	}
	info := w.Info()
	r := events.NewReader(events.ReaderConfig{
		Resolve:   w.engineEvents,
		Poll:      PollsEvents(w.engine),
		Model:     info.Model,
		BlockSize: info.BlockSize,
		Engine:    info.Engine,
		Emit:      w.apply,
		Log:       w.log,
	})
	w.reader.Store(r)
	r.Run(ctx)
}

// engineEvents is where the engine publishes: as configured, else as it says.
func (w *Worker) engineEvents(ctx context.Context) (events.Source, error) {
	if s := w.Info().Events; s.Endpoint != "" {
		return events.Source(s), nil
	}
	ctx, cancel := context.WithTimeout(ctx, w.c.HealthTimeout)
	defer cancel()
	e, err := w.engine.Events(ctx)
	switch {
	case errors.Is(err, vllm.ErrNoEvents):
		w.primed.Store(true) // there is nothing to wait for
		err = fmt.Errorf("%w: %w", events.ErrNoSource, err)
	case err == nil && e.Replay == "":
		w.log.Warn("the engine replays no KV events: what it cached before now, and what a break hides, stays unknown; start it with replay_endpoint in --kv-events-config")
	}
	return events.Source(e), err
}
