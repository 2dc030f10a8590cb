package kvbm

import (
	"net"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// A driver is told the whole host pool, and a plug-in gets a descriptor of the
// same memory.
func TestTheHostPoolIsPinnedAndShared(t *testing.T) {
	var pinned []byte
	c := testConfig()
	c.CPUBytes = 4 * testStride
	c.Pin = func(mem []byte, slot int) {
		if pinned = mem; slot != testStride {
			t.Errorf("slots of %d bytes are pinned, want %d", slot, testStride)
		}
	}
	m := open(t, c)
	if len(pinned) != 4*testStride {
		t.Fatalf("%d bytes are pinned", len(pinned))
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		conn, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		ends[i] = conn.(*net.UnixConn)
		defer conn.Close()
	}
	if err := m.ShareHost(ends[0]); err != nil {
		t.Fatal(err)
	}
	text, rights := make([]byte, 1024), make([]byte, 1024)
	_, n, _, _, err := ends[1].ReadMsgUnix(text, rights)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := unix.ParseSocketControlMessage(rights[:n])
	if err != nil {
		t.Fatal(err)
	}
	got, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(got[0])
	pinned[testStride] = 42
	b := make([]byte, 1)
	if _, err := unix.Pread(got[0], b, testStride); err != nil || b[0] != 42 {
		t.Fatalf("the plug-in reads %d, %v", b[0], err)
	}
}
