package cuda

// #include "driver.h"
import "C"

import (
	"bytes"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Copies is the work of one call, kept to be filled again. Addresses are of
// device memory or of pinned host memory, sources are read and targets written
// in no particular order.
type Copies struct {
	Dst, Src, Len []uint64
	Rects         []Rect
	Bytes         int
}

// Rect copies rows of the same width at constant distances. It stays on the
// copy engine however short its rows, where a plain copy to the device of
// MaxComputeCopy bytes or fewer would not.
type Rect struct {
	Dst, Src, Width, Rows, DstPitch, SrcPitch uint64
}

// MaxComputeCopy is the largest plain copy to the device that goes through the
// compute engine. Beside a busy engine it waits for a time slice of about 2 ms
// and takes it from the engine.
const MaxComputeCopy = 24 << 10

// Reset forgets the copies but not their room.
func (c *Copies) Reset() {
	c.Dst, c.Src, c.Len, c.Rects, c.Bytes = c.Dst[:0], c.Src[:0], c.Len[:0], c.Rects[:0], 0
}

// Add adds a plain copy.
func (c *Copies) Add(dst, src uint64, n int) {
	c.Dst, c.Src, c.Len = append(c.Dst, dst), append(c.Src, src), append(c.Len, uint64(n))
	c.Bytes += n
}

// AddRect adds rows.
func (c *Copies) AddRect(r Rect) {
	c.Rects = append(c.Rects, r)
	c.Bytes += int(r.Width * r.Rows)
}

// Counter is a 64-bit value in device memory that only grows. The zero Counter
// is reached.
type Counter struct{ Addr, AtLeast uint64 }

// Submit queues the copies behind the counter, and then the event, in one call
// to C. It does not wait. The Copies may be reused at once.
func (s *Stream) Submit(c *Copies, after Counter, done *Event) error {
	return s.submit(s.c.method, c, after, done)
}

func (s *Stream) submit(m Method, c *Copies, after Counter, done *Event) error {
	var dst, src, n *uint64
	var rects *Rect
	if len(c.Dst) > 0 {
		dst, src, n = &c.Dst[0], &c.Src[0], &c.Len[0]
	}
	if len(c.Rects) > 0 {
		rects = &c.Rects[0]
	}
	return s.c.d.check(m.String(), C.kv_submit(s.c.d.fn, s.c.ctx, s.s, done.e, C.int(m),
		C.uint64_t(after.Addr), C.uint64_t(after.AtLeast),
		(*C.uint64_t)(dst), (*C.uint64_t)(src), (*C.size_t)(n), C.size_t(len(c.Dst)),
		(*C.kv_rect)(unsafe.Pointer(rects)), C.size_t(len(c.Rects))))
}

// Method is how the plain copies of a call are submitted.
type Method int

// From the best to the one that always works.
const (
	Batch13  Method = C.KV_BATCH_13_0 // cuMemcpyBatchAsync as CUDA 13.0 has it
	Batch128 Method = C.KV_BATCH_12_8 // as CUDA 12.8 has it
	Loop     Method = C.KV_LOOP       // one cuMemcpyAsync each
)

func (m Method) String() string {
	switch m {
	case Batch13:
		return "cuMemcpyBatchAsync (13.0)"
	case Batch128:
		return "cuMemcpyBatchAsync (12.8)"
	}
	return "cuMemcpyAsync in a loop"
}

// Method is what the self-test chose.
func (c *Context) Method() Method { return c.method }

func (c *Context) has(m Method) bool {
	return m == Loop || m == Batch13 && c.d.fn.batch_13_0 != nil || m == Batch128 && c.d.fn.batch_12_8 != nil
}

// selfTest chooses the first method that copies what it should, and finds out
// whether streams can wait. The batch call is new, its ABI changed once, and
// drivers were seen where it failed.
func (c *Context) selfTest() (err error) {
	const fragment, fragments = 32 << 10, 4
	host, err := unix.Mmap(-1, 0, 2*fragment*fragments, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return err
	}
	defer unix.Munmap(host)
	if err := c.Register(host); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Unregister(host)) }()
	dev, err := c.Alloc(fragment * fragments)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.Free(dev)) }()
	s, err := c.NewStream()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	done, err := c.NewEvent()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, done.Close()) }()

	c.waits = s.WriteValue(dev, 1) == nil && s.WaitValue(dev, 1) == nil && s.Sync() == nil
	var failures []error
	for _, m := range []Method{Batch13, Batch128, Loop} {
		if !c.has(m) {
			continue
		}
		err := s.trial(m, host, dev, fragment, done)
		if err == nil {
			c.method = m
			return nil
		}
		if Lost(err) {
			return err
		}
		failures = append(failures, err)
	}
	return errors.Join(failures...)
}

// trial copies the first half of host to the device, with its fragments in
// reverse, as plain copies and as rows, and back into the second half.
func (s *Stream) trial(m Method, host []byte, dev uint64, fragment int, done *Event) error {
	half := len(host) / 2
	in, out := host[:half], host[half:]
	for i := range in {
		in[i], out[i] = byte(i*7+i>>8+int(m)), 0
	}
	n := half / fragment
	var down, up Copies
	for i := range n {
		down.Add(dev+uint64((n-1-i)*fragment), HostAddr(in[i*fragment:]), fragment)
	}
	// The same rows, two by two, so that both kinds of copy are tried.
	up.AddRect(Rect{HostAddr(out), dev, uint64(fragment), uint64(n / 2), uint64(2 * fragment), uint64(2 * fragment)})
	for i := 1; i < n; i += 2 {
		up.Add(HostAddr(out[i*fragment:]), dev+uint64(i*fragment), fragment)
	}
	for _, c := range []*Copies{&down, &up} {
		if err := s.submit(m, c, Counter{}, done); err != nil {
			return err
		}
		if err := done.Wait(0, 5*time.Second); err != nil {
			return fmt.Errorf("%s: %w", m, err)
		}
	}
	for i := range n {
		if !bytes.Equal(out[i*fragment:(i+1)*fragment], in[(n-1-i)*fragment:(n-i)*fragment]) {
			return fmt.Errorf("cuda: %s copied the wrong bytes", m)
		}
	}
	return nil
}
