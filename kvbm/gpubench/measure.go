package gpubench

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/kvbm/gpu"
	"github.com/kvasir-ai/kvasir/kvbm/host"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

const (
	rawBytes    = 256 << 20
	limitWindow = 60 * time.Millisecond
	settle      = 50 * time.Millisecond
)

// rawCopies is the limit: large plain copies of the same process, each
// direction on a stream of its own.
type rawCopies struct {
	ctx     *cuda.Context
	dev     [2]uint64
	mem     [2]*host.Memory
	streams [2]*cuda.Stream
	done    [2]*cuda.Event
}

func newRawCopies(ctx *cuda.Context) (r *rawCopies, err error) {
	r = &rawCopies{ctx: ctx}
	for i := range 2 {
		if r.dev[i], err = ctx.Alloc(rawBytes); err != nil {
			return r, err
		}
		if r.mem[i], err = host.Map(1, rawBytes); err != nil {
			return r, err
		}
		if err = ctx.Register(r.mem[i].All()); err != nil {
			return r, err
		}
		if r.streams[i], err = ctx.NewStream(); err != nil {
			return r, err
		}
		if r.done[i], err = ctx.NewEvent(); err != nil {
			return r, err
		}
	}
	return r, nil
}

func (r *rawCopies) close() error {
	var errs []error
	for i := range 2 {
		errs = append(errs, r.ctx.Unregister(r.mem[i].All()), r.mem[i].Close(), r.ctx.Free(r.dev[i]), r.streams[i].Close(), r.done[i].Close())
	}
	return errors.Join(errs...)
}

// plain makes some copies and waits.
func (r *rawCopies) plain(c *cuda.Copies) error {
	return errors.Join(r.streams[0].Submit(c, cuda.Counter{}, r.done[0]), r.done[0].Wait(0, time.Second))
}

// rate is the limit in the given directions, in GB/s.
func (r *rawCopies) rate(direction int) (float64, error) {
	return inBoth(direction, func(which int) (int, error) {
		var c cuda.Copies
		host, dev := cuda.HostAddr(r.mem[which].All()), r.dev[which]
		if which == 0 {
			c.Add(host, dev, rawBytes)
		} else {
			c.Add(dev, host, rawBytes)
		}
		return rawBytes, errors.Join(r.streams[which].Submit(&c, cuda.Counter{}, r.done[which]), r.done[which].Wait(0, time.Second))
	}, limitWindow)
}

// inBoth repeats a transfer in each of the directions at the same time, for a
// while, and adds up their rates.
func inBoth(direction int, move func(which int) (bytes int, err error), window time.Duration) (float64, error) {
	var rates [2]float64
	var errs [2]error
	var wg sync.WaitGroup
	for which, bit := range []int{d2h, h2d} {
		if direction&bit == 0 {
			continue
		}
		wg.Go(func() {
			start, moved := time.Now(), 0
			for time.Since(start) < window {
				n, err := move(which)
				if err != nil {
					errs[which] = err
					return
				}
				moved += n
			}
			rates[which] = float64(moved) / float64(time.Since(start))
		})
	}
	wg.Wait()
	return rates[0] + rates[1], errors.Join(errs[:]...)
}

// measure takes one case: the limit, the engine alone, the transfers beside it,
// the engine alone again, the limit again.
func (b *bench) measure(ctx context.Context, e *gpu.Engine, load string, direction int) (c Case, err error) {
	c = Case{Direction: directionNames[direction], Engine: load}
	cpu := cpuTime()
	before, err := b.limits.rate(direction)
	c.LimitCPU = (cpuTime() - cpu).Seconds() / (before * limitWindow.Seconds())
	if err != nil {
		return c, err
	}
	if _, err := b.tell(load); err != nil {
		return c, err
	}
	time.Sleep(settle)
	alone, err := b.pace(load, func() error { time.Sleep(b.o.Window / 2); return nil })
	if err != nil {
		return c, err
	}
	e.SetDecoding(load == Decode)
	cpu = cpuTime()
	saves, loads := b.transfers(b.to, b.pages[benchSlots:]), b.transfers(b.from, b.pages[:benchSlots])
	beside, err := b.pace(load, func() (err error) {
		c.Rate, err = inBoth(direction, func(which int) (int, error) {
			if which == 0 {
				return benchSlots * benchBlock, e.Save(ctx, saves, 0)
			}
			return benchSlots * benchBlock, e.Load(ctx, policy.Prefetch, loads)
		}, b.o.Window)
		return err
	})
	if err != nil {
		return c, err
	}
	c.CPU = (cpuTime() - cpu).Seconds() / (c.Rate * b.o.Window.Seconds())
	after, err := b.pace(load, func() error { time.Sleep(b.o.Window / 2); return nil })
	if err != nil {
		return c, err
	}
	if _, err := b.tell(Idle); err != nil {
		return c, err
	}
	e.SetDecoding(false)
	time.Sleep(settle)
	again, err := b.limits.rate(direction)
	c.Limit = (before + again) / 2
	c.Ratio = c.Rate / c.Limit
	if load != Idle {
		c.Slowdown = 1 - beside/((alone+after)/2)
	}
	return c, err
}

