package host

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Align is the granularity of slots: what O_DIRECT needs on any disk.
const Align = 4096

// Stride is the room that a block of n bytes takes.
func Stride(n int) int { return (n + Align - 1) &^ (Align - 1) }

// Memory is a pool of equal slots. Its methods are safe for concurrent use;
// its bytes are the caller's to coordinate.
type Memory struct {
	fd         int
	data       []byte
	blockBytes int
	stride     int
}

// Map makes room for the given number of blocks.
func Map(slots, blockBytes int) (*Memory, error) {
	stride := Stride(blockBytes)
	size := int64(slots) * int64(stride)
	if slots <= 0 || blockBytes <= 0 || size/int64(stride) != int64(slots) || int64(int(size)) != size {
		return nil, fmt.Errorf("host: cannot map %d blocks of %d bytes", slots, blockBytes)
	}
	fd, err := unix.MemfdCreate("kvasir-blocks", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("host: memfd: %w", err)
	}
	if err := unix.Ftruncate(fd, size); err != nil {
		return nil, errors.Join(fmt.Errorf("host: %d bytes for blocks: %w", size, err), unix.Close(fd))
	}
	data, err := unix.Mmap(fd, 0, int(size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("host: map %d bytes for blocks: %w", size, err), unix.Close(fd))
	}
	// Fewer TLB misses where the kernel grants it; the pool works the same
	// where it does not.
	_ = unix.Madvise(data, unix.MADV_HUGEPAGE)
	return &Memory{fd: fd, data: data, blockBytes: blockBytes, stride: stride}, nil
}

// FD is the descriptor that another process maps to see the same slots. It
// stays open until Close.
func (m *Memory) FD() int { return m.fd }

// Slot is the block's bytes in slot i. Its capacity is the whole stride.
func (m *Memory) Slot(i int) []byte {
	at := i * m.stride
	return m.data[at : at+m.blockBytes : at+m.stride]
}

// All is the whole pool, slot after slot.
func (m *Memory) All() []byte { return m.data }

// Close unmaps the pool. Every slice that Slot returned is invalid after it:
// touching one crashes the process, so the caller makes sure that none is in
// use.
func (m *Memory) Close() error {
	err := unix.Munmap(m.data)
	m.data = nil
	return errors.Join(err, unix.Close(m.fd))
}

// Aligned is ordinary memory of n bytes that O_DIRECT accepts.
func Aligned(n int) []byte {
	b := make([]byte, n+Align)
	skip := int(-uintptr(unsafe.Pointer(unsafe.SliceData(b))) & (Align - 1))
	return b[skip : skip+n : skip+n]
}
