package events

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvasir-ai/kvasir/workers/events/zmtp"
)

// PublisherConfig says where and how an engine publishes.
type PublisherConfig struct {
	// Endpoint and Replay are bound: tcp://host:port (host * for every
	// interface, port 0 for one that the system picks) or ipc://path. An empty
	// Replay means none, and readers that miss something start over.
	Endpoint, Replay string
	Topic            string
	// Buffer is how many batches are kept for replay (default 10,000), within
	// BufferBytes (default 64 MiB).
	Buffer      int
	BufferBytes int
	// Queue bounds the batches that wait to be encoded and those that wait for
	// a slow subscriber (default 10,000 each).
	Queue int
	Log   *slog.Logger
}

func (c *PublisherConfig) setDefaults() {
	if c.Buffer <= 0 {
		c.Buffer = 10_000
	}
	if c.BufferBytes <= 0 {
		c.BufferBytes = 64 << 20
	}
	if c.Queue <= 0 {
		c.Queue = 10_000
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// PublisherStats counts since the start.
type PublisherStats struct {
	Published uint64 // batches
	// Overflowed batches were dropped because the queue was full. Each leaves a
	// hole in the sequence, so that readers notice.
	Overflowed uint64
	// Skipped counts batches not sent to a subscriber that was too slow; it
	// finds them on the replay socket.
	Skipped     uint64
	Replayed    uint64 // batches
	Subscribers int
}

// Publisher publishes KV events as vLLM does: live batches on a PUB socket, the
// latest of them again on a ROUTER socket. Its methods may be called from any
// goroutine.
type Publisher struct {
	c      PublisherConfig
	live   *zmtp.Listener
	replay *zmtp.Listener // nil: none

	queue      chan Batch
	overflowed atomic.Uint64
	skipped    atomic.Uint64
	replayed   atomic.Uint64
	done       chan struct{}
	wg         sync.WaitGroup

	mu     sync.Mutex // guards what follows
	ring   ring
	subs   map[*subscriber]struct{}
	conns  map[*zmtp.Conn]struct{}
	closed bool
}

const acceptPause = 100 * time.Millisecond

// NewPublisher binds both sockets and starts publishing.
func NewPublisher(c PublisherConfig) (*Publisher, error) {
	c.setDefaults()
	p := &Publisher{
		c:     c,
		queue: make(chan Batch, c.Queue),
		done:  make(chan struct{}),
		subs:  map[*subscriber]struct{}{},
		conns: map[*zmtp.Conn]struct{}{},
		ring:  ring{maxBatches: c.Buffer, maxBytes: c.BufferBytes},
	}
	var err error
	if p.live, err = zmtp.Listen(c.Endpoint, zmtp.Pub); err != nil {
		return nil, fmt.Errorf("events: publisher endpoint: %w", err)
	}
	if c.Replay != "" {
		if p.replay, err = zmtp.Listen(c.Replay, zmtp.Router); err != nil {
			p.live.Close()
			return nil, fmt.Errorf("events: replay endpoint: %w", err)
		}
		p.wg.Go(func() { p.accept(p.replay, p.serveReplay) })
	}
	p.wg.Go(func() { p.accept(p.live, p.serveSubscriber) })
	p.wg.Go(p.run)
	return p, nil
}

// Endpoint is where subscribers connect.
func (p *Publisher) Endpoint() string { return p.live.Endpoint() }

// Replay is where they ask for what they missed; empty: nowhere.
func (p *Publisher) Replay() string {
	if p.replay == nil {
		return ""
	}
	return p.replay.Endpoint()
}

// Topic is the first frame of each message.
func (p *Publisher) Topic() string { return p.c.Topic }

// Publish queues a batch and returns at once; b and what it points to belong to
// the publisher from then on. False: the queue was full and the batch is lost,
// which is counted and which readers notice.
func (p *Publisher) Publish(b Batch) bool {
	select {
	case p.queue <- b:
		return true
	default:
		p.overflowed.Add(1)
		return false
	}
}

// Stats is a snapshot of the counters.
func (p *Publisher) Stats() PublisherStats {
	p.mu.Lock()
	defer p.mu.Unlock()
	return PublisherStats{
		Published:   p.ring.published,
		Overflowed:  p.overflowed.Load(),
		Skipped:     p.skipped.Load(),
		Replayed:    p.replayed.Load(),
		Subscribers: len(p.subs),
	}
}

// Close drops what is queued, closes both sockets and every connection, and
// waits for the goroutines.
func (p *Publisher) Close() error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil
	}
	p.closed = true
	close(p.done)
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	err := p.live.Close()
	if p.replay != nil {
		err = errors.Join(err, p.replay.Close())
	}
	p.wg.Wait()
	return err
}

