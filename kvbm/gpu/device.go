package gpu

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/kvasir-ai/kvasir/cuda"
)

// Options are a Device's.
type Options struct {
	// Slowdown is the share by which transfers may slow a decoding engine down;
	// 0 means 2 %.
	Slowdown float64
	// Log gets what an operator should know; nil discards it.
	Log *slog.Logger
}

const defaultSlowdown = 0.02

// Device is one GPU, as the agent uses it.
type Device struct {
	driver   *cuda.Driver
	ordinal  int
	slowdown float64
	log      *slog.Logger
	down, up *lane // to the host, to the device
	pins     pins

	mu       sync.Mutex
	ctx      *cuda.Context
	copiers  [2]*streamCopier
	control  *cuda.Stream // for counters
	engines  map[*Engine]struct{}
	resets   int
	starting bool // a reset is under way
	closed   bool
	wg       sync.WaitGroup
}

// Open takes a GPU into use.
func Open(d *cuda.Driver, ordinal int, o Options) (*Device, error) {
	if o.Slowdown == 0 {
		o.Slowdown = defaultSlowdown
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	dev := &Device{driver: d, ordinal: ordinal, slowdown: o.Slowdown, log: o.Log, engines: make(map[*Engine]struct{})}
	dev.down, dev.up = newLane(false, nil, freely), newLane(true, nil, freely)
	if err := dev.start(); err != nil {
		return nil, err
	}
	o.Log.Info("gpu in use", "gpu", ordinal, "copies", dev.ctx.Method(), "stream_wait", dev.ctx.CanWait())
	return dev, nil
}

// start makes the context and what lives in it.
func (d *Device) start() (err error) {
	if d.ctx, err = d.driver.Context(d.ordinal); err != nil {
		return err
	}
	d.control, err = d.ctx.NewStream()
	for i, l := range []*lane{d.down, d.up} {
		if err == nil {
			d.copiers[i], err = newStreamCopier(d.ctx)
		}
		if err == nil {
			l.mu.Lock()
			l.copier = d.copiers[i]
			l.mu.Unlock()
		}
	}
	if err != nil {
		return errors.Join(err, d.ctx.Close())
	}
	d.pins.use(d.ctx)
	return nil
}

// Close lets all engines' memory go, unpins the host's, and releases the GPU.
func (d *Device) Close() error {
	d.mu.Lock()
	d.closed = true
	engines := make([]*Engine, 0, len(d.engines))
	for e := range d.engines {
		engines = append(engines, e)
	}
	d.mu.Unlock()
	var errs []error
	for _, e := range engines {
		errs = append(errs, e.Close())
	}
	d.wg.Wait()
	errs = append(errs, d.pins.close())
	for _, c := range d.copiers {
		errs = append(errs, c.close())
	}
	return errors.Join(append(errs, d.control.Close(), d.ctx.Close())...)
}

// Context is the device's, for memory and streams beside the lanes. It does
// not outlive a reset.
func (d *Device) Context() *cuda.Context {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.ctx
}

// Resets counts the contexts that were lost.
func (d *Device) Resets() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.resets
}

// setPace follows the engines. mu is held.
func (d *Device) setPace() {
	p := freely
	for e := range d.engines {
		if e.decoding {
			p = paceBeside(d.slowdown)
		}
	}
	d.down.setPace(p)
	d.up.setPace(p)
}

// raise sets an engine's counter in its stead. mu is held.
func (d *Device) raise(c cuda.Counter) {
	if err := d.copiers[0].raise(d.control, c); err != nil {
		d.log.Warn("cannot release a transfer that waits for an engine's step", "gpu", d.ordinal, "err", err)
	}
}

// noticed looks at a transfer's error. One that means a lost context starts
// the device over.
func (d *Device) noticed(err error) error {
	if !cuda.Lost(err) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.starting && !d.closed {
		d.starting = true
		d.wg.Go(func() { d.restart(err) })
	}
	return fmt.Errorf("%w: %w", ErrReset, err)
}

// restart replaces a lost context. Engines that live get their memory mapped
// again; what cannot be mapped is gone.
func (d *Device) restart(why error) {
	d.log.Warn("the GPU's context is lost; making a new one", "gpu", d.ordinal, "err", why)
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() { d.starting = false }()
	d.resets++
	for e := range d.engines {
		e.save.refuse(ErrReset)
		e.load.refuse(ErrReset)
	}
	for e := range d.engines {
		e.save.drain()
		e.load.drain()
	}
	// Nothing may be called in the lost context; what was in it goes with it.
	err := errors.Join(d.ctx.Reset(), d.ctx.Close())
	for e := range d.engines {
		err = errors.Join(err, e.abandon())
	}
	d.pins.abandon()
	for _, c := range d.copiers {
		c.abandon()
	}
	if startErr := d.start(); startErr != nil {
		d.log.Error("the GPU cannot be used again; restart the agent", "gpu", d.ordinal, "err", errors.Join(startErr, err))
		return
	}
	for e := range d.engines {
		if err := e.open(); err != nil {
			d.log.Warn("an engine's memory cannot be mapped again", "gpu", d.ordinal, "pid", e.reg.PID, "err", err)
			d.wg.Go(func() { _ = e.Close() })
		}
	}
}
