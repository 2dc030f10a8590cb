package cuda

// #include <stdlib.h>
// #include "driver.h"
import "C"

import "unsafe"

// Module is code loaded from PTX, which the driver compiles for the GPU.
type Module struct {
	c *Context
	m unsafe.Pointer
}

// Kernel is an entry point of a module.
type Kernel struct {
	c  *Context
	fn unsafe.Pointer
}

// LoadPTX compiles and loads a module.
func (c *Context) LoadPTX(ptx string) (*Module, error) {
	text := C.CString(ptx)
	defer C.free(unsafe.Pointer(text))
	m := &Module{c: c}
	return m, c.d.check("cuModuleLoadData", C.kv_module_load(c.d.fn, c.ctx, text, &m.m))
}

// Close unloads the module.
func (m *Module) Close() error {
	return m.c.d.check("cuModuleUnload", C.kv_module_unload(m.c.d.fn, m.c.ctx, m.m))
}

// Kernel finds an entry point.
func (m *Module) Kernel(name string) (*Kernel, error) {
	text := C.CString(name)
	defer C.free(unsafe.Pointer(text))
	k := &Kernel{c: m.c}
	return k, m.c.d.check("cuModuleGetFunction", C.kv_module_function(m.c.d.fn, m.c.ctx, m.m, text, &k.fn))
}

// Launch queues the kernel. It takes at most 8 arguments, each of 64 bits.
func (k *Kernel) Launch(s *Stream, blocks, threads int, args ...uint64) error {
	return k.c.d.check("cuLaunchKernel", C.kv_launch(k.c.d.fn, k.c.ctx, k.fn, C.uint(blocks), C.uint(threads), s.s,
		(*C.uint64_t)(unsafe.SliceData(args)), C.int(len(args))))
}
