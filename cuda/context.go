package cuda

// #include "driver.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Context is a GPU's primary context, retained. Its methods are safe for
// concurrent use and may be called from any goroutine: each makes the context
// current for its own call.
type Context struct {
	d      *Driver
	ctx    unsafe.Pointer
	dev    C.int
	method Method
	waits  bool // streams can wait for a counter
}

// Context retains the primary context of a GPU and tests what the copies of a
// call can be submitted with.
func (d *Driver) Context(ordinal int) (*Context, error) {
	c := &Context{d: d}
	if err := d.check("cuDevicePrimaryCtxRetain", C.kv_ctx_retain(d.fn, C.int(ordinal), &c.dev, &c.ctx)); err != nil {
		return nil, fmt.Errorf("%w; is GPU %d there, and in a compute mode that lets a second process in?", err, ordinal)
	}
	if err := c.selfTest(); err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("cuda: GPU %d failed its self-test: %w", ordinal, err)
	}
	return c, nil
}

// Close releases the context. What was made in it must be closed before.
func (c *Context) Close() error {
	return c.d.check("cuDevicePrimaryCtxRelease", C.kv_ctx_release(c.d.fn, c.dev))
}

// Reset destroys the context and everything in it, for all of this process.
// After it only Close is allowed. It does not help after an error that Lost
// reports.
func (c *Context) Reset() error {
	return c.d.check("cuDevicePrimaryCtxReset", C.kv_ctx_reset(c.d.fn, c.dev))
}

// MemInfo is the GPU's memory: what is free, and all of it.
func (c *Context) MemInfo() (free, total uint64, err error) {
	var f, t C.size_t
	err = c.d.check("cuMemGetInfo", C.kv_mem_info(c.d.fn, c.ctx, &f, &t))
	return uint64(f), uint64(t), err
}

// Alloc gets device memory.
func (c *Context) Alloc(n int) (addr uint64, err error) {
	var p C.uint64_t
	err = c.d.check("cuMemAlloc", C.kv_mem_alloc(c.d.fn, c.ctx, C.size_t(n), &p))
	return uint64(p), err
}

// Free gives back what Alloc got.
func (c *Context) Free(addr uint64) error {
	return c.d.check("cuMemFree", C.kv_mem_free(c.d.fn, c.ctx, C.uint64_t(addr)))
}

// Register pins ordinary memory, so that copy engines reach it. It must not be
// Go's, which may not be handed to a device for longer than a call.
func (c *Context) Register(b []byte) error {
	return c.d.check("cuMemHostRegister", C.kv_host_register(c.d.fn, c.ctx, unsafe.Pointer(&b[0]), C.size_t(len(b))))
}

// Unregister undoes Register of the same memory.
func (c *Context) Unregister(b []byte) error {
	return c.d.check("cuMemHostUnregister", C.kv_host_unregister(c.d.fn, c.ctx, unsafe.Pointer(&b[0])))
}

// HostAddr is the address of pinned memory as copies take it: with unified
// addressing, its own.
func HostAddr(b []byte) uint64 { return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(b)))) }
