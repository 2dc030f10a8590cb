package cuda

// #cgo LDFLAGS: -ldl
// #include <stdlib.h>
// #include "driver.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Driver is an opened NVIDIA driver. It lasts as long as the process: the
// driver cannot be unloaded.
type Driver struct {
	fn *C.kv_driver // in C's memory
}

// Open loads and initialises the driver. Without one, or without a GPU that it
// can use, it returns an error that wraps ErrNoDriver.
func Open() (*Driver, error) {
	d := &Driver{fn: (*C.kv_driver)(C.calloc(1, C.sizeof_kv_driver))}
	if missing := C.kv_open(d.fn); missing != nil {
		C.free(unsafe.Pointer(d.fn))
		return nil, fmt.Errorf("%w: %s", ErrNoDriver, C.GoString(missing))
	}
	if r := C.kv_init(d.fn); r != 0 {
		return nil, fmt.Errorf("%w: %w", ErrNoDriver, d.check("cuInit", r))
	}
	C.kv_resolve(d.fn)
	return d, nil
}

// Version is the CUDA version that the driver supports, such as 13.0.
func (d *Driver) Version() (major, minor int, err error) {
	var v C.int
	if r := C.kv_version(d.fn, &v); r != 0 {
		return 0, 0, d.check("cuDriverGetVersion", r)
	}
	return int(v) / 1000, int(v) % 1000 / 10, nil
}

// Devices lists the GPUs that the process may use.
func (d *Driver) Devices() ([]Device, error) {
	var n C.int
	if r := C.kv_device_count(d.fn, &n); r != 0 {
		return nil, d.check("cuDeviceGetCount", r)
	}
	devices := make([]Device, n)
	for i := range devices {
		var name, pci [256]C.char
		var memory C.size_t
		var major, minor C.int
		if r := C.kv_device(d.fn, C.int(i), &name[0], C.int(len(name)), &pci[0], C.int(len(pci)), &memory, &major, &minor); r != 0 {
			return nil, d.check(fmt.Sprintf("describing device %d", i), r)
		}
		devices[i] = Device{
			Ordinal: i, Name: C.GoString(&name[0]), PCI: C.GoString(&pci[0]), MemoryBytes: uint64(memory),
			ComputeMajor: int(major), ComputeMinor: int(minor),
		}
	}
	return devices, nil
}

// check is nil for success.
func (d *Driver) check(call string, result C.int) error {
	if result == 0 {
		return nil
	}
	name := "unknown error"
	if s := C.kv_error_name(d.fn, result); s != nil {
		name = C.GoString(s)
	}
	return &Error{Call: call, Code: int(result), Name: name}
}
