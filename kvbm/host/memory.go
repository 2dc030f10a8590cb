package host

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	// Align is the granularity of slots: what O_DIRECT needs on any disk.
	Align = 4096
	// hugePage is the size of the pages that an administrator reserves; smaller
	// pools leave them to others.
	hugePage = 2 << 20
)

// Stride is the room that a block of n bytes takes.
func Stride(n int) int { return (n + Align - 1) &^ (Align - 1) }

// Memory is a pool of equal slots. Its methods are safe for concurrent use;
// its bytes are the caller's to coordinate.
type Memory struct {
	fd       int
	data     []byte
	huge     bool
	geometry Geometry
	touching touching
}

// Geometry is how the slots lie in the memory. Slot i begins at i*Stride.
type Geometry struct {
	Slots      int   `json:"slots"`
	BlockBytes int   `json:"block_bytes"`
	Stride     int   `json:"stride"`
	Bytes      int64 `json:"bytes"` // of the whole mapping
}

// Map makes room for the given number of blocks: in huge pages if enough are
// reserved, else in ordinary ones that the kernel may join.
func Map(slots, blockBytes int) (*Memory, error) {
	stride := Stride(blockBytes)
	size := int64(slots) * int64(stride)
	if slots <= 0 || blockBytes <= 0 || size/int64(stride) != int64(slots) || int64(int(size)) != size {
		return nil, fmt.Errorf("host: cannot map %d blocks of %d bytes", slots, blockBytes)
	}
	g := Geometry{Slots: slots, BlockBytes: blockBytes, Stride: stride, Bytes: size}
	if size >= hugePage {
		if m, err := mapHuge(g); err == nil {
			return m, nil
		}
	}
	m, err := mapMemfd(g, 0)
	if err != nil {
		return nil, err
	}
	// Fewer TLB misses where the kernel grants it; the pool works the same
	// where it does not.
	_ = unix.Madvise(m.data, unix.MADV_HUGEPAGE)
	return m, nil
}

// mapHuge fails unless the whole pool fits into reserved pages, which the kernel
// sets aside here, before they are touched.
func mapHuge(g Geometry) (*Memory, error) {
	g.Bytes = (g.Bytes + hugePage - 1) &^ (hugePage - 1)
	m, err := mapMemfd(g, unix.MFD_HUGETLB|unix.MFD_HUGE_2MB)
	if err == nil {
		m.huge = true
	}
	return m, err
}

func mapMemfd(g Geometry, flags int) (*Memory, error) {
	fd, err := unix.MemfdCreate("kvasir-blocks", unix.MFD_CLOEXEC|flags)
	if err != nil {
		return nil, fmt.Errorf("host: memfd: %w", err)
	}
	if err := unix.Ftruncate(fd, g.Bytes); err != nil {
		return nil, errors.Join(fmt.Errorf("host: %d bytes for blocks: %w", g.Bytes, err), unix.Close(fd))
	}
	data, err := unix.Mmap(fd, 0, int(g.Bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("host: map %d bytes for blocks: %w", g.Bytes, err), unix.Close(fd))
	}
	m := &Memory{fd: fd, data: data, geometry: g}
	spread(data)
	return m, nil
}

// Geometry is how the slots lie.
func (m *Memory) Geometry() Geometry { return m.geometry }

// Huge reports whether the pool is in reserved huge pages.
func (m *Memory) Huge() bool { return m.huge }

// FD is the descriptor that another process maps to see the same slots. It
// stays open until Close.
func (m *Memory) FD() int { return m.fd }

// All is the whole mapping, slot after slot.
func (m *Memory) All() []byte { return m.data }

// Slot is the block's bytes in slot i. Its capacity is the whole stride.
func (m *Memory) Slot(i int) []byte {
	at := i * m.geometry.Stride
	return m.data[at : at+m.geometry.BlockBytes : at+m.geometry.Stride]
}

// Close unmaps the pool. Every slice that Slot returned is invalid after it:
// touching one crashes the process, so the caller makes sure that none is in
// use.
func (m *Memory) Close() error {
	m.touching.end()
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
