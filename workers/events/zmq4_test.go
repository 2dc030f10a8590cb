package events

import (
	"context"
	"encoding/binary"
	"io"
	"log"
	"slices"
	"testing"

	"github.com/go-zeromq/zmq4"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

// Another implementation of ZeroMQ reads what Publisher sends.
func TestPublisherServesAnotherZeroMQ(t *testing.T) {
	p := publisher(t, PublisherConfig{Topic: "kv@w0"})
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	quiet := zmq4.WithLogger(log.New(io.Discard, "", 0))
	sub := zmq4.NewSub(ctx, quiet)
	defer sub.Close()
	if err := sub.Dial(p.Endpoint()); err != nil {
		t.Fatal(err)
	}
	if err := sub.SetOption(zmq4.OptionSubscribe, "kv@"); err != nil {
		t.Fatal(err)
	}
	subscribed(t, p, "kv@")
	publish(t, p, 1, 3)
	for seq := range uint64(3) {
		m, err := sub.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Frames) != 3 || string(m.Frames[0]) != "kv@w0" || binary.BigEndian.Uint64(m.Frames[1]) != seq {
			t.Fatalf("message %d: %q", seq, m.Frames)
		}
		if b := decode(t, m.Frames[2]); len(b.Events) != 1 {
			t.Errorf("batch %d: %s", seq, show(b))
		}
	}

	dealer := zmq4.NewDealer(ctx, quiet)
	defer dealer.Close()
	if err := dealer.Dial(p.Replay()); err != nil {
		t.Fatal(err)
	}
	if err := dealer.SendMulti(zmq4.NewMsgFrom(nil, binary.BigEndian.AppendUint64(nil, 1))); err != nil {
		t.Fatal(err)
	}
	var seqs []uint64
	for {
		m, err := dealer.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if len(m.Frames) != 4 {
			t.Fatalf("reply of %d frames", len(m.Frames))
		}
		if slices.Equal(m.Frames[2], endOfReplay[:]) {
			break
		}
		seqs = append(seqs, binary.BigEndian.Uint64(m.Frames[2]))
	}
	if !slices.Equal(seqs, []uint64{1, 2}) {
		t.Errorf("replayed %v", seqs)
	}
}

// A ROUTER of another implementation replays to Reader. (Its PUB socket leaves a
// goroutine behind when closed, so live batches come from ours.)
func TestReaderReplaysFromAnotherZeroMQ(t *testing.T) {
	p := publisher(t, PublisherConfig{})
	hashes := publish(t, p, 1, 4)
	trial.Await(t, "publishing", func() bool { return p.Stats().Published == 4 }, func() any { return p.Stats() })
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	router := zmq4.NewRouter(ctx, zmq4.WithLogger(log.New(io.Discard, "", 0)))
	if err := router.Listen("tcp://127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	defer router.Close()
	go func() {
		for {
			m, err := router.Recv()
			if err != nil {
				return
			}
			id := m.Frames[0]
			p.mu.Lock()
			missed := p.ring.from(binary.BigEndian.Uint64(m.Frames[2]))
			p.mu.Unlock()
			for _, b := range missed {
				router.Send(zmq4.NewMsgFrom(id, nil, nil, binary.BigEndian.AppendUint64(nil, b.seq), b.payload))
			}
			router.Send(zmq4.NewMsgFrom(id, nil, nil, endOfReplay[:], nil))
		}
	}()
	f := follow(t, Source{Endpoint: p.Endpoint(), Replay: "tcp://" + router.Addr().String()})
	f.holds(hashes...)
	f.stop()
}
