//go:build cgo && linux

package cuda

// #cgo LDFLAGS: -ldl
// #include "driver.h"
import "C"

import (
	"fmt"
	"unsafe"
)

// Driver is an opened NVIDIA driver.
type Driver struct {
	fn C.kv_driver
}

// Open loads and initialises the driver. Without one, or without a GPU that it
// can use, it returns an error that wraps ErrNoDriver.
func Open() (*Driver, error) {
	d := new(Driver)
	if missing := C.kv_open(&d.fn); missing != nil {
		return nil, fmt.Errorf("%w: %s", ErrNoDriver, C.GoString(missing))
	}
	if r := C.kv_init(&d.fn); r != 0 {
		return nil, fmt.Errorf("%w: %w", ErrNoDriver, d.fail("cuInit", r))
	}
	return d, nil
}

// Version is the CUDA version that the driver supports, such as 13.0.
func (d *Driver) Version() (major, minor int, err error) {
	var v C.int
	if r := C.kv_version(&d.fn, &v); r != 0 {
		return 0, 0, d.fail("cuDriverGetVersion", r)
	}
	return int(v) / 1000, int(v) % 1000 / 10, nil
}

// Devices lists the GPUs that the process may use.
func (d *Driver) Devices() ([]Device, error) {
	var n C.int
	if r := C.kv_device_count(&d.fn, &n); r != 0 {
		return nil, d.fail("cuDeviceGetCount", r)
	}
	devices := make([]Device, n)
	for i := range devices {
		var name [256]C.char
		var memory C.size_t
		var major, minor C.int
		if r := C.kv_device(&d.fn, C.int(i), &name[0], C.int(len(name)), &memory, &major, &minor); r != 0 {
			return nil, d.fail(fmt.Sprintf("describing device %d", i), r)
		}
		devices[i] = Device{
			Ordinal: i, Name: C.GoString((*C.char)(unsafe.Pointer(&name[0]))), MemoryBytes: uint64(memory),
			ComputeMajor: int(major), ComputeMinor: int(minor),
		}
	}
	return devices, nil
}

func (d *Driver) fail(call string, result C.int) error {
	name := "unknown error"
	if s := C.kv_error_name(&d.fn, result); s != nil {
		name = C.GoString(s)
	}
	return &Error{Call: call, Code: int(result), Name: name}
}
