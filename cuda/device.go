package cuda

import (
	"errors"
	"fmt"
)

// ErrNoDriver is what Open's errors wrap when this machine has no usable GPU.
var ErrNoDriver = errors.New("cuda: no usable NVIDIA driver")

// Device is one GPU.
type Device struct {
	Ordinal      int
	Name         string
	MemoryBytes  uint64
	ComputeMajor int
	ComputeMinor int
}

// Error is a driver call that failed.
type Error struct {
	Call string
	Code int // CUresult
	Name string
}

// Error names the call and what the driver said.
func (e *Error) Error() string { return fmt.Sprintf("cuda: %s: %s (%d)", e.Call, e.Name, e.Code) }
