package events

import (
	"context"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

const (
	pollPause   = 50 * time.Millisecond // between polls of an engine that has no events
	pollTimeout = 10 * time.Second
)

// poll asks the engine for its events again and again, until it fails.
func (s *session) poll(ctx context.Context, connected func()) error {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
		asked, cancel := context.WithTimeout(ctx, pollTimeout)
		body, err := s.r.c.Poll(asked)
		cancel()
		if err != nil {
			return err
		}
		if !s.stats.Connected {
			connected()
			s.stats.Connected = true
		}
		n := s.drained(body)
		s.publish()
		if n > 0 {
			t.Reset(time.Millisecond)
		} else {
			t.Reset(pollPause)
		}
	}
}

// drained applies a list of TensorRT-LLM's events and returns how many they
// were. A list cannot be asked for again: when it cannot be read, or one of the
// numbers is missing, all that was known is given up.
func (s *session) drained(body []byte) int {
	list, err := decodeTRTLLM(body)
	if err != nil {
		s.r.c.Log.Error("a list of KV events cannot be read; starting over", "error", err)
		s.stats.BadBatches++
		s.stats.Resyncs++
		s.emit(s.t.reset(s.out[:0]))
		return 1
	}
	if len(list) == 0 {
		return 0
	}
	s.stats.Batches++
	s.stats.Events += uint64(len(list))
	out := s.out[:0]
	for i := range list {
		out = s.trt.apply(out, s.t, &list[i])
	}
	s.emit(out)
	return len(list)
}

// trtllm is what has to be remembered of TensorRT-LLM's events. Each rank
// numbers its own, without a gap.
type trtllm struct {
	next   map[int]uint64
	window int // the largest: that of layers that keep whole prefixes
}

func (x *trtllm) apply(out []kv.Event, t *translator, e *trtEvent) []kv.Event {
	if x.next == nil {
		x.next = map[int]uint64{}
	}
	if next, known := x.next[e.rank]; known && e.id != next {
		if e.id > next {
			t.stats.LostBatches += e.id - next
		} else {
			t.stats.Restarts++
		}
		t.stats.Resyncs++
		out = t.reset(out)
	}
	x.next[e.rank] = e.id + 1
	if e.created {
		x.window = max(x.window, e.window)
		return out
	}
	if e.window != x.window && x.window != 0 {
		t.stats.WindowEvents++
		return out
	}
	if e.moved {
		return t.move(out, e.hash, place{tier: e.from}, place{tier: e.to})
	}
	for i := range e.events {
		// The last block of a prompt may be stored partly filled, and again when it
		// is full. Our hashes name full ones.
		if size := e.events[i].BlockSize; size == 0 || size >= t.root.BlockSize {
			out = t.apply(out, &e.events[i])
		}
	}
	if e.unknown {
		t.stats.UnknownEvents++
	}
	return out
}

// move takes a block from one place to another.
func (t *translator) move(out []kv.Event, h EngineHash, from, to place) []kv.Event {
	n := t.names.find(h)
	if n == nil || from.same(to) {
		return out
	}
	out = t.meet(out, to)
	if t.count(n, to, true) && n.resolved && t.holds(n, to.tier) {
		out = t.tell(out, n, to.tier)
	}
	return t.remove(out, h, from)
}
