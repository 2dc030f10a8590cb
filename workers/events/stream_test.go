package events

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/workers/events/zmtp"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// publisher is one that closes with the test.
func publisher(t *testing.T, c PublisherConfig) *Publisher {
	t.Helper()
	if c.Endpoint == "" {
		c.Endpoint, c.Replay = "tcp://127.0.0.1:0", "tcp://127.0.0.1:0"
	}
	p, err := NewPublisher(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

// follower is a Reader and what its events add up to.
type follower struct {
	*Reader
	t    *testing.T
	mu   sync.Mutex
	held *held
	stop func()
}

func follow(t *testing.T, source Source) *follower {
	t.Helper()
	f := &follower{t: t, held: newHeld(t)}
	f.Reader = NewReader(ReaderConfig{
		Resolve:    func(context.Context) (Source, error) { return source, nil },
		Model:      "m",
		BlockSize:  2,
		Audit:      50 * time.Millisecond,
		BackoffMin: time.Millisecond,
		BackoffMax: 20 * time.Millisecond,
		Emit: func(events []kv.Event) {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.held.apply(events)
		},
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	f.stop = func() { cancel(); <-done }
	t.Cleanup(f.stop)
	return f
}

func (f *follower) wait(what string, ok func(ReaderStats) bool) {
	f.t.Helper()
	trial.Await(f.t, what, func() bool { return ok(f.Stats()) }, func() any { return f.Stats() })
}

// holds waits until the gpu holds exactly these blocks.
func (f *follower) holds(hashes ...kv.Hash) {
	f.t.Helper()
	trial.Await(f.t, "the right blocks", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		for _, h := range hashes {
			if _, ok := f.held.tiers[kv.GPU][h]; !ok {
				return false
			}
		}
		return len(f.held.tiers[kv.GPU]) == len(hashes)
	}, func() any { return f.held.counts() })
}

// prompt is a batch that stores one block of two tokens, and our hash of it.
func prompt(n int) (Batch, kv.Hash) {
	tokens := []uint32{uint32(n), uint32(n)}
	return Batch{Events: []Event{{Kind: kv.Stored, Hashes: intHashes(uint64(n)), Tokens: tokens, BlockSize: 2}}},
		root(kv.RootSpec{}).Child(tokens)
}

func publish(t *testing.T, p *Publisher, from, to int) (hashes []kv.Hash) {
	t.Helper()
	for n := from; n <= to; n++ {
		b, h := prompt(n)
		if !p.Publish(b) {
			t.Fatal("the queue is full")
		}
		hashes = append(hashes, h)
	}
	return hashes
}

// subscribed waits until the publisher knows of a subscription.
func subscribed(t *testing.T, p *Publisher, topic string) {
	t.Helper()
	trial.Await(t, "the subscription", func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for s := range p.subs {
			if s.topics[topic] {
				return true
			}
		}
		return false
	}, func() any { return p.Stats() })
}

func sourceOf(p *Publisher) Source {
	return Source{Endpoint: p.Endpoint(), Replay: p.Replay(), Topic: p.Topic()}
}

func TestReaderThatJoinsLateHasEverything(t *testing.T) {
	p := publisher(t, PublisherConfig{Topic: "kv@w0"})
	hashes := publish(t, p, 1, 50)
	trial.Await(t, "publishing", func() bool { return p.Stats().Published == 50 }, func() any { return p.Stats() })
	f := follow(t, sourceOf(p))
	f.holds(hashes...)
	hashes = append(hashes, publish(t, p, 51, 60)...)
	f.holds(hashes...)
	f.wait("a clean stream", func(s ReaderStats) bool { return s.Connected && s.LastSeq == 59 && s.Lost() == 0 && s.Restarts == 0 })
}

func TestReaderNoticesARestartedEngine(t *testing.T) {
	p := publisher(t, PublisherConfig{})
	source := sourceOf(p)
	f := follow(t, source)
	f.holds(publish(t, p, 1, 3)...)
	p.Close()
	f.wait("the break", func(s ReaderStats) bool { return s.Breaks == 1 })

	// The new engine has published more than the reader knew of the old one, so
	// numbers alone do not tell.
	q := publisher(t, PublisherConfig{Endpoint: source.Endpoint, Replay: source.Replay})
	hashes := publish(t, q, 11, 20)
	f.holds(hashes...)
	f.wait("the restart", func(s ReaderStats) bool { return s.Restarts == 1 && s.Connected })
}

// Behind a proxy the connection outlives the engine.
func TestReaderNoticesARestartBehindAProxy(t *testing.T) {
	l, err := zmtp.Listen("tcp://127.0.0.1:0", zmtp.Pub)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	f := follow(t, Source{Endpoint: l.Endpoint()})
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Handshake(); err != nil {
		t.Fatal(err)
	}
	send := func(seq uint64, n int) kv.Hash {
		t.Helper()
		batch, h := prompt(n)
		var payload bytes.Buffer
		if err := appendBatch(&payload, batch); err != nil {
			t.Fatal(err)
		}
		if err := c.Send(nil, binary.BigEndian.AppendUint64(nil, seq), payload.Bytes()); err != nil {
			t.Fatal(err)
		}
		return h
	}
	f.holds(send(0, 1), send(1, 2), send(2, 3))
	f.holds(send(0, 4), send(1, 5))
	f.wait("the restart", func(s ReaderStats) bool { return s.Restarts == 1 && s.Duplicates == 0 && s.Connected })
}

func TestReaderResumesAfterABrokenConnection(t *testing.T) {
	p := publisher(t, PublisherConfig{})
	r := startRelay(t, p.Endpoint())
	f := follow(t, Source{Endpoint: r.endpoint(), Replay: p.Replay()})
	hashes := publish(t, p, 1, 3)
	f.holds(hashes...)
	for i := range 5 {
		breaks := f.Stats().Breaks
		r.cut()
		hashes = append(hashes, publish(t, p, 10+i, 10+i)...)
		f.wait("the break", func(s ReaderStats) bool { return s.Breaks > breaks })
		f.holds(hashes...)
	}
	if s := f.Stats(); s.Restarts != 0 || s.Lost() != 0 {
		t.Errorf("stats %+v", s)
	}
}

func TestReaderFillsGapsFromTheReplaySocket(t *testing.T) {
	p := publisher(t, PublisherConfig{})
	r := startRelay(t, p.Endpoint())
	f := follow(t, Source{Endpoint: r.endpoint(), Replay: p.Replay()})
	f.wait("the connection", func(s ReaderStats) bool { return s.Connected })
	r.dropping(func(seq uint64) bool { return seq%3 == 1 })
	subscribed(t, p, "")
	var hashes []kv.Hash
	// An audit of an idle stream may be quicker than the relay, and leave no gap.
	for n := 1; n == 1 || n < 1000 && f.Stats().Gaps == 0; n += 31 {
		hashes = append(hashes, publish(t, p, n, n+30)...)
		f.holds(hashes...)
	}
	if s := f.Stats(); s.Gaps == 0 || s.Lost() != 0 || s.Resyncs != 0 {
		t.Errorf("stats %+v", s)
	}
}

// The last batch before an engine falls idle is lost: nothing that comes later
// shows the gap.
func TestReaderAuditsAnIdleStream(t *testing.T) {
	p := publisher(t, PublisherConfig{})
	r := startRelay(t, p.Endpoint())
	f := follow(t, Source{Endpoint: r.endpoint(), Replay: p.Replay()})
	f.wait("the connection", func(s ReaderStats) bool { return s.Connected })
	r.dropping(func(uint64) bool { return true })
	f.holds(publish(t, p, 1, 3)...)
}

func TestAGapThatCannotBeFilledClears(t *testing.T) {
	p := publisher(t, PublisherConfig{})
	r := startRelay(t, p.Endpoint())
	f := follow(t, Source{Endpoint: r.endpoint()}) // no replay socket
	f.wait("the connection", func(s ReaderStats) bool { return s.Connected })
	subscribed(t, p, "")
	r.dropping(func(seq uint64) bool { return seq == 1 || seq == 2 })
	hashes := publish(t, p, 1, 5)
	f.holds(hashes[3:]...)
	if s := f.Stats(); s.LostBatches != 2 || s.Resyncs != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestOverflowLeavesAHoleThatReadersNotice(t *testing.T) {
	p := publisher(t, PublisherConfig{})
	f := follow(t, sourceOf(p))
	f.holds(publish(t, p, 1, 2)...)
	p.overflowed.Add(1) // as Publish does when the queue is full
	f.holds(publish(t, p, 3, 3)...)
	if s := f.Stats(); s.LostBatches != 1 || s.Resyncs != 1 {
		t.Errorf("stats %+v", s)
	}
}

func TestPublishNeverBlocks(t *testing.T) {
	p := publisher(t, PublisherConfig{Queue: 4})
	p.mu.Lock() // the publisher's goroutine is stuck
	b, _ := prompt(1)
	for range 100 {
		p.Publish(b)
	}
	p.mu.Unlock()
	trial.Await(t, "the books to balance", func() bool {
		s := p.Stats()
		return s.Overflowed >= 90 && s.Published+s.Overflowed == 100
	}, func() any { return p.Stats() })
}

// A subscriber that reads nothing must not keep others, or the publisher, waiting.
func TestASlowSubscriberHarmsNobody(t *testing.T) {
	p := publisher(t, PublisherConfig{Queue: 16})
	slow, err := zmtp.Dial(t.Context(), p.Endpoint(), zmtp.Sub)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	if err := slow.Send([]byte{1}); err != nil {
		t.Fatal(err)
	}
	f := follow(t, sourceOf(p))
	trial.Await(t, "both subscribers", func() bool { return p.Stats().Subscribers == 2 }, func() any { return p.Stats() })
	var last kv.Hash
	for n := 1; p.Stats().Skipped == 0; n++ {
		big := Event{Kind: kv.Stored, Hashes: intHashes(uint64(n)), Tokens: make([]uint32, 1<<16), BlockSize: 1 << 16}
		small, h := prompt(n)
		last = h
		for !p.Publish(Batch{Events: append(small.Events, big)}) {
			time.Sleep(time.Millisecond)
		}
	}
	trial.Await(t, "the other subscriber", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		_, ok := f.held.tiers[kv.GPU][last]
		return ok
	}, func() any { return f.Stats() })
}

func TestRingIsBounded(t *testing.T) {
	r := ring{maxBatches: 100, maxBytes: 1000}
	for i := range 5000 {
		r.add(make([]byte, i%40))
		held := r.from(0)
		bytes := 0
		for _, m := range held {
			bytes += len(m.payload)
		}
		if len(held) > 100 || bytes > 1000 || bytes != r.bytes || held[len(held)-1].seq != uint64(i) {
			t.Fatalf("after %d: %d batches, %d bytes (booked %d)", i, len(held), bytes, r.bytes)
		}
		if from := uint64(max(i-3, 0)); r.from(from)[0].seq != from {
			t.Fatalf("from %d begins at %d", from, r.from(from)[0].seq)
		}
	}
	if len(r.from(1<<40)) != 0 {
		t.Error("there is something from the future")
	}
}

// vLLM until 0.24 and its replay without the topic frame.
func TestReaderUnderstandsTheOldReplay(t *testing.T) {
	p := publisher(t, PublisherConfig{})
	hashes := publish(t, p, 1, 5)
	trial.Await(t, "publishing", func() bool { return p.Stats().Published == 5 }, func() any { return p.Stats() })
	l, err := zmtp.Listen("tcp://127.0.0.1:0", zmtp.Router)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer l.Close()
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if c.Handshake() != nil {
					return
				}
				frames, err := c.Recv(0)
				if err != nil {
					return
				}
				p.mu.Lock()
				missed := p.ring.from(binary.BigEndian.Uint64(frames[1]))
				p.mu.Unlock()
				for _, m := range missed {
					c.Send(nil, binary.BigEndian.AppendUint64(nil, m.seq), m.payload)
				}
				c.Send(nil, endOfReplay[:], nil)
				c.Recv(0)
			})
		}
	})
	f := follow(t, Source{Endpoint: p.Endpoint(), Replay: l.Endpoint()})
	f.holds(hashes...)
	f.stop()
}

