package tierbench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
)

// Latency is a distribution, in microseconds.
type Latency struct {
	P50 float64 `json:"p50"`
	P90 float64 `json:"p90"`
	P99 float64 `json:"p99"`
	Max float64 `json:"max"`
	N   int     `json:"n"`
}

const (
	// The tier holds a few blocks that are loaded in turn and room for what is
	// offloaded meanwhile; the gpu pool is small, so that they leave it again.
	latencyGPU    = 32
	latencyTier   = 256
	latencyProbes = 8
	latencyLoads  = 300
	latencyLimit  = 20 * time.Second // for one distribution
	floodBytes    = 2 << 30
)

// latencies measures single blocks: at rest, beside offloads, and at the limit.
func latencies(ctx context.Context, o Options, t *TierReport, l limit) (err error) {
	var dir string
	if t.Tier == kv.Disk {
		if dir, err = os.MkdirTemp(o.Dir, "kvasir-bench-"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	d, err := newDriver(ctx, t.Tier, latencyGPU, latencyTier, o, dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	probes := d.name(1 << 20)[:latencyProbes]
	if err := d.store(probes); err != nil {
		return err
	}
	if t.Load, err = d.loads(ctx, probes); err != nil {
		return err
	}
	flood, stop := context.WithCancel(ctx)
	flooded := make(chan error, 1)
	go func() {
		defer stop()
		flooded <- d.flood(flood)
	}()
	t.LoadBeside, err = d.loads(flood, probes)
	stop()
	if err = errors.Join(err, <-flooded); err != nil {
		return err
	}
	if t.LimitStore, err = distribution(func() error { return l.write(1) }); err != nil {
		return err
	}
	t.LimitLoad, err = distribution(func() error { return l.read(1) })
	return err
}

func distribution(do func() error) (Latency, error) {
	var took []time.Duration
	for range latencyLoads {
		start := time.Now()
		if err := do(); err != nil {
			return Latency{}, err
		}
		took = append(took, time.Since(start))
	}
	return summarise(took), nil
}

func summarise(took []time.Duration) Latency {
	slices.Sort(took)
	at := func(q float64) float64 { return float64(took[int(q*float64(len(took)-1))].Nanoseconds()) / 1e3 }
	return Latency{P50: at(.5), P90: at(.9), P99: at(.99), Max: at(1), N: len(took)}
}

// store commits blocks in gpu and waits until they are in the tier.
func (d *driver) store(bs []kv.Block) error {
	if err := d.commit(bs); err != nil {
		return err
	}
	d.drain()
	if there := d.there(bs); there < len(bs) {
		return fmt.Errorf("only %d of %d blocks reached the tier", there, len(bs))
	}
	return nil
}

func (d *driver) commit(bs []kv.Block) error {
	fills, err := d.m.GPU().Reserve(len(bs))
	if err != nil {
		return err
	}
	for i, f := range fills {
		if l, ok := f.Commit(bs[i]); ok {
			l.Release()
		} else {
			f.Abort()
		}
	}
	return nil
}

// flood offloads new blocks as fast as the tier takes them, until ctx ends; at
// most floodBytes, because Redis keeps them all.
func (d *driver) flood(ctx context.Context) error {
	const batch = 4
	for round := 1 << 21; ; round++ {
		names := d.name(round)
		for at := 0; at+batch <= len(names); {
			if ctx.Err() != nil || int64(round-1<<21)*int64(len(names)*d.blockBytes) > floodBytes {
				return nil
			}
			down := d.m.Stats().Links[0] // gpu -> cpu is always the first
			if down.Queued > latencyGPU/2 {
				time.Sleep(50 * time.Microsecond)
				continue
			}
			switch err := d.commit(names[at : at+batch]); {
			case errors.Is(err, kvbm.ErrFull):
				time.Sleep(50 * time.Microsecond)
			case err != nil:
				return err
			default:
				at += batch
			}
		}
	}
}

// loads measures single loads of the probes, until there are enough or ctx ends. What is in gpu still, or was pushed
// out of the tier by what is offloaded, does not count.
func (d *driver) loads(ctx context.Context, probes []kv.Block) (Latency, error) {
	var took []time.Duration
	for i, deadline := 0, time.Now().Add(latencyLimit); len(took) < latencyLoads && time.Now().Before(deadline) && ctx.Err() == nil; i++ {
		if fills, err := d.m.GPU().Reserve(latencyGPU); err == nil { // empties it, if nothing is going on
			for _, f := range fills {
				f.Abort()
			}
		}
		probe := probes[i%len(probes)]
		start := time.Now()
		o := d.m.Onboard(d.ctx, kvbm.OnboardRequest{Blocks: []kv.Block{{Hash: probe.Hash}}})
		r := o.Result()
		if r.Blocks[d.tier] == 1 {
			took = append(took, time.Since(start))
		}
		o.Release()
		if r.Missed > 0 {
			if err := d.commit([]kv.Block{probe}); err != nil && !errors.Is(err, kvbm.ErrFull) {
				return Latency{}, err
			}
		}
	}
	if len(took) == 0 {
		return Latency{}, errors.New("no block could be loaded")
	}
	return summarise(took), nil
}
