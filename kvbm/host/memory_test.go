package host

import (
	"os"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

func TestSlotsAreAlignedAndDisjoint(t *testing.T) {
	m, err := Map(5, 5000)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range 5 {
		s := m.Slot(i)
		if len(s) != 5000 || cap(s) != 8192 {
			t.Fatalf("slot of %d bytes in %d, want 5000 in 8192", len(s), cap(s))
		}
		if uintptr(unsafe.Pointer(&s[0]))%Align != 0 {
			t.Fatalf("slot %d is not aligned", i)
		}
		for j := range s[:cap(s)] {
			s[:cap(s)][j] = byte(i + 1)
		}
	}
	for i := range 5 {
		for _, b := range m.Slot(i) {
			if b != byte(i+1) {
				t.Fatalf("slot %d holds %d: slots overlap", i, b)
			}
		}
	}
}

func TestAnotherMappingOfTheDescriptorSeesTheSlots(t *testing.T) {
	m, err := Map(2, Align)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	copy(m.Slot(1), "hello")
	fd, err := unix.Dup(m.FD())
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "peer")
	defer f.Close()
	peer, err := unix.Mmap(fd, 0, 2*Align, unix.PROT_READ, unix.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Munmap(peer)
	if got := string(peer[Align : Align+5]); got != "hello" {
		t.Fatalf("the peer reads %q", got)
	}
}

func TestMapRefusesNonsense(t *testing.T) {
	for _, c := range [][2]int{{0, 4096}, {1, 0}, {-1, 4096}, {1 << 62, 1 << 20}} {
		if m, err := Map(c[0], c[1]); err == nil {
			m.Close()
			t.Errorf("Map(%d, %d) succeeded", c[0], c[1])
		}
	}
}

func TestAligned(t *testing.T) {
	for _, n := range []int{1, 4096, 10000} {
		b := Aligned(n)
		if len(b) != n || uintptr(unsafe.Pointer(&b[0]))%Align != 0 {
			t.Fatalf("Aligned(%d): %d bytes at %p", n, len(b), &b[0])
		}
	}
}
