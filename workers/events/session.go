package events

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"os"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers/events/zmtp"
)

const (
	noSourcePause = 15 * time.Second // before an engine without events is asked again
	replayTimeout = 5 * time.Second  // for the next batch of a replay
)

// Run reads until ctx ends. It connects again, with backoff, as often as it
// takes.
func (r *Reader) Run(ctx context.Context) error {
	s := newSession(r)
	pause := r.c.BackoffMin
	told := false
	for ctx.Err() == nil {
		follow := s.connect
		if r.c.Poll != nil {
			follow = s.poll
		}
		err := follow(ctx, func() { pause, told = r.c.BackoffMin, false })
		if ctx.Err() != nil {
			break
		}
		if s.stats.Connected {
			s.stats.Connected = false
			s.stats.Breaks++
			s.publish()
		}
		if !told {
			r.c.Log.Warn("no KV events from the engine; trying again", "error", err)
			told = true
		}
		wait := pause/2 + rand.N(pause/2+1)
		pause = min(2*pause, r.c.BackoffMax)
		if errors.Is(err, ErrNoSource) {
			wait = noSourcePause
		}
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-t.C:
		}
		t.Stop()
	}
	s.stats.Connected = false
	s.publish()
	return ctx.Err()
}

// session is the state of a Reader that outlives a connection.
type session struct {
	r     *Reader
	stats ReaderStats
	t     *translator
	batch Batch
	out   []kv.Event
	trt   trtllm // when polling

	started bool   // something was applied
	next    uint64 // sequence number to come
	last    uint64 // digest of the batch before next: tells the engine from its successor
	seed    maphash.Seed

	source   Source // of the current connection
	replayed bool   // the replay socket has answered, ever
}

func newSession(r *Reader) *session {
	s := &session{r: r, seed: maphash.MakeSeed()}
	s.t = newTranslator(r.c.Model, r.c.BlockSize, r.c.Engine == "sglang", &s.stats)
	return s
}

// connect subscribes, catches up and follows the live stream until it breaks.
func (s *session) connect(ctx context.Context, connected func()) error {
	source, err := s.r.c.Resolve(ctx)
	if err != nil {
		return err
	}
	s.source = source
	// Subscribing before catching up leaves no hole between the two.
	live, err := zmtp.Dial(ctx, source.Endpoint, zmtp.Sub)
	if err != nil {
		return err
	}
	defer live.Close()
	defer context.AfterFunc(ctx, func() { live.Close() })()
	if err := live.Send(append([]byte{1}, source.Topic...)); err != nil {
		return err
	}
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	connected()
	s.stats.Connected = true
	s.publish()
	return s.follow(ctx, live)
}

