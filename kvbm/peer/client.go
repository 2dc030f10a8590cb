package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/zeebo/xxh3"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// What a block can end with besides success and connection errors.
var (
	ErrMiss    = errors.New("peer tier: the peer does not have the block")
	ErrCorrupt = errors.New("peer tier: the block is not what the peer says")
)

// staleAfter is how long a connection may lie idle, less than a server's limit.
const staleAfter = time.Minute

// Client pulls from one peer, over as many connections as there are calls at a
// time. It connects when it has to. Its methods are safe for concurrent use.
type Client struct {
	address string
	o       Options

	mu     sync.Mutex
	idle   []*link // latest used last
	closed bool
}

// NewClient is a client of the peer at an address, host:port.
func NewClient(address string, o Options) *Client {
	return &Client{address: address, o: o.withDefaults()}
}

// Close closes idle connections; those in use close when their calls end.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for _, l := range c.idle {
		l.conn.Close()
	}
	c.idle = nil
	return nil
}

// Block is one block to pull: what it is and where it shall go.
type Block struct {
	Hash kv.Hash
	Dst  []byte
}

// Fetch pulls blocks and calls landed for each in order, one at a time, with nil,
// ErrMiss or ErrCorrupt; only with nil are the bytes of Dst good. An error means that the
// blocks not landed so far will not. The end of ctx ends the call.
func (c *Client) Fetch(ctx context.Context, blocks []Block, landed func(i int, err error)) error {
	for len(blocks) > MaxRequest {
		if err := c.Fetch(ctx, blocks[:MaxRequest], landed); err != nil {
			return err
		}
		rest := landed
		blocks, landed = blocks[MaxRequest:], func(i int, err error) { rest(i+MaxRequest, err) }
	}
	if len(blocks) == 0 {
		return nil
	}
	l, reused, err := c.take(ctx)
	if err != nil {
		return c.wrap(ctx, err)
	}
	n, err := l.fetch(ctx, blocks, landed)
	if err != nil && n == 0 && reused && ctx.Err() == nil && closedMeanwhile(err) {
		l.conn.Close()
		if l, err = c.connect(ctx); err != nil {
			return c.wrap(ctx, err)
		}
		_, err = l.fetch(ctx, blocks, landed)
	}
	if err != nil {
		l.conn.Close()
		return c.wrap(ctx, err)
	}
	c.give(l)
	return nil
}

// closedMeanwhile reports whether the peer closed an idle connection, which
// says nothing about the peer as it is now.
func closedMeanwhile(err error) bool {
	e := net.Error(nil)
	return !errors.Is(err, errGarbled) && (!errors.As(err, &e) || !e.Timeout())
}

func (c *Client) wrap(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		err = ctx.Err()
	}
	return fmt.Errorf("peer tier: %s: %w", c.address, err)
}

// take is an idle connection or a new one.
func (c *Client) take(ctx context.Context) (l *link, reused bool, err error) {
	c.mu.Lock()
	for n := len(c.idle); n > 0; n = len(c.idle) {
		l, c.idle = c.idle[n-1], c.idle[:n-1]
		if time.Since(l.used) < staleAfter {
			c.mu.Unlock()
			return l, true, nil
		}
		l.conn.Close() // as are all before it
	}
	c.mu.Unlock()
	l, err = c.connect(ctx)
	return l, false, err
}

func (c *Client) connect(ctx context.Context) (*link, error) {
	conn, err := dial(ctx, c.address, c.o)
	if err != nil {
		return nil, err
	}
	return &link{conn: conn, o: c.o}, nil
}

func (c *Client) give(l *link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		l.conn.Close()
		return
	}
	l.used = time.Now()
	c.idle = append(c.idle, l)
}

// link is one connection.
type link struct {
	conn net.Conn
	o    Options
	used time.Time
	buf  []byte
	head [frameBytes]byte
}

// fetch makes one request. n blocks have landed when it returns.
func (l *link) fetch(ctx context.Context, blocks []Block, landed func(int, error)) (n int, err error) {
	stop := context.AfterFunc(ctx, func() { l.conn.Close() })
	defer func() {
		if !stop() && err == nil {
			err = ctx.Err() // the connection is closed, or is about to be
		}
	}()
	hashes := make([]kv.Hash, len(blocks))
	for i := range blocks {
		hashes[i] = blocks[i].Hash
	}
	l.buf = encodeRequest(l.buf[:0], hashes)
	if err := l.conn.SetWriteDeadline(time.Now().Add(l.o.Stall)); err != nil {
		return 0, err
	}
	if _, err := l.conn.Write(l.buf); err != nil {
		return 0, err
	}
	if l.o.overlap && len(blocks) > 1 {
		return l.receiveAll(blocks, landed)
	}
	for ; n < len(blocks); n++ {
		sum, err := l.receive(&blocks[n])
		if err != nil && !errors.Is(err, ErrMiss) {
			return n, err
		}
		landed(n, verify(&blocks[n], sum, err))
	}
	return n, nil
}

// receiveAll verifies a block while the next one comes.
func (l *link) receiveAll(blocks []Block, landed func(int, error)) (n int, err error) {
	type arrival struct {
		sum uint64
		err error // nil or ErrMiss
	}
	arrivals := make(chan arrival)
	var verifying sync.WaitGroup
	verifying.Go(func() {
		for a := range arrivals {
			landed(n, verify(&blocks[n], a.sum, a.err))
			n++
		}
	})
	for i := range blocks {
		var a arrival
		if a.sum, a.err = l.receive(&blocks[i]); a.err != nil && !errors.Is(a.err, ErrMiss) {
			err = a.err
			break
		}
		arrivals <- a
	}
	close(arrivals)
	verifying.Wait()
	return n, err
}

// verify is how a block that was received ended.
func verify(b *Block, sum uint64, err error) error {
	if err == nil && xxh3.Hash(b.Dst) != sum {
		return ErrCorrupt
	}
	return err
}

// receive reads one frame and its bytes, whose sum shall be the one returned.
func (l *link) receive(b *Block) (sum uint64, err error) {
	if err := l.fill(l.head[:]); err != nil {
		return 0, err
	}
	f, err := parseFrame(l.head[:])
	switch {
	case err != nil:
		return 0, err
	case f.hash != b.Hash:
		return 0, fmt.Errorf("%w: a frame of another block", errGarbled)
	case f.verdict == absent:
		return 0, ErrMiss
	case f.verdict != granted || f.length != uint64(len(b.Dst)):
		return 0, fmt.Errorf("%w: a frame of %d bytes, verdict %d", errGarbled, f.length, f.verdict)
	}
	return f.sum, l.fill(b.Dst)
}

// fill reads all of b.
func (l *link) fill(b []byte) error {
	if err := l.conn.SetReadDeadline(time.Now().Add(l.o.patience(len(b)))); err != nil {
		return err
	}
	_, err := io.ReadFull(l.conn, b)
	return err
}