// pace is the engine's steps per second while do runs.
func (b *bench) pace(load string, do func() error) (float64, error) {
	from, err := b.tell(load)
	if err != nil {
		return 0, err
	}
	if err := do(); err != nil {
		return 0, err
	}
	to, err := b.tell(load)
	if err != nil || load == Idle {
		return 0, err
	}
	if to.Steps == from.Steps {
		return 0, errors.New("the engine made no step")
	}
	return float64(to.Steps-from.Steps) / (to.At - from.At).Seconds(), nil
}

func cpuTime() time.Duration {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u) // fails for no process's own
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// latencies measures demand loads of one block beside nothing, bulk saves, and
// bulk prefetches with bulk saves, in turn with plain copies of as many bytes.
func (b *bench) latencies(ctx context.Context, load string) error {
	e, err := b.dev.Attach(b.reg)
	if err != nil {
		return err
	}
	defer e.Close()
	e.SetDecoding(load == Decode)
	if _, err := b.tell(load); err != nil {
		return err
	}
	time.Sleep(settle)
	save := func(ctx context.Context) error { return e.Save(ctx, b.transfers(b.to, b.pages[benchSlots:]), 0) }
	prefetch := func(ctx context.Context) error {
		return e.Load(ctx, policy.Prefetch, b.transfers(b.from, b.pages[:benchSlots]))
	}
	demand := func() error {
		slot := rand.IntN(benchSlots) // the page's own block, so that pages keep what they held
		return e.Load(ctx, policy.Demand, []gpu.Transfer{{Page: b.pages[slot], Host: b.from.Slot(slot)}})
	}
	for _, beside := range []struct {
		name  string
		moves []func(context.Context) error
	}{
		{besideNothing, nil}, {besideOffload, []func(context.Context) error{save}},
		{"bulk offload and prefetch", []func(context.Context) error{save, prefetch}},
	} {
		l, raw, err := b.latency(ctx, demand, beside.moves)
		if err != nil {
			return err
		}
		for _, l := range []Latency{l, raw} {
			l.Engine, l.Beside = load, beside.name
			b.report.Latencies = append(b.report.Latencies, l)
		}
	}
	_, err = b.tell(Idle)
	return err
}

const (
	besideNothing = "nothing"
	besideOffload = "bulk offload"
)

func (b *bench) latency(ctx context.Context, demand func() error, moves []func(context.Context) error) (l, raw Latency, err error) {
	const n = 1500
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, len(moves))
	for i, move := range moves {
		wg.Go(func() {
			for errs[i] == nil && ctx.Err() == nil {
				if err := move(ctx); ctx.Err() == nil {
					errs[i] = err
				}
			}
		})
	}
	var copies cuda.Copies
	copies.Add(b.limits.dev[1], cuda.HostAddr(b.limits.mem[1].All()), benchBlock)
	var took, rawTook []float64
	for range n {
		for into, do := range map[*[]float64]func() error{&took: demand, &rawTook: func() error { return b.limits.plain(&copies) }} {
			time.Sleep(time.Duration(200+rand.IntN(600)) * time.Microsecond)
			start := time.Now()
			err = errors.Join(err, do())
			*into = append(*into, float64(time.Since(start))/1e3)
		}
	}
	cancel()
	wg.Wait()
	l, raw = percentiles(took), percentiles(rawTook)
	raw.Raw = true
	return l, raw, errors.Join(append(errs, err)...)
}

func percentiles(us []float64) Latency {
	slices.Sort(us)
	n := len(us)
	return Latency{N: n, P50: us[n/2], P90: us[n*9/10], P99: us[n*99/100], Max: us[n-1]}
}
