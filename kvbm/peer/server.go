package peer

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// Options are what both sides must agree on.
type Options struct {
	Fingerprint kv.Hash // of the layout
	BlockBytes  int
	// Secret is what those who may pull have in common; empty: everybody may.
	Secret string
	// TLS goes below the protocol; nil: plain TCP.
	TLS *tls.Config
	// Stall is how long a small message may take, and each further part of a block
	// that a slow network should move in that time; 0: 1 s.
	Stall time.Duration

	wrap func(net.Conn) net.Conn // of a client, in tests
	// overlap sums one block while the next one moves.
	overlap bool
}

const (
	defaultStall = time.Second
	// idleLimit ends a connection that nobody asks anything over.
	idleLimit = 5 * time.Minute
	// maxConns bounds the connections of a server, and with them what it lends.
	maxConns = 64
	// fewCores are all busy with moving bytes: then a block is summed at once, while
	// it is in the core's cache. More cores sum one block while the next one moves,
	// which is worth more.
	fewCores = 4
)

func (o Options) withDefaults() Options {
	if o.Stall == 0 {
		o.Stall = defaultStall
	}
	o.overlap = o.overlap || runtime.GOMAXPROCS(0) > fewCores
	return o
}

// slowBytes are moved within Options.Stall by any network worth pulling over.
const slowBytes = 4 << 20

// patience is how long the move of so many bytes may take.
func (o Options) patience(bytes int) time.Duration {
	return o.Stall * time.Duration(1+bytes/slowBytes)
}

// Lend finds a block in this worker's memory, where it stays until release; nil
// when it is not there, or not to be lent now.
type Lend func(h kv.Hash) (data []byte, release func())

// ServerStats count from Listen on.
type ServerStats struct {
	Connections int    `json:"connections"` // now
	Blocks      uint64 `json:"blocks"`      // sent
	Bytes       uint64 `json:"bytes"`       // sent
	Absent      uint64 `json:"absent"`      // asked for and not here
	Refused     uint64 `json:"refused"`     // connections: secret, layout, number or protocol
	Broken      uint64 `json:"broken"`      // connections that ended in the middle
}

// Server lends blocks until it is closed.
type Server struct {
	o        Options
	lend     Lend
	log      *slog.Logger
	listener net.Listener
	wg       sync.WaitGroup

	mu     sync.Mutex
	conns  map[net.Conn]struct{}
	closed bool

	blocks, bytes, absent, refused, broken atomic.Uint64
}

// Listen serves blocks at an address, host:port.
func Listen(address string, o Options, lend Lend, log *slog.Logger) (*Server, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("peer tier: %w", err)
	}
	s := &Server{o: o.withDefaults(), lend: lend, log: log, listener: l, conns: make(map[net.Conn]struct{})}
	s.wg.Go(s.accept)
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() string { return s.listener.Addr().String() }

// Stats is a snapshot.
func (s *Server) Stats() ServerStats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return ServerStats{
		Connections: len(s.conns), Blocks: s.blocks.Load(), Bytes: s.bytes.Load(),
		Absent: s.absent.Load(), Refused: s.refused.Load(), Broken: s.broken.Load(),
	}
}

// Close ends every connection. Nothing is lent when it returns.
func (s *Server) Close() error {
	s.mu.Lock()
	s.closed = true
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	err := s.listener.Close()
	s.wg.Wait()
	return err
}

// acceptPause keeps a failing listener (no more file descriptors) from spinning.
const acceptPause = 50 * time.Millisecond

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			s.log.Warn("a peer could not connect", "err", err)
			time.Sleep(acceptPause)
			continue
		}
		if s.o.TLS != nil {
			c = tls.Server(c, s.o.TLS)
		}
		room, ok := s.admit(c)
		if !ok {
			c.Close()
			return
		}
		s.wg.Go(func() { s.serve(c, room) })
	}
}

// admit lists a connection; not ok when the server is closed. Without room it
// is only told so.
func (s *Server) admit(c net.Conn) (room, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false, false
	}
	s.conns[c] = struct{}{}
	return len(s.conns) <= maxConns, true
}

func (s *Server) serve(c net.Conn, room bool) {
	defer func() {
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
		c.Close()
	}()
	if err := s.greet(c, room); err != nil {
		s.refused.Add(1)
		s.log.Debug("a peer was refused", "peer", c.RemoteAddr(), "err", err)
		return
	}
	l := lender{s: s, c: c}
	for {
		if err := l.answer(); err != nil {
			if !errors.Is(err, io.EOF) && !errors.Is(err, errIdle) {
				s.broken.Add(1)
				s.log.Debug("a peer's connection broke", "peer", c.RemoteAddr(), "err", err)
			}
			return
		}
	}
}

// errIdle ends a connection that nobody uses.
var errIdle = errors.New("nobody asked for anything")

// lender answers the requests of one connection.
type lender struct {
	s      *Server
	c      net.Conn
	hashes []kv.Hash
	buf    []byte
	head   [frameBytes]byte
	out    [2][]byte
}

func (l *lender) answer() (err error) {
	if err := l.c.SetReadDeadline(time.Now().Add(idleLimit)); err != nil {
		return err
	}
	if l.hashes, l.buf, err = readRequest(l.c, l.hashes, l.buf); err != nil {
		if e := net.Error(nil); errors.As(err, &e) && e.Timeout() {
			return errIdle
		}
		return err
	}
	if l.s.o.overlap && len(l.hashes) > 1 {
		return l.sendAll()
	}
	for _, h := range l.hashes {
		if err := l.send(l.prepare(h)); err != nil {
			return err
		}
	}
	return nil
}

// loan is one block to be sent.
type loan struct {
	frame   frame
	data    []byte // nil: absent
	release func()
}

// prepare finds a block and sums it.
func (l *lender) prepare(h kv.Hash) loan {
	data, release := l.s.lend(h)
	if data == nil {
		return loan{frame: frame{verdict: absent, hash: h}, release: func() {}}
	}
	return loan{frame{verdict: granted, length: uint64(len(data)), hash: h, sum: xxh3.Hash(data)}, data, release}
}

// sendAll prepares a block while the one before is being sent.
func (l *lender) sendAll() (err error) {
	ready, stop := make(chan loan), make(chan struct{})
	var preparing sync.WaitGroup
	preparing.Go(func() {
		defer close(ready)
		for _, h := range l.hashes {
			next := l.prepare(h)
			select {
			case ready <- next:
			case <-stop:
				next.release()
				return
			}
		}
	})
	for next := range ready {
		if err = l.send(next); err != nil {
			break
		}
	}
	close(stop)
	preparing.Wait()
	return err
}

func (l *lender) send(b loan) error {
	defer b.release()
	b.frame.encode(l.head[:])
	if err := l.write(l.head[:], b.data); err != nil {
		return err
	}
	if b.data == nil {
		l.s.absent.Add(1)
		return nil
	}
	l.s.blocks.Add(1)
	l.s.bytes.Add(uint64(len(b.data)))
	return nil
}

// write sends both parts in one call.
func (l *lender) write(head, data []byte) error {
	if err := l.c.SetWriteDeadline(time.Now().Add(l.s.o.patience(len(data)))); err != nil {
		return err
	}
	l.out = [2][]byte{head, data}
	bufs := net.Buffers(l.out[:])
	_, err := bufs.WriteTo(l.c)
	return err
}
