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

	mu      sync.Mutex
	ctx     *cuda.Context
	copiers [2]*streamCopier
	control *cuda.Stream // for counters
	engines map[*Engine]struct{}
	dead    bool // lost to this process
	closed  bool
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
	if err := dev.pins.use(dev.start); err != nil {
		return nil, err
	}
	o.Log.Info("gpu in use", "gpu", ordinal, "copies", dev.ctx.Method(), "stream_wait", dev.ctx.CanWait())
	return dev, nil
}

// start makes the context and what lives in it. If it fails, the device is as
// it was.
func (d *Device) start() (*cuda.Context, error) {
	ctx, err := d.driver.Context(d.ordinal)
	if err != nil {
		return nil, err
	}
	control, err := ctx.NewStream()
	var copiers [2]*streamCopier
	for i := range copiers {
		if err == nil {
			copiers[i], err = newStreamCopier(ctx)
		}
	}
	if err != nil {
		return nil, errors.Join(err, ctx.Close())
	}
	d.ctx, d.control, d.copiers = ctx, control, copiers
	for i, l := range []*lane{d.down, d.up} {
		l.mu.Lock()
		l.copier = copiers[i]
		l.mu.Unlock()
	}
	return ctx, nil
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
	if d.dead { // nothing may be called any more
		return errors.Join(errs...)
	}
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

// noticed looks at a transfer's error. After one that means that the GPU is lost
// nothing is called any more, and every transfer fails.
func (d *Device) noticed(err error) error {
	if !cuda.Lost(err) {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.dead {
		d.dead = true
		d.pins.lose()
		d.log.Error("the GPU is lost to this process; its blocks are missed, and the engine's memory stays allocated until the agent is restarted",
			"gpu", d.ordinal, "err", err)
		for e := range d.engines {
			e.save.refuse(ErrLost)
			e.load.refuse(ErrLost)
		}
	}
	return fmt.Errorf("%w: %w", ErrLost, err)
}

// Reset destroys the device's context, and with it what the driver keeps for
// it, and makes a new one. Transfers fail with ErrReset meanwhile; then the
// engines' memory is mapped again and they are served as before. An engine whose
// memory cannot be mapped again is closed.
func (d *Device) Reset() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead || d.closed {
		return ErrLost
	}
	for e := range d.engines {
		e.quiesce(ErrReset)
	}
	var errs []error
	err := d.pins.use(func() (*cuda.Context, error) {
		errs = append(errs, d.ctx.Reset(), d.ctx.Close())
		for e := range d.engines {
			errs = append(errs, e.abandon())
		}
		for _, c := range d.copiers {
			c.abandon()
		}
		return d.start()
	})
	if err != nil {
		d.dead = true
		return errors.Join(append(errs, ErrLost, err)...)
	}
	for e := range d.engines {
		if err := e.open(); err != nil {
			errs = append(errs, err)
			go e.Close()
		}
	}
	return errors.Join(errs...)
}
