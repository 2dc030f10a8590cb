package host

import (
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

const shareSocket = "KVASIR_TEST_SHARE_SOCKET"

// The test's own binary is the other process: it maps what it is sent, and
// answers block 1 in block 2.
func TestMain(m *testing.M) {
	if path := os.Getenv(shareSocket); path != "" {
		if err := plugin(path); err != nil {
			println(err.Error())
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func plugin(path string) error {
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return err
	}
	defer conn.Close()
	text, rights := make([]byte, 1024), make([]byte, 1024)
	n, rn, _, _, err := conn.ReadMsgUnix(text, rights)
	if err != nil {
		return err
	}
	var g Geometry
	if err := json.Unmarshal(text[:n], &g); err != nil {
		return err
	}
	messages, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil {
		return err
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil {
		return err
	}
	mem, err := unix.Mmap(fds[0], 0, int(g.Bytes), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return err
	}
	copy(mem[2*g.Stride:], mem[g.Stride:g.Stride+g.BlockBytes])
	_, err = conn.Write([]byte("done"))
	return err
}

func TestAnotherProcessMapsThePool(t *testing.T) {
	m, err := Map(3, 5000)
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	for i := range m.Slot(1) {
		m.Slot(1)[i] = byte(i * 7)
	}
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	other := exec.Command(os.Args[0])
	other.Env = append(os.Environ(), shareSocket+"="+path)
	other.Stderr = os.Stderr
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	conn, err := l.AcceptUnix()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := m.Share(conn); err != nil {
		t.Fatal(err)
	}
	answer := make([]byte, 4)
	if n, err := conn.Read(answer); err != nil || string(answer[:n]) != "done" {
		t.Fatalf("%q, %v", answer[:n], err)
	}
	if err := other.Wait(); err != nil {
		t.Fatal(err)
	}
	if string(m.Slot(2)) != string(m.Slot(1)) {
		t.Fatal("what the other process wrote is not here")
	}
}