// follow applies live batches. Within one connection their numbers only grow, so
// one that does not comes from a restarted engine behind a proxy; one that was
// replayed already is merely late.
func (s *session) follow(ctx context.Context, live *zmtp.Conn) error {
	latest, any := uint64(0), false
	for {
		frames, err := live.Recv(s.r.c.Audit)
		if errors.Is(err, os.ErrDeadlineExceeded) && ctx.Err() == nil {
			if err := s.audit(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		if len(frames) != 3 || len(frames[1]) != 8 {
			s.stats.BadBatches++
			s.publish()
			continue
		}
		seq := binary.BigEndian.Uint64(frames[1])
		if any && seq <= latest {
			s.restart()
			if err := s.catchUp(ctx); err != nil {
				return err
			}
		}
		latest, any = seq, true
		if s.started && seq > s.next && s.source.Replay != "" {
			s.stats.Gaps++
			if err := s.replay(ctx, s.next, s.accept); err != nil && ctx.Err() == nil {
				s.r.c.Log.Warn("a gap in the KV events could not be filled", "from", s.next, "to", seq, "error", err)
			}
		}
		s.accept(seq, frames[2])
	}
}

// catchUp replays what was published since the last batch applied, or all there
// is. An engine that no longer knows that batch has restarted.
func (s *session) catchUp(ctx context.Context) error {
	if s.source.Replay == "" {
		if s.started {
			s.restart() // what was missed cannot be known
		}
		return nil
	}
	err := s.resume(ctx)
	if err == nil || ctx.Err() != nil {
		return err
	}
	s.r.c.Log.Warn("the engine's replay socket does not answer; following live events only", "replay", s.source.Replay, "error", err)
	if s.started {
		s.restart()
	}
	return nil
}

// resume asks for the batch applied last and all after it.
func (s *session) resume(ctx context.Context) error {
	if !s.started {
		return s.replay(ctx, 0, s.accept)
	}
	wanted, known, first := s.next-1, false, true
	err := s.replay(ctx, wanted, func(seq uint64, payload []byte) {
		if first {
			first = false
			known = seq == wanted && maphash.Bytes(s.seed, payload) == s.last
		} else if known {
			s.accept(seq, payload)
		}
	})
	if err != nil || known {
		return err
	}
	s.restart()
	return s.replay(ctx, 0, s.accept)
}

// audit asks whether an idle stream really has nothing to say.
func (s *session) audit(ctx context.Context) error {
	if s.source.Replay == "" {
		return nil
	}
	if err := s.resume(ctx); err != nil && s.replayed {
		return err
	}
	return nil
}

// restart forgets an engine that is gone.
func (s *session) restart() {
	s.stats.Restarts++
	s.started = false
	s.emit(s.t.reset(nil))
	s.publish()
}

// accept applies a batch that is due, passes over one that was applied already,
// and starts over where batches are missing for good.
func (s *session) accept(seq uint64, payload []byte) {
	if s.started && seq < s.next {
		s.stats.Duplicates++
		return
	}
	out := s.out[:0]
	if s.started && seq > s.next {
		s.stats.LostBatches += seq - s.next
		s.stats.Resyncs++
		out = s.t.reset(out)
	}
	s.started, s.next = true, seq+1
	s.last = maphash.Bytes(s.seed, payload)
	if err := decodeBatch(&s.batch, payload); err != nil {
		s.r.c.Log.Error("a batch of KV events cannot be read; starting over", "seq", seq, "error", err)
		s.stats.BadBatches++
		s.stats.Resyncs++
		out = s.t.reset(out)
	} else {
		s.stats.Batches++
		s.stats.Events += uint64(len(s.batch.Events))
		for i := range s.batch.Events {
			out = s.t.apply(out, &s.batch.Events[i])
		}
	}
	s.emit(out)
	s.publish()
}

func (s *session) emit(events []kv.Event) {
	if len(events) > 0 {
		s.r.c.Emit(events)
	}
	s.out = events
	s.t.emptied()
}

func (s *session) publish() {
	s.t.describe()
	if s.started {
		s.stats.LastSeq = s.next - 1
	}
	stats := s.stats
	s.r.stats.Store(&stats)
}

// replay asks for every batch from a number on, over a connection of its own.
func (s *session) replay(ctx context.Context, from uint64, each func(seq uint64, payload []byte)) error {
	c, err := zmtp.Dial(ctx, s.source.Replay, zmtp.Dealer)
	if err != nil {
		return fmt.Errorf("events: replay: %w", err)
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	var seq [8]byte
	binary.BigEndian.PutUint64(seq[:], from)
	if err := c.Send(nil, seq[:]); err != nil {
		return fmt.Errorf("events: replay: %w", err)
	}
	for {
		frames, err := c.Recv(replayTimeout)
		if err != nil {
			return fmt.Errorf("events: replay: %w", err)
		}
		// ["", topic, seq, payload], or without the topic until vLLM 0.24.
		n := len(frames)
		if n < 3 || n > 4 || len(frames[n-2]) != 8 {
			return fmt.Errorf("events: replay: answer of %d frames", n)
		}
		s.replayed = true
		if [8]byte(frames[n-2]) == endOfReplay {
			return nil
		}
		each(binary.BigEndian.Uint64(frames[n-2]), frames[n-1])
	}
}
