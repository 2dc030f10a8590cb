package tierbench

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/kvbm/host"
)

// peerPair is a manager here and the holder in another process.
type peerPair struct {
	ctx    context.Context
	o      Options
	model  string
	reader *kvbm.Manager
	holder *exec.Cmd
	say    io.WriteCloser
	hear   *bufio.Scanner
	at     holderAt
	blocks int
	round  []kv.Block
}

func newPeerPair(ctx context.Context, blocks int, o Options) (_ *peerPair, err error) {
	p := &peerPair{ctx: ctx, o: o, model: fmt.Sprintf("bench %x", rand.Uint64()), blocks: blocks, holder: o.Holder()}
	p.holder.Stderr = os.Stderr
	if p.say, err = p.holder.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := p.holder.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.hear = bufio.NewScanner(out)
	if err := p.holder.Start(); err != nil {
		return nil, err
	}
	if err := p.meet(); err != nil {
		return nil, errors.Join(err, p.close())
	}
	return p, nil
}

func (p *peerPair) meet() (err error) {
	if err := json.NewEncoder(p.say).Encode(HolderSpec{p.model, p.blocks, p.o.BlockBytes}); err != nil {
		return err
	}
	if !p.hear.Scan() {
		return errors.New("the holder ended")
	}
	if err := json.Unmarshal(p.hear.Bytes(), &p.at); err != nil {
		return err
	}
	p.reader, err = p.open(p.blocks)
	return err
}

// open makes a manager here that can pull.
func (p *peerPair) open(blocks int) (*kvbm.Manager, error) {
	c := hostConfig(p.model, blocks, p.o.BlockBytes)
	c.Peer = kvbm.PeerConfig{Listen: "127.0.0.1:0", Secret: p.model}
	return kvbm.Open(p.ctx, c)
}

func (p *peerPair) prepare(round int) error {
	p.round = names(round, p.blocks)
	if _, err := fmt.Fprintln(p.say, round); err != nil {
		return err
	}
	if !p.hear.Scan() {
		return errors.New("the holder ended")
	}
	return nil
}

// write is nothing: blocks are pulled, not pushed.
func (p *peerPair) write() error { return nil }

func (p *peerPair) read() error { return p.pull(p.reader, p.round) }

func (p *peerPair) pull(m *kvbm.Manager, bs []kv.Block) error {
	return pull(p.ctx, m, kv.Peer, kvbm.OnboardRequest{Blocks: bs, Peers: []kvbm.PeerSource{{Address: p.at.Peer, Count: len(bs)}}})
}

func (p *peerPair) close() error {
	var errs []error
	if p.reader != nil {
		errs = append(errs, p.reader.Close(context.WithoutCancel(p.ctx)))
	}
	return errors.Join(append(errs, p.say.Close(), p.holder.Wait())...)
}

// latencies are of single blocks: those a manager with two slots has pushed out
// again.
func (p *peerPair) latencies(t *TierReport, l limit) error {
	m, err := p.open(2)
	if err != nil {
		return err
	}
	defer m.Close(context.WithoutCancel(p.ctx))
	at := 0
	if t.Load, err = distribution(func() error {
		at = (at + 1) % min(p.blocks, latencyProbes)
		return p.pull(m, p.round[at:at+1])
	}); err != nil {
		return err
	}
	t.LimitLoad, err = distribution(func() error { return l.read(1) })
	return err
}

// rawPeer streams from the holder's memory into ours.
type rawPeer struct {
	conns []net.Conn
	mem   *host.Memory
}

func newRawPeer(p *peerPair) (limit, error) {
	l := &rawPeer{}
	var err error
	if l.mem, err = host.Map(p.blocks, p.o.BlockBytes); err != nil {
		return nil, err
	}
	for range sockets {
		c, err := net.DialTimeout("tcp", p.at.Raw, time.Second)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		l.conns = append(l.conns, c)
	}
	return l, nil
}

func (l *rawPeer) name() string {
	return fmt.Sprintf("bare TCP sockets between two processes, %d connections", sockets)
}

func (l *rawPeer) write(int) error { return nil }

// read asks each connection once for its share.
func (l *rawPeer) read(n int) error {
	return each(min(n, len(l.conns)), len(l.conns), func(w, _ int) error {
		share := n/len(l.conns) + min(1, max(0, n%len(l.conns)-w))
		var ask [8]byte
		binary.LittleEndian.PutUint64(ask[:], uint64(share))
		if _, err := l.conns[w].Write(ask[:]); err != nil {
			return err
		}
		for i := range share {
			if _, err := io.ReadFull(l.conns[w], l.mem.Slot(w+i*len(l.conns))); err != nil {
				return err
			}
		}
		return nil
	})
}

func (l *rawPeer) close() error {
	var errs []error
	for _, c := range l.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(append(errs, l.mem.Close())...)
}
