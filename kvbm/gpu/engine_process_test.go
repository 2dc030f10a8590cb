package gpu

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/zeebo/xxh3"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/kvbm/host"
)

// The engine of these tests is this program in a second process, which owns GPU
// memory and hands it over as an inference engine's plug-in does.

const engineEnv = "KVASIR_GPU_TEST_ENGINE"

func TestMain(m *testing.M) {
	if setup := os.Getenv(engineEnv); setup != "" {
		if err := runEngine(setup); err != nil {
			fmt.Fprintln(os.Stderr, "engine:", err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(m)
}

// engineSetup is what the engine is started with.
type engineSetup struct {
	Socket string
	Kind   string // of memory: ipc, segments or private
	Layers int
	Page   int // bytes of a page of a layer
	Pages  int
}

type engineOrder struct {
	Do   string // sums, step, fill
	Step uint64
}

type engineAnswer struct {
	Refused string
	Sums    []uint64 // of each page: of its fragments one after another
}

type testEngine struct {
	engineSetup
	ctx     *cuda.Context
	stream  *cuda.Stream
	done    *cuda.Event
	addr    uint64
	counter uint64
	scratch *host.Memory
}

func runEngine(setup string) error {
	e := &testEngine{}
	if err := json.Unmarshal([]byte(setup), &e.engineSetup); err != nil {
		return err
	}
	d, err := cuda.Open()
	if err != nil {
		return err
	}
	if e.ctx, err = d.Context(0); err != nil {
		return err
	}
	if err := e.allocate(); err != nil {
		return err
	}
	nc, err := net.Dial("unix", e.Socket)
	if err != nil {
		return err
	}
	c := nc.(*net.UnixConn)
	out, in := json.NewEncoder(c), json.NewDecoder(bufio.NewReader(c))
	reg, err := e.register()
	if errors.Is(err, cuda.ErrNotShareable) {
		return out.Encode(engineAnswer{Refused: err.Error()})
	}
	if err != nil {
		return err
	}
	if err := reg.Send(c); err != nil {
		return err
	}
	reg.closeFDs()
	for {
		var o engineOrder
		if in.Decode(&o) != nil {
			return nil // the test is over
		}
		var a engineAnswer
		switch o.Do {
		case "sums":
			a.Sums, err = e.sums()
		case "step":
			err = errors.Join(e.stream.WriteValue(e.counter, o.Step), e.stream.Sync())
		}
		if err != nil {
			return err
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
}

func (e *testEngine) size() int { return e.Layers * e.Pages * e.Page }

func (e *testEngine) allocate() (err error) {
	const before = 3 << 20 // the memory does not begin where its allocation does
	switch e.Kind {
	case "ipc":
		e.addr, err = e.ctx.Alloc(before + e.size())
		e.addr += before
	default:
		const piece = 20 << 20
		var m *cuda.Mapping
		if m, err = e.ctx.AllocSegments((before+e.size()+piece-1)/piece, piece, e.Kind == "segments"); err == nil {
			e.addr = m.Addr() + before
		}
	}
	if err != nil {
		return err
	}
	if e.counter, err = e.ctx.Alloc(8); err != nil {
		return err
	}
	if e.stream, err = e.ctx.NewStream(); err != nil {
		return err
	}
	if e.done, err = e.ctx.NewEvent(); err != nil {
		return err
	}
	if e.scratch, err = host.Map(1, e.size()); err != nil {
		return err
	}
	if err := e.ctx.Register(e.scratch.All()); err != nil {
		return err
	}
	return errors.Join(e.stream.WriteValue(e.counter, 0), e.stream.Sync())
}

func (e *testEngine) register() (Registration, error) {
	kvMemory, err := e.ctx.Export(e.addr, uint64(e.size()))
	if err != nil {
		return Registration{}, err
	}
	counter, err := e.ctx.Export(e.counter, 8)
	if err != nil {
		return Registration{}, err
	}
	r := Registration{Pages: e.Pages, Memories: []cuda.Export{kvMemory, counter}, Counter: &Place{Memory: 1}}
	for layer := range e.Layers {
		r.Fragments = append(r.Fragments, Place{Offset: uint64(layer * e.Pages * e.Page), Stride: uint64(e.Page), Bytes: e.Page})
	}
	return r, nil
}

// sums reads all memory in one plain copy.
func (e *testEngine) sums() (sums []uint64, err error) {
	var c cuda.Copies
	c.Add(cuda.HostAddr(e.scratch.All()), e.addr, e.size())
	if err := errors.Join(e.stream.Submit(&c, cuda.Counter{}, e.done), e.stream.Sync()); err != nil {
		return nil, err
	}
	for page := range e.Pages {
		h := xxh3.New()
		for layer := range e.Layers {
			at := (layer*e.Pages + page) * e.Page
			h.Write(e.scratch.All()[at : at+e.Page])
		}
		sums = append(sums, h.Sum64())
	}
	return sums, nil
}

// remote is the engine as the test sees it.
type remote struct {
	t    *testing.T
	cmd  *exec.Cmd
	conn *net.UnixConn
	in   *json.Decoder
	reg  Registration
}

// startEngine starts an engine and takes its registration, if it sends one.
func startEngine(t *testing.T, s engineSetup) *remote {
	t.Helper()
	s.Socket = filepath.Join(t.TempDir(), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: s.Socket, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	setup, err := json.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	r := &remote{t: t, cmd: exec.Command(os.Args[0])}
	r.cmd.Env = append(os.Environ(), engineEnv+"="+string(setup))
	r.cmd.Stderr = os.Stderr
	if err := r.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	if err := l.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	if r.conn, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	if s.Kind != "private" {
		if r.reg, err = Receive(r.conn); err != nil {
			t.Fatal(err)
		}
	}
	r.in = json.NewDecoder(r.conn)
	return r
}

func (r *remote) stop() {
	if r.conn != nil {
		r.conn.Close()
		r.conn = nil
	}
	r.cmd.Process.Signal(unix.SIGKILL)
	r.cmd.Wait()
}

func (r *remote) ask(o engineOrder) (a engineAnswer) {
	r.t.Helper()
	if err := json.NewEncoder(r.conn).Encode(o); err != nil {
		r.t.Fatal(err)
	}
	if err := r.in.Decode(&a); err != nil {
		r.t.Fatal(err)
	}
	return a
}
