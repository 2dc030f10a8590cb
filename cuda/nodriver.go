//go:build !cgo || !linux

package cuda

import "fmt"

// Driver is never opened in a binary built without cgo.
type Driver struct{}

// Open says that this binary cannot reach a driver.
func Open() (*Driver, error) {
	return nil, fmt.Errorf("%w: this binary was built without cgo", ErrNoDriver)
}

// Version is unreachable.
func (*Driver) Version() (major, minor int, err error) { return 0, 0, ErrNoDriver }

// Devices is unreachable.
func (*Driver) Devices() ([]Device, error) { return nil, ErrNoDriver }
