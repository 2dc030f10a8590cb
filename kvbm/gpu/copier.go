package gpu

import (
	"encoding/binary"
	"errors"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/cuda"
)

// streamCopier submits to a stream of the GPU, with an event for each place.
type streamCopier struct {
	ctx     *cuda.Context
	stream  *cuda.Stream
	events  [maxCalls]*cuda.Event
	started [maxCalls]time.Time
	ended   time.Time // of the last call
	// perByte is what a byte takes to move, in ns, on the average of the last
	// calls.
	perByte float64
	// perCopy is what a plain copy takes to submit, in ns, lately. It depends on
	// the machine, and on who else is in the driver.
	perCopy float64

	mu      sync.Mutex
	scratch []byte // pinned, for counters
}

const (
	// early is the share of a call's usual time that is slept away, if that is at
	// least worthSleeping. The rest is for the sleep's own lateness.
	early         = 0.6
	worthSleeping = 60 * time.Microsecond
	// glance is how long a wait for one event may last before the copier looks
	// whether it still makes sense.
	glance = 20 * time.Millisecond
	// pollPeriod is how often a counter is read where streams cannot wait.
	pollPeriod = 20 * time.Microsecond

	// Until measured: a PCIe 5 link, and a slow driver.
	initialPerByte = 0.02
	initialPerCopy = 800
	// busy is the share of a call's time that the next one's submission may take.
	busy = 0.7
)

func newStreamCopier(ctx *cuda.Context) (c *streamCopier, err error) {
	c = &streamCopier{ctx: ctx, perByte: initialPerByte, perCopy: initialPerCopy}
	if c.stream, err = ctx.NewStream(); err != nil {
		return nil, err
	}
	for i := range c.events {
		if c.events[i], err = ctx.NewEvent(); err != nil {
			return nil, err
		}
	}
	if c.scratch, err = unix.Mmap(-1, 0, 4096, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE); err != nil {
		return nil, err
	}
	return c, ctx.Register(c.scratch)
}

// abandon is close after the context was reset: its streams and events went
// with it.
func (c *streamCopier) abandon() { _ = unix.Munmap(c.scratch) }

func (c *streamCopier) close() error {
	errs := []error{c.stream.Sync(), c.ctx.Unregister(c.scratch), unix.Munmap(c.scratch)}
	for _, e := range c.events {
		errs = append(errs, e.Close())
	}
	return errors.Join(append(errs, c.stream.Close())...)
}

func (c *streamCopier) submit(place int, work *cuda.Copies, after cuda.Counter) error {
	if after.Addr != 0 && !c.ctx.CanWait() {
		if err := c.poll(after); err != nil {
			return err
		}
		after = cuda.Counter{}
	}
	c.started[place] = time.Now()
	if after.Addr != 0 {
		c.started[place] = time.Time{} // when it begins is the engine's business
	}
	start := time.Now()
	err := c.stream.Submit(work, after, c.events[place])
	if n := len(work.Dst); n >= 16 {
		c.perCopy += (float64(time.Since(start))/float64(n) - c.perCopy) / 8
	}
	if err != nil {
		// Part of it may be under way, on memory that the caller takes back.
		err = errors.Join(err, c.stream.Sync())
	}
	return err
}

func (c *streamCopier) wait(place, bytes int) error {
	begun := c.started[place]
	known := !begun.IsZero()
	if c.ended.After(begun) {
		begun = c.ended
	}
	expected := time.Duration(0)
	if known {
		expected = time.Duration(early*float64(bytes)*c.perByte) - time.Since(begun)
	}
	if expected < worthSleeping {
		expected = 0
	}
	err := c.events[place].Wait(expected, glance)
	for errors.Is(err, cuda.ErrNotReady) {
		err = c.events[place].Wait(0, glance)
	}
	c.ended = time.Now()
	if err == nil && known {
		// A late look makes this call seem longer and the next one shorter; the
		// average is right. One that was very late counts for less.
		sample := min(float64(c.ended.Sub(begun))/float64(bytes), 2*c.perByte)
		c.perByte += (sample - c.perByte) / 32
	}
	return err
}

func (c *streamCopier) plain(bytes int) int {
	return int(busy * float64(bytes) * c.perByte / c.perCopy)
}

// poll reads a counter until it is reached.
func (c *streamCopier) poll(after cuda.Counter) error {
	var read cuda.Copies
	read.Add(cuda.HostAddr(c.scratch), after.Addr, 8)
	for {
		if err := c.stream.Submit(&read, cuda.Counter{}, c.events[0]); err != nil {
			return err
		}
		if err := c.stream.Sync(); err != nil {
			return err
		}
		if binary.NativeEndian.Uint64(c.scratch) >= after.AtLeast {
			return nil
		}
		time.Sleep(pollPeriod)
	}
}

// raise sets a counter, past all that waits for it.
func (c *streamCopier) raise(control *cuda.Stream, to cuda.Counter) error {
	if c.ctx.CanWait() {
		return errors.Join(control.WriteValue(to.Addr, to.AtLeast), control.Sync())
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	binary.NativeEndian.PutUint64(c.scratch[8:], to.AtLeast)
	done, err := c.ctx.NewEvent()
	if err != nil {
		return err
	}
	var write cuda.Copies
	write.Add(to.Addr, cuda.HostAddr(c.scratch[8:]), 8)
	return errors.Join(control.Submit(&write, cuda.Counter{}, done), control.Sync(), done.Close())
}
