package zmtp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pair connects two types over a real socket.
func pair(t *testing.T, server, client Type) (*Conn, *Conn) {
	t.Helper()
	l, err := Listen("tcp://127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	accepted := make(chan *Conn, 1)
	failed := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			err = c.Handshake()
		}
		accepted <- c
		failed <- err
	}()
	c, err := Dial(t.Context(), l.Endpoint(), client)
	s := <-accepted
	t.Cleanup(func() {
		s.Close()
		if c != nil {
			c.Close()
		}
	})
	if err := errors.Join(err, <-failed); err != nil {
		t.Fatal(err)
	}
	return s, c
}

func TestMessagesArriveWhole(t *testing.T) {
	s, c := pair(t, Router, Dealer)
	if s.Peer() != Dealer || c.Peer() != Router {
		t.Errorf("peers %s and %s", s.Peer(), c.Peer())
	}
	messages := [][][]byte{
		{nil, {1, 2, 3}},
		{bytes.Repeat([]byte{7}, 255), bytes.Repeat([]byte{8}, 256), nil},
		{bytes.Repeat([]byte{9}, 3<<20)},
	}
	go func() {
		for _, m := range messages {
			c.Send(m...)
		}
	}()
	for i, want := range messages {
		got, err := s.Recv(0)
		if err != nil {
			t.Fatal(err)
		}
		if len(got) != len(want) {
			t.Fatalf("message %d has %d frames, want %d", i, len(got), len(want))
		}
		for j := range want {
			if !bytes.Equal(got[j], want[j]) {
				t.Errorf("message %d frame %d: %d bytes, want %d", i, j, len(got[j]), len(want[j]))
			}
		}
	}
}

func TestRecvMayBeCalledAgainAfterIdleness(t *testing.T) {
	s, c := pair(t, Router, Dealer)
	for range 3 {
		if _, err := s.Recv(time.Millisecond); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("got %v", err)
		}
	}
	if err := c.Send([]byte("late")); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(0); err != nil || string(m[0]) != "late" {
		t.Fatalf("got %q, %v", m, err)
	}
	c.Close()
	if _, err := s.Recv(0); !errors.Is(err, io.EOF) {
		t.Errorf("after the peer left: %v", err)
	}
}

func TestPingIsAnswered(t *testing.T) {
	s, c := pair(t, Router, Dealer)
	go func() {
		c.write(net.Buffers{[]byte("\x04\x09\x04PING\x00\x0Aab")})
		c.Send([]byte("after"))
	}()
	if m, err := s.Recv(0); err != nil || string(m[0]) != "after" {
		t.Fatalf("got %q, %v", m, err)
	}
	pong := make([]byte, 9)
	if _, err := io.ReadFull(c.r, pong); err != nil || string(pong) != "\x04\x07\x04PONGab" {
		t.Errorf("got %q, %v", pong, err)
	}
}

// scripted is a connection whose peer has said all it will say.
type scripted struct{ io.Reader }

func (scripted) Write(p []byte) (int, error)      { return len(p), nil }
func (scripted) Close() error                     { return nil }
func (scripted) LocalAddr() net.Addr              { return nil }
func (scripted) RemoteAddr() net.Addr             { return nil }
func (scripted) SetDeadline(time.Time) error      { return nil }
func (scripted) SetReadDeadline(time.Time) error  { return nil }
func (scripted) SetWriteDeadline(time.Time) error { return nil }

func script(typ Type, said ...[]byte) *Conn {
	return NewConn(scripted{bytes.NewReader(bytes.Join(said, nil))}, typ)
}

func ready(typ Type) []byte { return NewConn(nil, typ).ready() }

