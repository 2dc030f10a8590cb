package host

import (
	"errors"
	"os"
	"strconv"
	"strings"
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

func TestTouchMakesPagesPresentAndChangesNothing(t *testing.T) {
	m, err := Map(300, 300_000)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	copy(m.Slot(299), "kept")
	m.Touch()
	m.Touched()
	if got := string(m.Slot(299)[:4]); got != "kept" {
		t.Fatalf("the slot holds %q", got)
	}
	present := make([]byte, len(m.All())/os.Getpagesize())
	_, _, errno := unix.Syscall(unix.SYS_MINCORE, uintptr(unsafe.Pointer(&m.All()[0])), uintptr(len(m.All())), uintptr(unsafe.Pointer(&present[0])))
	if errno != 0 {
		t.Fatal(errno)
	}
	for i, p := range present {
		if p&1 == 0 {
			t.Fatalf("page %d of %d is not present", i, len(present))
		}
	}
}

func TestReservedHugePagesAreUsed(t *testing.T) {
	free, err := os.ReadFile("/sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages")
	if n, _ := strconv.Atoi(strings.TrimSpace(string(free))); err != nil || n < 2 {
		t.Skip("no huge pages are reserved here (sysctl vm.nr_hugepages=2)")
	}
	m, err := Map(2, 3<<19) // 3 MiB
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if !m.Huge() || len(m.All()) != 4<<20 {
		t.Fatalf("huge: %v, %d bytes", m.Huge(), len(m.All()))
	}
	for i := range 2 {
		copy(m.Slot(i), "written")
	}
}

func TestNodes(t *testing.T) {
	f := func(list string, mask uint64, n int) {
		t.Helper()
		if gotMask, gotN := parseNodes(list); gotMask != mask || gotN != n {
			t.Errorf("%q: %b, %d nodes; want %b, %d", list, gotMask, gotN, mask, n)
		}
	}
	f("0\n", 1, 1)
	f("0-1\n", 3, 2)
	f("0-1,4\n", 19, 3)
	f("", 0, 0)
	f("0-99\n", 0, 0)
	f("x\n", 0, 0)
}

func TestMemoryIsInterleaved(t *testing.T) {
	m, err := Map(4, Align)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	if err := interleave(m.All(), 1); errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) {
		t.Skipf("no mbind here: %v", err)
	} else if err != nil {
		t.Fatal(err)
	}
	copy(m.Slot(3), "usable")
}
