package sim

import (
	"errors"
	"fmt"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trace"
	"github.com/kvasir-ai/kvasir/router"
)

// Options describe a fleet and how requests reach it.
type Options struct {
	Policy string
	Seed   uint64
	Timing Timing

	Workers         int
	BlocksPerWorker int // of the engine's KV cache; 0: all of the trace fits
	ChunkTokens     int // an engine's budget of tokens a step
	MaxBatch        int // requests in an engine's batch
	// Slower has factors on the workers' times, in turn; none: all are as fast as
	// the timing says.
	Slower []float64
	Tiers  Tiers

	Gateways int
	// EventDelay is how late gateways learn what became of blocks.
	EventDelay time.Duration
	// ReportEvery is how often workers report their load.
	ReportEvery time.Duration
	Changes     []Change

	// Rates are what gateways expect of a worker before they have seen any.
	Rates router.Rates

	SLOTTFT, SLOTPOT time.Duration

	// Clock times decisions; nil: they aren't timed. Nothing else reads it.
	Clock func() time.Time
	// Decided, if any, sees every decision. It must not keep it.
	Decided func(*router.Request, []router.Candidate, *router.Decision)
	// Ended, if any, is told of every request that got all its tokens.
	Ended func(Outcome)
}

// Outcome is what became of one request.
type Outcome struct {
	Request     int // in the trace's order
	Worker      kv.WorkerID
	PredictedMS float64          // TTFT
	TTFTMS      float64          // from its arrival
	EndedMS     float64          // since the run began
	Cached      [kv.NumTiers]int // tokens of its prompt that were not computed, by tier
	Preempted   int              // times
}

// Tiers are the block managers' tiers below the engines' KV caches; 0 blocks: not
// there.
type Tiers struct {
	CPUBlocks   int // of each worker
	DiskBlocks  int // of each worker
	RedisBlocks int // of the store that all share
	Up          [kv.NumTiers]Link
	Down        [kv.NumTiers]Link
}

func (t *Tiers) any() bool { return t.CPUBlocks > 0 }

// Change is a worker that joins or leaves. One that leaves ends what it has and
// takes no more.
type Change struct {
	At     time.Duration
	Worker int // counted from 0; one that joins is not there before
	Leaves bool
}

// DefaultOptions are eight H200s behind one gateway, with no lower tiers. The
// links are those measured on an H200, a data-centre NVMe disk, and one Redis
// connection's worth of a fast network.
func DefaultOptions() Options {
	o := Options{
		Policy: "predicted", Timing: h200Llama8B(),
		Workers: 8, ChunkTokens: 8192, MaxBatch: 256,
		Gateways: 1, ReportEvery: 500 * time.Millisecond,
		Rates:   router.Rates{PrefillBaseMS: 5, PrefillPerTokenMS: 0.5},
		SLOTTFT: 2 * time.Second, SLOTPOT: 50 * time.Millisecond,
	}
	o.Tiers.Up = [kv.NumTiers]Link{kv.CPU: {55, 0.2}, kv.Disk: {6, 0.5}, kv.Redis: {3, 1}}
	o.Tiers.Down = [kv.NumTiers]Link{kv.CPU: {55, 0.2}, kv.Disk: {3, 0.5}, kv.Redis: {3, 1}}
	return o
}

// most bounds the KV slots of a fleet, for memory's sake.
const mostSlots = 1 << 28

func (o *Options) check(t *trace.Trace) error {
	switch {
	case o.Timing == nil:
		return errors.New("sim: no timing")
	case o.Workers < 1 || o.Gateways < 1 || o.ChunkTokens < 1 || o.MaxBatch < 1:
		return errors.New("sim: workers, gateways, chunk tokens and batch must be at least 1")
	case o.MaxBatch > o.ChunkTokens:
		return fmt.Errorf("sim: a step of %d tokens can't serve a batch of %d", o.ChunkTokens, o.MaxBatch)
	case o.ReportEvery <= 0 || o.EventDelay < 0:
		return errors.New("sim: reports must come at intervals above 0, events no sooner than at once")
	case o.Tiers.CPUBlocks == 0 && (o.Tiers.DiskBlocks > 0 || o.Tiers.RedisBlocks > 0):
		return errors.New("sim: disk and Redis need a cpu tier above them")
	}
	for i, s := range o.Slower {
		if !(s > 0) {
			return fmt.Errorf("sim: worker %d is slower by %v: want above 0", i, s)
		}
	}
	longest := 0
	for i := range t.Requests {
		r := &t.Requests[i]
		longest = max(longest, (r.Input+r.Output+t.BlockSize-1)/t.BlockSize)
	}
	if o.BlocksPerWorker != 0 && o.BlocksPerWorker < longest {
		return fmt.Errorf("sim: %d blocks a worker: the trace's longest request needs %d", o.BlocksPerWorker, longest)
	}
	if o.blocks(t)*o.Workers > mostSlots {
		return fmt.Errorf("sim: %d workers of %d blocks are more than this machine should hold: bound the blocks of each worker", o.Workers, o.blocks(t))
	}
	return o.checkChanges()
}

func (o *Options) checkChanges() error {
	there := o.Workers
	for _, c := range o.Changes {
		switch {
		case c.Worker < 0 || c.Worker >= o.Workers || c.At < 0:
			return fmt.Errorf("sim: worker %d of %d can't join or leave at %v", c.Worker, o.Workers, c.At)
		case c.Leaves:
			there--
		}
	}
	for i := range o.Workers {
		if o.joinsLater(i) {
			there--
		}
	}
	if there < 1 {
		return errors.New("sim: a worker must be there at all times")
	}
	return nil
}

func (o *Options) joinsLater(worker int) bool {
	for _, c := range o.Changes {
		if c.Worker == worker && !c.Leaves {
			return true
		}
	}
	return false
}

// blocks is the size of an engine's KV cache.
func (o *Options) blocks(t *trace.Trace) int {
	if o.BlocksPerWorker > 0 {
		return o.BlocksPerWorker
	}
	n := 1
	for i := range t.Requests {
		r := &t.Requests[i]
		n += (r.Input+r.Output)/t.BlockSize + 1
	}
	return n
}

func (o *Options) slower(worker int) float64 {
	if len(o.Slower) == 0 {
		return 1
	}
	return o.Slower[worker%len(o.Slower)]
}