// run numbers, encodes and hands out batches.
func (p *Publisher) run() {
	var buf bytes.Buffer
	var lost uint64 // overflows already given a number
	for {
		var b Batch
		select {
		case <-p.done:
			return
		case b = <-p.queue:
		}
		buf.Reset()
		if err := appendBatch(&buf, b); err != nil {
			p.c.Log.Error("an event batch cannot be encoded", "error", err)
			continue
		}
		n := p.overflowed.Load()
		p.mu.Lock()
		p.ring.next += n - lost
		m := p.ring.add(bytes.Clone(buf.Bytes()))
		for s := range p.subs {
			s.offer(m, &p.skipped)
		}
		p.mu.Unlock()
		lost = n
	}
}

// accept serves each connection in a goroutine of its own.
func (p *Publisher) accept(l *zmtp.Listener, serve func(*zmtp.Conn) error) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			p.c.Log.Warn("accepting an event subscriber failed", "endpoint", l.Endpoint(), "error", err)
			select {
			case <-p.done:
			case <-time.After(acceptPause): // out of file descriptors, most likely
			}
			continue
		}
		p.mu.Lock()
		if p.closed {
			p.mu.Unlock()
			c.Close()
			return
		}
		p.conns[c] = struct{}{}
		p.wg.Go(func() {
			if err := serve(c); err != nil {
				p.c.Log.Debug("an event subscriber left", "endpoint", l.Endpoint(), "error", err)
			}
			c.Close()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		})
		p.mu.Unlock()
	}
}

// subscriber is one SUB peer.
type subscriber struct {
	queue  chan message
	topics map[string]bool // guarded by Publisher.mu
	topic  string
}

func (s *subscriber) offer(m message, skipped *atomic.Uint64) {
	wanted := false
	for t := range s.topics {
		wanted = wanted || strings.HasPrefix(s.topic, t)
	}
	if !wanted {
		return
	}
	select {
	case s.queue <- m:
	default:
		skipped.Add(1)
	}
}

// serveSubscriber reads subscriptions while a second goroutine writes.
func (p *Publisher) serveSubscriber(c *zmtp.Conn) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	s := &subscriber{queue: make(chan message, p.c.Queue), topics: map[string]bool{}, topic: p.c.Topic}
	p.mu.Lock()
	p.subs[s] = struct{}{}
	p.mu.Unlock()
	gone := make(chan struct{})
	var writer sync.WaitGroup
	writer.Go(func() {
		p.feed(c, s, gone)
		c.Close() // ends the reader below
	})
	err := p.readSubscriptions(c, s)
	p.mu.Lock()
	delete(p.subs, s)
	p.mu.Unlock()
	close(gone)
	writer.Wait()
	return err
}

func (p *Publisher) readSubscriptions(c *zmtp.Conn, s *subscriber) error {
	const maxTopics = 64
	for {
		frames, err := c.Recv(0)
		if err != nil {
			return err
		}
		if len(frames) != 1 || len(frames[0]) == 0 || frames[0][0] > 1 {
			continue // not a subscription; PUB sockets ignore the rest
		}
		topic := string(frames[0][1:])
		p.mu.Lock()
		if frames[0][0] == 0 {
			delete(s.topics, topic)
		} else if len(s.topics) < maxTopics {
			s.topics[topic] = true
		}
		p.mu.Unlock()
	}
}

func (p *Publisher) feed(c *zmtp.Conn, s *subscriber, gone <-chan struct{}) {
	topic := []byte(p.c.Topic)
	var seq [8]byte
	for {
		select {
		case <-gone:
			return
		case <-p.done:
			return
		case m := <-s.queue:
			binary.BigEndian.PutUint64(seq[:], m.seq)
			if c.Send(topic, seq[:], m.payload) != nil {
				return
			}
		}
	}
}

// serveReplay answers each request ["", seq] with every buffered batch from
// that number on, and an end marker.
func (p *Publisher) serveReplay(c *zmtp.Conn) error {
	if err := c.Handshake(); err != nil {
		return err
	}
	topic := []byte(p.c.Topic)
	var seq [8]byte
	for {
		frames, err := c.Recv(0)
		if err != nil {
			return err
		}
		if len(frames) != 2 || len(frames[0]) != 0 || len(frames[1]) != 8 {
			return fmt.Errorf("replay request of %d frames, want an empty one and 8 bytes of sequence number", len(frames))
		}
		p.mu.Lock()
		missed := p.ring.from(binary.BigEndian.Uint64(frames[1]))
		p.mu.Unlock()
		for _, m := range missed {
			binary.BigEndian.PutUint64(seq[:], m.seq)
			if err := c.Send(nil, topic, seq[:], m.payload); err != nil {
				return err
			}
			p.replayed.Add(1)
		}
		if err := c.Send(nil, nil, endOfReplay[:], nil); err != nil {
			return err
		}
	}
}

// endOfReplay stands in the place of a sequence number after the last batch.
var endOfReplay = [8]byte{0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF}
