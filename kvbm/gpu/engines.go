package gpu

import (
	"context"
	"errors"
	"fmt"
	"math"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/kvbm/policy"
)

var (
	// ErrGone means that the engine ended, sleeps or freed its memory.
	ErrGone = errors.New("gpu: the engine's memory is gone")
	// ErrReset means that the device is being reset. It comes back by itself.
	ErrReset = errors.New("gpu: the device is being reset")
	// ErrLost means that this process cannot use the GPU any more.
	ErrLost = errors.New("gpu: lost to this process; restart the agent")
)

// Engine is an engine's KV memory, mapped here. Its methods are safe for
// concurrent use.
type Engine struct {
	dev  *Device
	reg  Registration
	save port
	load port
	proc *process // nil: nobody watches
	gone chan struct{}

	// Guarded by Device.mu.
	maps     []*cuda.Mapping
	counter  uint64
	decoding bool
	closed   bool
}

// Attach maps an engine's memory and watches its process. The registration's
// descriptors belong to the Engine from now on, with an error too.
func (d *Device) Attach(reg Registration) (_ *Engine, err error) {
	e := &Engine{dev: d, reg: reg, save: port{lane: d.down}, load: port{lane: d.up}, gone: make(chan struct{})}
	d.mu.Lock()
	defer d.mu.Unlock()
	defer func() {
		if err != nil {
			e.closed = true
			e.proc.stop()
			e.reg.closeFDs()
		}
	}()
	if d.dead {
		return nil, ErrLost
	}
	if d.closed {
		return nil, errors.New("gpu: the device is closed")
	}
	if err := reg.validate(); err != nil {
		return nil, err
	}
	if reg.PID != 0 { // before the memory is mapped, or its end could be missed
		if e.proc, err = watch(reg.PID, func() { _ = e.Close() }); err != nil {
			return nil, err
		}
	}
	if err := e.open(); err != nil {
		return nil, err
	}
	d.engines[e] = struct{}{}
	return e, nil
}

// open maps the memory and opens the ports. Device.mu is held.
func (e *Engine) open() (err error) {
	for _, m := range e.reg.Memories {
		mapping, err := e.dev.ctx.Import(m)
		if err != nil {
			return errors.Join(fmt.Errorf("gpu: mapping the engine's memory: %w", err), e.unmap())
		}
		e.maps = append(e.maps, mapping)
	}
	fragments := make([]Fragment, len(e.reg.Fragments))
	for i, f := range e.reg.Fragments {
		fragments[i] = Fragment{Base: e.maps[f.Memory].Addr() + f.Offset, Stride: f.Stride, Bytes: f.Bytes}
	}
	layout, err := NewLayout(e.reg.Pages, fragments)
	if err != nil {
		return errors.Join(err, e.unmap())
	}
	if c := e.reg.Counter; c != nil {
		e.counter = e.maps[c.Memory].Addr() + c.Offset
	}
	e.save.open(layout, e.counter)
	e.load.open(layout, e.counter)
	return nil
}

func (e *Engine) unmap() error {
	var errs []error
	for _, m := range e.maps {
		errs = append(errs, m.Close())
	}
	e.maps = nil
	return errors.Join(errs...)
}

// abandon forgets mappings of a context that was reset.
func (e *Engine) abandon() error {
	var errs []error
	for _, m := range e.maps {
		errs = append(errs, m.Abandon())
	}
	e.maps = nil
	return errors.Join(errs...)
}

// quiesce ends the work on the engine's memory. Device.mu is held.
func (e *Engine) quiesce(why error) {
	e.save.refuse(why)
	e.load.refuse(why)
	if e.counter != 0 && !e.dev.dead {
		// A call may wait for a step that the engine will not make any more.
		e.dev.raise(cuda.Counter{Addr: e.counter, AtLeast: math.MaxInt64})
	}
	e.save.drain()
	e.load.drain()
}

// Close lets the engine's memory go: when it ends, before it sleeps or frees.
// After it returns nothing touches that memory. Transfers that were not done
// fail with ErrGone. Again it does nothing.
func (e *Engine) Close() error {
	e.dev.mu.Lock()
	defer e.dev.mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	delete(e.dev.engines, e)
	e.proc.stop()
	e.quiesce(ErrGone)
	var err error
	if !e.dev.dead { // else the mapping ends with the process
		err = e.unmap()
	}
	e.reg.closeFDs()
	e.dev.setPace()
	close(e.gone)
	return err
}

// Gone is closed when the memory has been let go.
func (e *Engine) Gone() <-chan struct{} { return e.gone }

// BlockBytes is the size of one of the engine's blocks.
func (e *Engine) BlockBytes() int {
	n := 0
	for _, f := range e.reg.Fragments {
		n += f.Bytes
	}
	return n
}

// SetDecoding says whether the engine has streams that wait for their next
// token. While any engine of the GPU does, transfers keep out of its way.
func (e *Engine) SetDecoding(on bool) {
	e.dev.mu.Lock()
	defer e.dev.mu.Unlock()
	if e.decoding != on && !e.closed {
		e.decoding = on
		e.dev.setPace()
	}
}

// Save copies pages to host slots and returns when they are there. With step
// not 0 the copy begins after the engine has set its counter to that or more.
// Slots must be pinned by Device.Pin.
func (e *Engine) Save(ctx context.Context, ts []Transfer, step uint64) error {
	if step != 0 && e.reg.Counter == nil {
		return errors.New("gpu: the engine registered no step counter to wait for")
	}
	return e.move(ctx, &e.save, policy.Offload, ts, step)
}

// Load copies host slots to pages and returns when they are there. The engine
// must not use the pages before.
func (e *Engine) Load(ctx context.Context, prio policy.Priority, ts []Transfer) error {
	return e.move(ctx, &e.load, prio, ts, 0)
}

func (e *Engine) move(ctx context.Context, p *port, prio policy.Priority, ts []Transfer, step uint64) error {
	for _, t := range ts {
		if err := e.dev.pins.ensure(t.Host); err != nil {
			return e.dev.noticed(err)
		}
	}
	return e.dev.noticed(p.do(ctx, prio, ts, step))
}
