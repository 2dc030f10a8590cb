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
	PCI          string // such as 0000:3b:00.0
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

// Codes of CUresult that callers tell apart.
const (
	codeInvalidValue = 1
	codeNotReady     = 600
	codeIllegal      = 700
	codeTimeout      = 702
	codeDestroyed    = 709
	codeAssert       = 710
	codeHardware     = 714 // the first of a row of faults
	codeLaunchFailed = 719
	codeECC          = 214
	codeContained    = 226
)

// Lost reports whether the error is one after which this process cannot use
// the GPU any more: seen after a fault, the primary context cannot even be
// retained again, reset or not. Only a new process helps.
func Lost(err error) bool {
	var e *Error
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case codeECC, codeContained, codeIllegal, codeTimeout, codeDestroyed, codeAssert:
		return true
	}
	return e.Code >= codeHardware && e.Code <= codeLaunchFailed
}