func TestReaderOfAnEngineWithoutEventsWaits(t *testing.T) {
	asked := make(chan struct{}, 1)
	r := NewReader(ReaderConfig{
		Resolve: func(context.Context) (Source, error) {
			select {
			case asked <- struct{}{}:
			default:
			}
			return Source{}, ErrNoSource
		},
		Emit: func([]kv.Event) { t.Error("events from nowhere") },
	})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- r.Run(ctx) }()
	<-asked
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run returned %v", err)
	}
}

// relay stands between a publisher and readers; it may drop batches and cut
// connections.
type relay struct {
	l *zmtp.Listener

	mu    sync.Mutex
	drop  func(seq uint64) bool
	conns []*zmtp.Conn
}

func startRelay(t *testing.T, upstream string) *relay {
	t.Helper()
	l, err := zmtp.Listen("tcp://127.0.0.1:0", zmtp.Pub)
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{l: l, drop: func(uint64) bool { return false }}
	var wg sync.WaitGroup
	t.Cleanup(func() {
		l.Close()
		r.cut()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			down, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			wg.Go(func() { r.serve(t, down, upstream) })
		}
	})
	return r
}

func (r *relay) serve(t *testing.T, down *zmtp.Conn, upstream string) {
	defer down.Close()
	up, err := zmtp.Dial(context.Background(), upstream, zmtp.Sub)
	if err != nil {
		return
	}
	defer up.Close()
	r.mu.Lock()
	r.conns = append(r.conns, up, down)
	r.mu.Unlock()
	if down.Handshake() != nil {
		return
	}
	sub, err := down.Recv(0)
	if err != nil || up.Send(sub[0]) != nil {
		return
	}
	for {
		frames, err := up.Recv(0)
		if err != nil {
			return
		}
		r.mu.Lock()
		dropped := r.drop(binary.BigEndian.Uint64(frames[1]))
		r.mu.Unlock()
		if dropped {
			continue
		}
		if down.Send(frames...) != nil {
			return
		}
	}
}

func (r *relay) endpoint() string { return r.l.Endpoint() }

func (r *relay) dropping(drop func(seq uint64) bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.drop = drop
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

func TestEndpoints(t *testing.T) {
	p := publisher(t, PublisherConfig{Endpoint: "tcp://*:0"})
	if e := p.Endpoint(); !strings.HasPrefix(e, "tcp://*:") || strings.HasSuffix(e, ":0") || p.Replay() != "" {
		t.Errorf("endpoint %q, replay %q", e, p.Replay())
	}
	dir := t.TempDir()
	q := publisher(t, PublisherConfig{Endpoint: "ipc://" + dir + "/e", Replay: "ipc://" + dir + "/r"})
	f := follow(t, sourceOf(q))
	f.holds(publish(t, q, 1, 3)...)
	if _, err := NewPublisher(PublisherConfig{Endpoint: "udp://1.2.3.4:5"}); err == nil {
		t.Error("an endpoint of an unknown kind was accepted")
	}
	if _, err := NewPublisher(PublisherConfig{Endpoint: "tcp://127.0.0.1:0", Replay: q.Replay()}); err == nil {
		t.Error("a socket in use was taken over")
	}
}