func TestHandshakeRefusesStrangers(t *testing.T) {
	f := func(name, want string, said ...[]byte) {
		t.Helper()
		err := script(Sub, said...).Handshake()
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	edit := func(at int, b ...byte) []byte {
		g := greeting()
		copy(g[at:], b)
		return g
	}
	f("HTTP", "does not speak ZeroMQ", []byte(strings.Repeat("GET / HTTP/1.1\r\n", 8)))
	f("ZMTP 2", "speaks ZMTP 2", edit(10, 2))
	f("CURVE", "security mechanism", edit(12, []byte("CURVE")...))
	f("a message first", "want a READY", greeting(), []byte{0, 1, 'x'})
	f("a huge READY", "want a READY", greeting(), []byte{flagCommand | flagLong, 0, 0, 0, 0, 1, 0, 0, 0})
	f("another SUB", "cannot talk", greeting(), ready(Sub))
	f("a READY that lies about lengths", "without Socket-Type", greeting(), []byte("\x04\x0c\x05READY\xffSocke"))
	if err := script(Sub, greeting(), ready(Pub)).Handshake(); err != nil {
		t.Errorf("a PUB: %v", err)
	}
}

func TestRecvIsBounded(t *testing.T) {
	long := func(flags byte, n uint64) []byte { return binary.BigEndian.AppendUint64([]byte{flags | flagLong}, n) }
	f := func(name string, want error, said ...[]byte) {
		t.Helper()
		c := script(Sub, said...)
		if _, err := c.Recv(0); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", name, err, want)
		}
		if cap(c.buf) > 4*growStep {
			t.Errorf("%s: %d bytes allocated", name, cap(c.buf))
		}
	}
	f("a frame of 2^63 bytes", errProtocol, long(0, 1<<63))
	f("a frame that promises 64 MB and sends none", io.ErrUnexpectedEOF, long(0, maxMessage))
	f("too many frames", errProtocol, bytes.Repeat([]byte{flagMore, 0}, maxFrames+1))
	f("a long command", errProtocol, long(flagCommand, maxCommand+1))
	f("a command inside a message", errProtocol, []byte{flagMore, 0, flagCommand, 0})
	f("a cut frame", io.ErrUnexpectedEOF, []byte{0, 5, 'x'})
	f("nothing", io.EOF)
}

func TestDialGivesUpWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
		}
		cancel()
	}()
	if c, err := Dial(ctx, "tcp://"+l.Addr().String(), Sub); err == nil {
		c.Close()
		t.Error("connected to nobody")
	}
}

func TestWildcardEndpoints(t *testing.T) {
	f := func(endpoint string, wildcard bool, withHost string) {
		t.Helper()
		if got := Wildcard(endpoint); got != wildcard {
			t.Errorf("Wildcard(%q) = %v", endpoint, got)
		}
		if got := WithHost(endpoint, "10.0.0.7"); got != withHost {
			t.Errorf("WithHost(%q) = %q", endpoint, got)
		}
	}
	f("tcp://*:5557", true, "tcp://10.0.0.7:5557")
	f("tcp://0.0.0.0:5557", true, "tcp://10.0.0.7:5557")
	f("tcp://[::]:5557", true, "tcp://10.0.0.7:5557")
	f("tcp://127.0.0.1:5557", false, "tcp://10.0.0.7:5557")
	f("ipc:///run/x", false, "ipc:///run/x")
	f("nonsense", false, "nonsense")
}

func FuzzConn(f *testing.F) {
	f.Add(bytes.Join([][]byte{greeting(), ready(Pub), {1, 1, 't', 0, 2, 'a', 'b'}}, nil))
	f.Add([]byte("\x04\x09\x04PING\x00\x0Aab"))
	f.Fuzz(func(t *testing.T, said []byte) {
		c := script(Sub, said)
		c.Handshake()
		total := 0
		for {
			frames, err := c.Recv(0)
			if err != nil {
				break
			}
			for _, b := range frames {
				total += len(b)
			}
		}
		if total > len(said) {
			t.Fatalf("%d bytes came out of %d", total, len(said))
		}
	})
}
