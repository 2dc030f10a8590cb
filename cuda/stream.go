package cuda

// #cgo noescape kv_submit
// #cgo nocallback kv_submit
// #cgo nocallback kv_event_wait
// #include "driver.h"
import "C"

import (
	"errors"
	"time"
	"unsafe"
)

// Stream is a queue of work on the GPU. Its methods are not safe for
// concurrent use, but for Close they may be called from different goroutines.
type Stream struct {
	c *Context
	s unsafe.Pointer
}

// Event marks a place in a stream.
type Event struct {
	c *Context
	e unsafe.Pointer
}

// NewStream makes a stream that waits for no other.
func (c *Context) NewStream() (*Stream, error) {
	s := &Stream{c: c}
	return s, c.d.check("cuStreamCreate", C.kv_stream_create(c.d.fn, c.ctx, &s.s))
}

// Close destroys the stream once its work is done.
func (s *Stream) Close() error {
	return s.c.d.check("cuStreamDestroy", C.kv_stream_destroy(s.c.d.fn, s.c.ctx, s.s))
}

// Sync waits for all work of the stream.
func (s *Stream) Sync() error {
	return s.c.d.check("cuStreamSynchronize", C.kv_stream_sync(s.c.d.fn, s.c.ctx, s.s))
}

// WriteValue sets a 64-bit counter in device memory, after the work queued
// before.
func (s *Stream) WriteValue(addr, value uint64) error {
	return s.c.d.check("cuStreamWriteValue64", C.kv_stream_write64(s.c.d.fn, s.c.ctx, s.s, C.uint64_t(addr), C.uint64_t(value)))
}

// WaitValue holds what is queued after it until a counter in device memory is
// at least value.
func (s *Stream) WaitValue(addr, value uint64) error {
	return s.c.d.check("cuStreamWaitValue64", C.kv_stream_wait64(s.c.d.fn, s.c.ctx, s.s, C.uint64_t(addr), C.uint64_t(value)))
}

// CanWait reports whether streams can wait for a counter; without, the counter
// has to be read.
func (c *Context) CanWait() bool { return c.waits }

// NewEvent makes an event.
func (c *Context) NewEvent() (*Event, error) {
	e := &Event{c: c}
	return e, c.d.check("cuEventCreate", C.kv_event_create(c.d.fn, c.ctx, &e.e))
}

// Close destroys the event.
func (e *Event) Close() error {
	return e.c.d.check("cuEventDestroy", C.kv_event_destroy(e.c.d.fn, e.c.ctx, e.e))
}

// ErrNotReady means that an event has not happened within the time given.
var ErrNotReady = errors.New("cuda: not ready yet")

// patience is how long Wait looks all the time. What lasts longer waits for an
// engine, and is not worth a core.
const patience = 2 * time.Millisecond

// Wait waits for the event, for limit at most. It does not look before
// expected is over, and then looks all the time: a copy that ended must be
// followed by the next at once. It looks from Go, because a thread that stays in
// C for long loses its place to run Go code and has to get another.
func (e *Event) Wait(expected, limit time.Duration) error {
	const once = -1
	start := time.Now()
	r := e.look(expected, once)
	for r == codeNotReady && time.Since(start) < min(limit, expected+patience) {
		r = e.look(0, once)
	}
	if left := limit - time.Since(start); r == codeNotReady && left > 0 {
		r = e.look(0, left)
	}
	if r == codeNotReady {
		return ErrNotReady
	}
	return e.c.d.check("cuEventQuery", r)
}

func (e *Event) look(sleep, limit time.Duration) C.int {
	return C.kv_event_wait(e.c.d.fn, e.c.ctx, e.e, C.int64_t(sleep), C.int64_t(limit))
}
