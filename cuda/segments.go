package cuda

// #include "driver.h"
import "C"

import "errors"

// AllocSegments gets device memory as engines with expandable segments do: the
// given number of pieces, mapped in a row. Such memory has no legacy IPC handle;
// unless it is shareable it cannot be exported at all.
func (c *Context) AllocSegments(pieces int, pieceBytes uint64, shareable bool) (*Mapping, error) {
	var unit C.size_t
	if err := c.d.check("cuMemGetAllocationGranularity", C.kv_vmm_granularity(c.d.fn, c.ctx, c.dev, &unit)); err != nil {
		return nil, err
	}
	pieceBytes = (pieceBytes + uint64(unit) - 1) / uint64(unit) * uint64(unit)
	m := &Mapping{c: c, size: uint64(pieces) * pieceBytes}
	var p C.uint64_t
	if err := c.d.check("cuMemAddressReserve", C.kv_vmm_reserve(c.d.fn, c.ctx, C.size_t(m.size), &p)); err != nil {
		return nil, err
	}
	m.base = uint64(p)
	exportable := C.int(0)
	if shareable {
		exportable = 1
	}
	for range pieces {
		var handle C.uint64_t
		err := c.d.check("cuMemCreate", C.kv_vmm_create(c.d.fn, c.ctx, c.dev, C.size_t(pieceBytes), exportable, &handle))
		if err == nil {
			err = c.d.check("cuMemMap", C.kv_vmm_map(c.d.fn, c.ctx, c.dev, C.uint64_t(m.base+m.mapped()), C.size_t(pieceBytes), handle))
			C.kv_vmm_release(c.d.fn, c.ctx, handle)
		}
		if err != nil {
			return nil, errors.Join(err, m.unmap(m.size))
		}
		m.pieces = append(m.pieces, pieceBytes)
	}
	return m, nil
}
