package indexbench

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvasir-ai/kvasir/prefixindex"
)

// Options say what to measure.
type Options struct {
	Blocks       int           // distinct blocks in the index
	Workers      int           // that hold them
	PromptBlocks int           // of each prompt looked up
	WriteRate    float64       // block-ops a second applied during the lookups; 0: none
	Duration     time.Duration // of the lookups, and of the writes at full speed
	Writers      int           // goroutines that apply events at full speed
	Seed         uint64
}

// DefaultOptions are those of the published figures.
func DefaultOptions() Options {
	return Options{Blocks: 1 << 20, Workers: 8, PromptBlocks: 512, WriteRate: 1e6,
		Duration: 5 * time.Second, Writers: runtime.GOMAXPROCS(0), Seed: 1}
}

func (o Options) validate() error {
	for _, f := range []struct {
		name  string
		value int
	}{{"blocks", o.Blocks}, {"workers", o.Workers}, {"prompt-blocks", o.PromptBlocks}, {"writers", o.Writers}} {
		if f.value <= 0 {
			return fmt.Errorf("bench index: %s must be at least 1, not %d", f.name, f.value)
		}
	}
	if o.WriteRate < 0 || o.Duration <= 0 {
		return fmt.Errorf("bench index: the write rate must not be negative (%g), the duration be above zero (%s)", o.WriteRate, o.Duration)
	}
	return nil
}

// Report is what was measured.
type Report struct {
	Blocks       int     `json:"blocks"`
	Memberships  int     `json:"memberships"`
	Workers      int     `json:"workers"`
	PromptBlocks int     `json:"prompt_blocks"`
	WriteRate    float64 `json:"write_rate"`

	LookupP50US     float64 `json:"lookup_p50_us"`
	LookupP99US     float64 `json:"lookup_p99_us"`
	Lookups         int     `json:"lookups"`
	AllocsPerLookup float64 `json:"allocs_per_lookup"`
	// WriteRateReached is what was applied during the lookups; they do not count
	// if it is below WriteRate.
	WriteRateReached float64 `json:"write_rate_reached"`

	WriteBlockOpsPerS  float64 `json:"write_block_ops_per_s"`
	Writers            int     `json:"writers"`
	BytesPerMembership float64 `json:"bytes_per_membership"` // by which filling the index grew the heap
}

// Run measures. It takes about twice the duration, and the time to fill the
// index.
func Run(ctx context.Context, o Options) (Report, error) {
	if err := o.validate(); err != nil {
		return Report{}, err
	}
	l := newLoad(o)
	before := heap()
	x := prefixindex.New(prefixindex.Options{MaxBlocks: 2*o.Blocks + o.Workers*churnLive*1000})
	l.fill(x, o.Workers)
	grown := heap() - before
	s := x.Stats()
	r := Report{Blocks: s.Blocks, Memberships: s.Memberships, Workers: o.Workers, PromptBlocks: o.PromptBlocks,
		WriteRate: o.WriteRate, Writers: o.Writers}
	r.AllocsPerLookup = allocations(x, l)
	lookups(ctx, x, l, o, &r)
	writes(ctx, x, l, o, &r)
	r.BytesPerMembership = grown / float64(r.Memberships)
	return r, ctx.Err()
}

// allocations is how often a lookup allocates when its answer is reused.
func allocations(x *prefixindex.Index, l *load) float64 {
	var m prefixindex.Matches
	for _, p := range l.prompts {
		x.Match(&m, p)
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for _, p := range l.prompts {
		x.Match(&m, p)
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(len(l.prompts))
}

// lookups times lookups of random prompts while events are applied.
func lookups(ctx context.Context, x *prefixindex.Index, l *load, o Options, r *Report) {
	var over atomic.Bool
	var applied atomic.Int64
	var writer sync.WaitGroup
	begin := time.Now()
	if o.WriteRate > 0 {
		writer.Go(func() {
			n := 0
			for !over.Load() {
				play(x, l.scripts, func(blocks int) bool {
					n += blocks
					applied.Store(int64(n))
					// Open loop: what is late is caught up with.
					for ahead := time.Duration(float64(n)/o.WriteRate*1e9) - time.Since(begin); ahead > 0; ahead = 0 {
						pause(ahead)
					}
					return !over.Load()
				})
			}
		})
	}
	rng := rand.New(rand.NewPCG(o.Seed, 2))
	took := make([]time.Duration, 0, 1<<20)
	var m prefixindex.Matches
	for end := begin.Add(o.Duration); len(took) < cap(took) && ctx.Err() == nil; {
		p := l.prompts[rng.IntN(len(l.prompts))]
		start := time.Now()
		x.Match(&m, p)
		now := time.Now()
		took = append(took, now.Sub(start))
		if now.After(end) {
			break
		}
		// A lookup is a request's; requests do not come back to back.
		pause(20 * time.Microsecond)
	}
	r.WriteRateReached = float64(applied.Load()) / time.Since(begin).Seconds()
	over.Store(true)
	writer.Wait()
	slices.Sort(took)
	r.Lookups = len(took)
	if n := len(took); n > 0 {
		r.LookupP50US = float64(took[n/2]) / 1e3
		r.LookupP99US = float64(took[n*99/100]) / 1e3
	}
}

// pause lets others run for a while: sleeping is too coarse for less than a
// millisecond.
func pause(d time.Duration) {
	if d > time.Millisecond {
		time.Sleep(d)
		return
	}
	for start := time.Now(); time.Since(start) < d; {
		runtime.Gosched()
	}
}

// play applies all scripts in turn, a step of each at a time, as long as after
// says so.
func play(x *prefixindex.Index, scripts [][]step, after func(blocks int) bool) {
	for i := 0; ; i++ {
		left := false
		for _, s := range scripts {
			if i >= len(s) {
				continue
			}
			left = true
			x.Apply(s[i].worker, s[i].event)
			if !after(len(s[i].event.Hashes)) {
				return
			}
		}
		if !left {
			return
		}
	}
}

// writes applies events as fast as possible from several goroutines, each with
// workers of its own, until the last is done.
func writes(ctx context.Context, x *prefixindex.Index, l *load, o Options, r *Report) {
	var total atomic.Int64
	var writers sync.WaitGroup
	begin := time.Now()
	end := begin.Add(o.Duration)
	for w := range o.Writers {
		var mine [][]step
		for i := w; i < len(l.scripts); i += o.Writers {
			mine = append(mine, l.scripts[i])
		}
		if len(mine) == 0 {
			continue
		}
		writers.Go(func() {
			n := 0
			for time.Now().Before(end) && ctx.Err() == nil {
				play(x, mine, func(blocks int) bool { n += blocks; return true })
			}
			total.Add(int64(n))
		})
	}
	writers.Wait()
	r.WriteBlockOpsPerS = float64(total.Load()) / time.Since(begin).Seconds()
}

// heap is the size of what is reachable.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
