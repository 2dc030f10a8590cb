package events

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Source is where an engine publishes.
type Source struct {
	Endpoint, Replay, Topic string
}

// ErrNoSource is what ReaderConfig.Resolve returns for an engine that publishes
// nothing: the reader asks again now and then.
var ErrNoSource = errors.New("no event source")

// ReaderConfig says what to read and how to name it.
type ReaderConfig struct {
	// Resolve says where to connect. It is asked before each attempt, because a
	// restarted engine may publish elsewhere.
	Resolve func(context.Context) (Source, error)
	// Poll, for an engine that is asked for its events (TensorRT-LLM), takes
	// those that wait there as a JSON list. Resolve is not used then.
	Poll func(context.Context) ([]byte, error)
	// Model and BlockSize go into the root of every hash. Blocks of another size
	// are not indexed; 0 takes the size of the first block seen.
	Model     string
	BlockSize int
	// Engine is "sglang" or anything else for vLLM's ways: SGLang's
	// AllBlocksCleared means all of its tiers, vLLM's the GPU alone; SGLang names
	// the salt in events of every tier, vLLM only in the GPU's.
	Engine string
	// Emit takes events in order, from one goroutine at a time. The slice and its
	// hashes are reused when it has returned.
	Emit func([]kv.Event)
	Log  *slog.Logger

	// Audit is how long the stream may be idle before the replay socket is asked
	// whether it really is (default 10 s).
	Audit time.Duration
	// BackoffMin and BackoffMax bound the pause between attempts to connect
	// (default 100 ms to 5 s).
	BackoffMin, BackoffMax time.Duration
}

// Reader follows one engine's KV events and yields them with our hashes.
type Reader struct {
	c     ReaderConfig
	stats atomic.Pointer[ReaderStats] // never changed once stored
}

// ReaderStats counts since the start.
type ReaderStats struct {
	Connected  bool
	LastSeq    uint64
	Batches    uint64 // applied
	Events     uint64
	Breaks     uint64 // connections lost
	Gaps       uint64 // found, and filled from the replay socket
	Resyncs    uint64 // gaps that could not be filled: everything was cleared
	Restarts   uint64 // of the engine
	Duplicates uint64 // batches that came twice, live and replayed

	// What could not be used, by reason.

	LostBatches   uint64 // in gaps that could not be filled
	BadBatches    uint64 // not decodable
	UnknownEvents uint64 // of a type or medium that this version does not know
	Placeholders  uint64 // blocks stored without their tokens
	Mismatched    uint64 // blocks of another size than the index's
	Uncovered     uint64 // blocks that hold more than tokens (images) or whose salt is not known
	OrphansLost   uint64 // blocks whose parent never came, given up

	// What was rightly left out, and what is waiting.

	WindowEvents uint64 // of KV cache groups that do not keep whole prefixes
	Orphans      int    // blocks waiting for their parent
	Blocks       [kv.NumTiers]int
}

// Lost is everything that could not be used.
func (s ReaderStats) Lost() uint64 {
	return s.LostBatches + s.BadBatches + s.UnknownEvents + s.Placeholders + s.Mismatched + s.Uncovered + s.OrphansLost
}

// NewReader returns a reader that Run drives.
func NewReader(c ReaderConfig) *Reader {
	if c.Audit <= 0 {
		c.Audit = 10 * time.Second
	}
	if c.BackoffMin <= 0 {
		c.BackoffMin = 100 * time.Millisecond
	}
	if c.BackoffMax <= 0 {
		c.BackoffMax = 5 * time.Second
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	r := &Reader{c: c}
	r.stats.Store(&ReaderStats{})
	return r
}

// Stats is a snapshot of the counters.
func (r *Reader) Stats() ReaderStats { return *r.stats.Load() }
