package tierbench

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"

	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/kvbm/host"
)

// HolderSpec is what the second process of a peer bench is to hold.
type HolderSpec struct {
	Model      string `json:"model"`
	Blocks     int    `json:"blocks"`
	BlockBytes int    `json:"block_bytes"`
}

// holderAt is where it can be reached.
type holderAt struct {
	Peer string `json:"peer"` // the manager
	Raw  string `json:"raw"`  // the bare sockets
}

// Hold is the second process: it reads a HolderSpec and then numbers of rounds
// from in, fills its cpu tier with each round's blocks and says so, until in
// ends.
func Hold(ctx context.Context, in io.Reader, out io.Writer) (err error) {
	lines := bufio.NewScanner(in)
	var spec HolderSpec
	if !lines.Scan() {
		return errors.New("nothing was said of what to hold")
	}
	if err := json.Unmarshal(lines.Bytes(), &spec); err != nil {
		return err
	}
	c := hostConfig(spec.Model, spec.Blocks, spec.BlockBytes)
	c.Peer = kvbm.PeerConfig{Listen: "127.0.0.1:0", Secret: spec.Model}
	m, err := kvbm.Open(ctx, c)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, m.Close(context.WithoutCancel(ctx))) }()
	raw, err := serveRaw(spec)
	if err != nil {
		return err
	}
	defer raw.close()
	if err := json.NewEncoder(out).Encode(holderAt{m.PeerAddress(), raw.l.Addr().String()}); err != nil {
		return err
	}
	for pages := (&stamps{}); lines.Scan(); {
		round, err := strconv.Atoi(strings.TrimSpace(lines.Text()))
		if err != nil {
			return err
		}
		if err := fill(ctx, m, pages, names(round, spec.Blocks)); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(out, round); err != nil {
			return err
		}
	}
	return lines.Err()
}

// rawServer sends memory over bare sockets: for each number that comes over a
// connection, so many blocks, one after the other.
type rawServer struct {
	l   net.Listener
	mem *host.Memory
	wg  sync.WaitGroup
}

func serveRaw(spec HolderSpec) (*rawServer, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mem, err := host.Map(spec.Blocks, spec.BlockBytes)
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	for i := range spec.Blocks {
		clear(mem.Slot(i)) // or there would be no memory behind it
	}
	s := &rawServer{l: l, mem: mem}
	s.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			s.wg.Go(func() { defer c.Close(); s.send(c, spec.Blocks) })
		}
	})
	return s, nil
}

func (s *rawServer) send(c net.Conn, blocks int) {
	var ask [8]byte
	for at := 0; ; {
		if _, err := io.ReadFull(c, ask[:]); err != nil {
			return
		}
		for n := binary.LittleEndian.Uint64(ask[:]); n > 0; n-- {
			if _, err := c.Write(s.mem.Slot(at)); err != nil {
				return
			}
			at = (at + 1) % blocks
		}
	}
}

// close waits for the other side to hang up.
func (s *rawServer) close() {
	_ = s.l.Close()
	s.wg.Wait()
	_ = s.mem.Close()
}
