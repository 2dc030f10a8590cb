package gpu

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"

	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/cuda"
)

// Registration is how an engine hands its KV memory over.
type Registration struct {
	// PID is the engine's process as seen from here, which the socket knows; 0
	// where it cannot be seen.
	PID       int           `json:"-"`
	Pages     int           `json:"pages"`
	Memories  []cuda.Export `json:"memories"`
	Fragments []Place       `json:"fragments"` // of a block, in the order of its bytes
	// Counter is a 64-bit step counter; optional.
	Counter *Place `json:"counter,omitempty"`
}

// Place is in one of the memories. Of a fragment it is that of page 0.
type Place struct {
	Memory int    `json:"memory"`
	Offset uint64 `json:"offset"`
	Stride uint64 `json:"stride,omitempty"` // from page to page
	Bytes  int    `json:"bytes"`
}

const (
	maxRegistration = 8 << 20
	maxFDs          = 1 << 16
	// fdsPerMessage is below what Linux allows in one message.
	fdsPerMessage = 128
	counterBytes  = 8
)

// validate makes sure that every page's every fragment is in its memory.
func (r *Registration) validate() error {
	if r.Pages <= 0 || r.Pages > 1<<31 || len(r.Fragments) == 0 {
		return fmt.Errorf("gpu: a registration of %d pages with %d fragments", r.Pages, len(r.Fragments))
	}
	for i, f := range r.Fragments {
		if err := r.inside(f, r.Pages); err != nil {
			return fmt.Errorf("gpu: fragment %d: %w", i, err)
		}
	}
	if c := r.Counter; c != nil {
		if err := r.inside(Place{Memory: c.Memory, Offset: c.Offset, Bytes: counterBytes}, 1); err != nil || c.Offset%counterBytes != 0 {
			return errors.Join(fmt.Errorf("gpu: the counter must be %d aligned bytes of a memory", counterBytes), err)
		}
	}
	return nil
}

func (r *Registration) inside(p Place, pages int) error {
	if p.Memory < 0 || p.Memory >= len(r.Memories) {
		return fmt.Errorf("memory %d of %d", p.Memory, len(r.Memories))
	}
	size, last := r.Memories[p.Memory].Size, uint64(pages-1)
	if p.Bytes <= 0 || p.Offset > size || uint64(p.Bytes) > size-p.Offset ||
		last > 0 && p.Stride > (size-p.Offset-uint64(p.Bytes))/last {
		return fmt.Errorf("%d bytes at %d, %d pages of stride %d, are not within %d bytes", p.Bytes, p.Offset, pages, p.Stride, size)
	}
	return nil
}

func (r *Registration) closeFDs() {
	for i := range r.Memories {
		r.Memories[i].CloseFDs()
	}
}

// Send hands the registration over: its length and its number of descriptors,
// 4 bytes each, JSON, and then the descriptors of all memories in order, beside
// one byte for each message that carries some.
func (r *Registration) Send(c *net.UnixConn) error {
	text, err := json.Marshal(r)
	if err != nil {
		return err
	}
	var fds []int
	for _, m := range r.Memories {
		fds = append(fds, m.FDs...)
	}
	head := binary.LittleEndian.AppendUint32(nil, uint32(len(text)))
	head = binary.LittleEndian.AppendUint32(head, uint32(len(fds)))
	if _, err := c.Write(append(head, text...)); err != nil {
		return err
	}
	for len(fds) > 0 {
		n := min(len(fds), fdsPerMessage)
		if _, _, err := c.WriteMsgUnix([]byte{0}, unix.UnixRights(fds[:n]...), nil); err != nil {
			return err
		}
		fds = fds[n:]
	}
	return nil
}

// Receive takes a registration from an engine.
func Receive(c *net.UnixConn) (_ Registration, err error) {
	var head [8]byte
	if _, err := io.ReadFull(c, head[:]); err != nil {
		return Registration{}, fmt.Errorf("gpu: registration: %w", err)
	}
	size, count := binary.LittleEndian.Uint32(head[:]), binary.LittleEndian.Uint32(head[4:])
	if size > maxRegistration || count > maxFDs {
		return Registration{}, fmt.Errorf("gpu: a registration of %d bytes and %d descriptors is too large", size, count)
	}
	text := make([]byte, size)
	if _, err := io.ReadFull(c, text); err != nil {
		return Registration{}, fmt.Errorf("gpu: registration: %w", err)
	}
	fds, err := receiveFDs(c, int(count))
	r, err2 := parseRegistration(text, fds)
	if err = errors.Join(err, err2); err != nil {
		for _, fd := range fds {
			unix.Close(fd)
		}
		return Registration{}, err
	}
	r.PID, err = peerPID(c)
	return r, err
}

// parseRegistration gives each memory its descriptors.
func parseRegistration(text []byte, fds []int) (r Registration, err error) {
	if err := json.Unmarshal(text, &r); err != nil {
		return r, fmt.Errorf("gpu: registration: %w", err)
	}
	left := fds
	for i := range r.Memories {
		n := len(r.Memories[i].Pieces)
		if n > len(left) {
			return Registration{}, fmt.Errorf("gpu: the registration's memories have more pieces than the %d descriptors that came", len(fds))
		}
		r.Memories[i].FDs, left = left[:n:n], left[n:]
	}
	if len(left) > 0 {
		return Registration{}, fmt.Errorf("gpu: %d descriptors came that belong to no memory", len(left))
	}
	return r, r.validate()
}

func receiveFDs(c *net.UnixConn, count int) (fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*fdsPerMessage))
	for len(fds) < count {
		var b [1]byte
		n, oobn, flags, _, err := c.ReadMsgUnix(b[:], oob)
		if err != nil || n == 0 {
			return fds, fmt.Errorf("gpu: %d of %d descriptors came: %w", len(fds), count, errors.Join(err, io.ErrUnexpectedEOF))
		}
		messages, err := unix.ParseSocketControlMessage(oob[:oobn])
		if err != nil || len(messages) != 1 || flags&unix.MSG_CTRUNC != 0 {
			return fds, fmt.Errorf("gpu: descriptors were expected (is the open-files limit high enough?): %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		got, err := unix.ParseUnixRights(&messages[0])
		fds = append(fds, got...)
		if err != nil || len(got) == 0 {
			return fds, fmt.Errorf("gpu: descriptors were expected: %w", errors.Join(err, io.ErrUnexpectedEOF))
		}
		for _, fd := range got {
			unix.CloseOnExec(fd)
		}
	}
	return fds, nil
}

func peerPID(c *net.UnixConn) (pid int, err error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var inner error
	err = raw.Control(func(fd uintptr) {
		var cred *unix.Ucred
		if cred, inner = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); inner == nil {
			pid = int(cred.Pid)
		}
	})
	return pid, errors.Join(err, inner)
}
