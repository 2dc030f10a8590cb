package gpu

import (
	"encoding/json"
	"io"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/cuda"
)

// socketPair is both ends of a connection.
func socketPair(t *testing.T) (a, b *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if b, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); b.Close() })
	return c.(*net.UnixConn), b
}

// Memory in many pieces arrives with the right descriptors in the right order,
// and the sender's pid.
func TestRegistrationCrossesASocket(t *testing.T) {
	a, b := socketPair(t)
	const pieces = 300 // more than one message carries
	r := Registration{
		Pages: 4, Memories: []cuda.Export{{Handle: make([]byte, 64), Size: 1 << 20, Offset: 512}, {Size: pieces << 21}},
		Fragments: []Place{{Memory: 1, Stride: 1 << 20, Bytes: 1 << 20}, {Memory: 0, Offset: 64, Stride: 256, Bytes: 256}},
		Counter:   &Place{Memory: 0},
	}
	dir := t.TempDir()
	for range pieces {
		f, err := os.CreateTemp(dir, "piece")
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		m := &r.Memories[1]
		m.FDs, m.Pieces = append(m.FDs, int(f.Fd())), append(m.Pieces, 2<<20)
		if _, err := f.WriteString(f.Name()); err != nil {
			t.Fatal(err)
		}
	}
	sent := make(chan error, 1)
	go func() { sent <- r.Send(a) }()
	got, err := Receive(b)
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer got.closeFDs()
	if got.PID != os.Getpid() {
		t.Errorf("from process %d, this is %d", got.PID, os.Getpid())
	}
	for i, fd := range got.Memories[1].FDs {
		var mine, theirs unix.Stat_t
		if unix.Fstat(fd, &theirs) != nil || unix.Fstat(r.Memories[1].FDs[i], &mine) != nil || mine.Ino != theirs.Ino {
			t.Fatalf("descriptor %d is another file", i)
		}
	}
	got.PID, r.Memories[1].FDs = 0, nil
	kept := got.Memories[1].FDs
	got.Memories[1].FDs, got.Memories[0].FDs = nil, nil
	if !reflect.DeepEqual(got, r) {
		t.Errorf("got %+v, sent %+v", got, r)
	}
	got.Memories[1].FDs = kept
}

func TestBrokenRegistrations(t *testing.T) {
	for name, sent := range map[string][]byte{
		"cut short":       {1, 0, 0},
		"too large":       {0, 0, 0, 255, 0, 0, 0, 0},
		"not JSON":        {2, 0, 0, 0, 0, 0, 0, 0, '{', '{'},
		"no descriptors":  {2, 0, 0, 0, 1, 0, 0, 0, '{', '}', 'x'},
		"nothing at all":  {2, 0, 0, 0, 0, 0, 0, 0, '{', '}'},
		"hung up in text": {9, 0, 0, 0, 0, 0, 0, 0, '{'},
	} {
		t.Run(name, func(t *testing.T) {
			a, b := socketPair(t)
			if _, err := a.Write(sent); err != nil {
				t.Fatal(err)
			}
			a.Close()
			if r, err := Receive(b); err == nil {
				t.Errorf("got %+v", r)
			}
			if n, err := io.Copy(io.Discard, b); err != nil || n > 1 {
				t.Errorf("%d bytes left, %v", n, err)
			}
		})
	}
}

// What another process sends is never believed beyond its memories.
func FuzzRegistration(f *testing.F) {
	good, err := json.Marshal(Registration{
		Pages: 3, Memories: []cuda.Export{{Handle: make([]byte, 64), Size: 4096}, {Pieces: []uint64{2 << 20}, Size: 1 << 20}},
		Fragments: []Place{{Stride: 100, Bytes: 100}, {Memory: 1, Offset: 5, Stride: 64, Bytes: 32}}, Counter: &Place{Offset: 8},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good, 1)
	f.Add([]byte(`{"pages":2147483648,"memories":[{"size":18446744073709551615}],"fragments":[{"bytes":1,"stride":9223372036854775807}]}`), 0)
	f.Fuzz(func(t *testing.T, text []byte, fds int) {
		r, err := parseRegistration(text, make([]int, max(0, min(fds, 64))))
		if err != nil {
			return
		}
		for _, p := range r.Fragments {
			size, last := r.Memories[p.Memory].Size, uint64(r.Pages-1)
			end := p.Offset + last*p.Stride + uint64(p.Bytes)
			if end > size || p.Offset > size || last > 0 && p.Stride > size {
				t.Fatalf("%+v of %d pages ends at %d of %d", p, r.Pages, end, size)
			}
		}
	})
}
