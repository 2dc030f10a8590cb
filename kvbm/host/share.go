package host

import (
	"encoding/json"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Share sends the pool to another process over a Unix socket: one message, the
// Geometry as JSON, with the memory's descriptor beside it. The receiver maps the
// descriptor, Bytes long, and sees the same slots for as long as it likes; which
// of them it may touch, and when, is agreed upon elsewhere.
func (m *Memory) Share(c *net.UnixConn) error {
	geometry, err := json.Marshal(m.geometry)
	if err != nil {
		return err
	}
	if _, _, err := c.WriteMsgUnix(geometry, unix.UnixRights(m.fd), nil); err != nil {
		return fmt.Errorf("host: send the block memory's descriptor: %w", err)
	}
	return nil
}
