package gpu

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// process is watched until it ends or nobody cares.
type process struct{ pidfd *os.File }

// watch calls ended, from a goroutine of its own, when the process ends. It
// costs no thread: the runtime's poller waits for the pidfd.
func watch(pid int, ended func()) (*process, error) {
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("gpu: the engine's process %d cannot be watched: %w", pid, err)
	}
	p := &process{os.NewFile(uintptr(fd), "pidfd")}
	raw, err := p.pidfd.SyscallConn()
	if err != nil {
		return nil, err
	}
	go func() {
		over := false
		err := raw.Read(func(fd uintptr) bool {
			fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
			n, _ := unix.Poll(fds, 0)
			over = n > 0
			return over
		})
		if err == nil && over {
			ended()
		}
	}()
	return p, nil
}

// stop ends the watch. It may be called on nil, and from ended.
func (p *process) stop() {
	if p != nil {
		_ = p.pidfd.Close()
	}
}
