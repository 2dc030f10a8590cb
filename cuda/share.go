package cuda

// #include "driver.h"
import "C"

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// ErrNotShareable means that the driver will not let another process map the
// memory, whatever is tried.
var ErrNotShareable = errors.New("cuda: this memory cannot be shared with another process: it was made without an exportable handle, " +
	"as vLLM's sleep mode does; start the engine without --enable-sleep-mode")

// Export is device memory described so that another process can map it: by a
// legacy IPC handle of its allocation, or by one file descriptor for each piece
// of memory that is mapped there in a row (expandable segments).
type Export struct {
	Handle []byte   `json:"handle,omitempty"` // legacy
	Pieces []uint64 `json:"pieces,omitempty"` // sizes; one descriptor each
	Offset uint64   `json:"offset"`           // of the memory in what is mapped
	Size   uint64   `json:"size"`
	FDs    []int    `json:"-"` // travel beside it by SCM_RIGHTS; the holder closes them
}

// Export describes memory of this process for another one.
func (c *Context) Export(addr, size uint64) (Export, error) {
	base, whole, err := c.addressRange(addr)
	if err != nil {
		return Export{}, err
	}
	e := Export{Handle: make([]byte, C.sizeof_kv_ipc_handle), Offset: addr - base, Size: size}
	err = c.d.check("cuIpcGetMemHandle", C.kv_ipc_get(c.d.fn, c.ctx, C.uint64_t(addr), unsafe.Pointer(&e.Handle[0])))
	if err == nil {
		if e.Offset+size > whole {
			return Export{}, fmt.Errorf("cuda: %d bytes at %#x reach beyond their allocation", size, addr)
		}
		return e, nil
	}
	var cu *Error
	if !errors.As(err, &cu) || cu.Code != codeInvalidValue {
		return Export{}, err
	}
	return c.exportPieces(base, addr, size)
}

func (c *Context) addressRange(addr uint64) (base, size uint64, err error) {
	var b C.uint64_t
	var n C.size_t
	err = c.d.check("cuMemGetAddressRange", C.kv_address_range(c.d.fn, c.ctx, C.uint64_t(addr), &b, &n))
	return uint64(b), uint64(n), err
}

// exportPieces takes a descriptor of each piece from the one at base to the
// end of the memory.
func (c *Context) exportPieces(base, addr, size uint64) (_ Export, err error) {
	e := Export{Offset: addr - base, Size: size}
	defer func() {
		if err != nil {
			e.CloseFDs()
		}
	}()
	for at := base; at < addr+size; {
		from, n, err := c.addressRange(at)
		if err != nil {
			return Export{}, err
		}
		var handle C.uint64_t
		if C.kv_vmm_retain(c.d.fn, c.ctx, C.uint64_t(at), &handle) != 0 {
			return Export{}, ErrNotShareable
		}
		var fd C.int
		r := C.kv_vmm_export(c.d.fn, c.ctx, handle, &fd)
		C.kv_vmm_release(c.d.fn, c.ctx, handle)
		if r != 0 {
			return Export{}, fmt.Errorf("%w (%w)", ErrNotShareable, c.d.check("cuMemExportToShareableHandle", r))
		}
		e.FDs, e.Pieces = append(e.FDs, int(fd)), append(e.Pieces, n)
		at = from + n
	}
	return e, nil
}

// CloseFDs closes the descriptors.
func (e *Export) CloseFDs() {
	for _, fd := range e.FDs {
		unix.Close(fd)
	}
	e.FDs = nil
}

// Mapping is another process's memory, mapped here. The memory stays allocated
// until Close, even when that process is long dead.
type Mapping struct {
	c      *Context
	base   uint64
	offset uint64
	size   uint64
	pieces []uint64 // nil: legacy
}

// Import maps what another process exported. The descriptors stay the
// caller's.
func (c *Context) Import(e Export) (*Mapping, error) {
	m := &Mapping{c: c, offset: e.Offset, size: e.Size}
	if len(e.Handle) > 0 {
		if len(e.Handle) != C.sizeof_kv_ipc_handle {
			return nil, fmt.Errorf("cuda: an IPC handle has %d bytes, not %d", C.sizeof_kv_ipc_handle, len(e.Handle))
		}
		var p C.uint64_t
		if err := c.d.check("cuIpcOpenMemHandle", C.kv_ipc_open(c.d.fn, c.ctx, unsafe.Pointer(&e.Handle[0]), &p)); err != nil {
			return nil, err
		}
		m.base = uint64(p)
		_, whole, err := c.addressRange(m.base)
		if err == nil && (e.Offset > whole || e.Size > whole-e.Offset) {
			err = fmt.Errorf("cuda: the export says %d bytes at %d, but the allocation has %d", e.Size, e.Offset, whole)
		}
		if err != nil {
			return nil, errors.Join(err, m.Close())
		}
		return m, nil
	}
	return m, m.mapPieces(e)
}

func (m *Mapping) mapPieces(e Export) error {
	c := m.c
	if len(e.Pieces) == 0 || len(e.Pieces) != len(e.FDs) {
		return fmt.Errorf("cuda: %d pieces of memory came with %d descriptors", len(e.Pieces), len(e.FDs))
	}
	total := uint64(0)
	for _, n := range e.Pieces {
		if n == 0 || total+n < total {
			return errors.New("cuda: pieces of memory of impossible sizes")
		}
		total += n
	}
	if e.Offset > total || e.Size > total-e.Offset {
		return fmt.Errorf("cuda: the export says %d bytes at %d, but its pieces have %d", e.Size, e.Offset, total)
	}
	var p C.uint64_t
	if err := c.d.check("cuMemAddressReserve", C.kv_vmm_reserve(c.d.fn, c.ctx, C.size_t(total), &p)); err != nil {
		return err
	}
	m.base = uint64(p)
	for i, n := range e.Pieces {
		err := c.mapPiece(m.base+m.mapped(), n, e.FDs[i])
		if err != nil {
			return errors.Join(err, m.unmap(total))
		}
		m.pieces = append(m.pieces, n)
	}
	return nil
}

func (c *Context) mapPiece(addr, n uint64, fd int) error {
	var handle C.uint64_t
	if err := c.d.check("cuMemImportFromShareableHandle", C.kv_vmm_import(c.d.fn, c.ctx, C.int(fd), &handle)); err != nil {
		return err
	}
	err := c.d.check("cuMemMap", C.kv_vmm_map(c.d.fn, c.ctx, c.dev, C.uint64_t(addr), C.size_t(n), handle))
	// The mapping keeps the memory; the handle is not needed any more.
	return errors.Join(err, c.d.check("cuMemRelease", C.kv_vmm_release(c.d.fn, c.ctx, handle)))
}

func (m *Mapping) mapped() (n uint64) {
	for _, p := range m.pieces {
		n += p
	}
	return n
}

// Addr is where the exported memory begins here.
func (m *Mapping) Addr() uint64 { return m.base + m.offset }

// Size is the exported memory's size.
func (m *Mapping) Size() uint64 { return m.size }

// Close unmaps the memory. No work on it may be under way.
func (m *Mapping) Close() error {
	if m.pieces == nil {
		return m.c.d.check("cuIpcCloseMemHandle", C.kv_ipc_close(m.c.d.fn, m.c.ctx, C.uint64_t(m.base)))
	}
	return m.unmap(m.mapped())
}

// Abandon is Close after the context was reset. A legacy mapping went with the
// context; pieces are the process's and have to be unmapped.
func (m *Mapping) Abandon() error {
	if m.pieces == nil {
		return nil
	}
	outside := *m
	outside.c = &Context{d: m.c.d}
	return outside.Close()
}

func (m *Mapping) unmap(reserved uint64) error {
	var errs []error
	at := m.base
	for _, n := range m.pieces {
		errs = append(errs, m.c.d.check("cuMemUnmap", C.kv_vmm_unmap(m.c.d.fn, m.c.ctx, C.uint64_t(at), C.size_t(n))))
		at += n
	}
	m.pieces = nil
	return errors.Join(append(errs, m.c.d.check("cuMemAddressFree", C.kv_vmm_unreserve(m.c.d.fn, m.c.ctx, C.uint64_t(m.base), C.size_t(reserved))))...)
}
