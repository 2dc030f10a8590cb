package gpubench

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvasir-ai/kvasir/cuda"
	"github.com/kvasir-ai/kvasir/kvbm/gpu"
	"github.com/kvasir-ai/kvasir/kvbm/host"
)

// What the engine of the GPU bench does beside the transfers.
const (
	Idle     = "idle"
	Products = "products" // tensor cores busy, as when prefilling
	Decode   = "decode"   // memory busy, small copies and a wait each step
)

const (
	loadBlocks, loadThreads = 132 * 8, 256
	// A decode step is kernelsPerStep passes over readBytes each, about 19 GB.
	kernelsPerStep = 370
	readBytes      = loadBlocks * loadThreads * 16 * 4 * 3
	tokenBytes     = 256
	productsTime   = 1600 * time.Microsecond
)

// order is what the bench tells the engine, and progress what it says: how
// many steps it has made and when the last one ended.
type order struct {
	Load string `json:"load"`
}

type progress struct {
	Steps uint64        `json:"steps"`
	At    time.Duration `json:"at"`
	Err   string        `json:"err,omitempty"`
}

// engine stands for an inference engine in a process of its own: it owns KV
// memory, hands it over, and keeps the GPU busy as it is told.
type engine struct {
	ctx      *cuda.Context
	stream   *cuda.Stream
	done     [2]*cuda.Event
	read     *cuda.Kernel
	products *cuda.Kernel
	weights  uint64
	out      uint64
	tokens   *host.Memory
	turns    uint64 // of the products kernel, to last productsTime
	load     atomic.Value
	mu       sync.Mutex
	progress progress
	start    time.Time
}

// ServeEngine is the engine process of the GPU bench. It connects to the
// socket and lives until that is closed.
func ServeEngine(socket string, ordinal int) error {
	d, err := cuda.Open()
	if err != nil {
		return err
	}
	e := &engine{start: time.Now()}
	e.load.Store(Idle)
	if e.ctx, err = d.Context(ordinal); err != nil {
		return err
	}
	kvMemory, err := e.ctx.Alloc(poolBytes)
	if err != nil {
		return err
	}
	if err := e.prepare(); err != nil {
		return err
	}
	exported, err := e.ctx.Export(kvMemory, poolBytes)
	if err != nil {
		return err
	}
	nc, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	defer nc.Close()
	c := nc.(*net.UnixConn)
	reg := gpu.Registration{
		Pages: poolPages, Memories: []cuda.Export{exported},
		Fragments: []gpu.Place{{Stride: benchBlock, Bytes: benchBlock}},
	}
	if err := reg.Send(c); err != nil {
		return err
	}
	go e.work()
	return e.obey(c)
}

func (e *engine) prepare() (err error) {
	if e.stream, err = e.ctx.NewStream(); err != nil {
		return err
	}
	for i := range e.done {
		if e.done[i], err = e.ctx.NewEvent(); err != nil {
			return err
		}
	}
	m, err := e.ctx.LoadPTX(loadsPTX)
	if err != nil {
		return err
	}
	if e.read, err = m.Kernel("read_memory"); err != nil {
		return err
	}
	if e.products, err = m.Kernel("products"); err != nil {
		return err
	}
	if e.weights, err = e.ctx.Alloc(kernelsPerStep * readBytes); err != nil {
		return err
	}
	if e.out, err = e.ctx.Alloc(4096); err != nil {
		return err
	}
	if e.tokens, err = host.Map(2, host.Align); err != nil {
		return err
	}
	if err := e.ctx.Register(e.tokens.All()); err != nil {
		return err
	}
	const trial = 20000
	for range 2 { // the first warms up
		start := time.Now()
		if err := errors.Join(e.products.Launch(e.stream, loadBlocks, loadThreads, trial, e.out), e.stream.Sync()); err != nil {
			return err
		}
		e.turns = uint64(trial * float64(productsTime) / float64(time.Since(start)))
	}
	return nil
}

// obey answers each order with the progress so far.
func (e *engine) obey(c net.Conn) error {
	in, out := json.NewDecoder(bufio.NewReader(c)), json.NewEncoder(c)
	for {
		var o order
		if err := in.Decode(&o); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if o.Load != "" {
			e.load.Store(o.Load)
		}
		e.mu.Lock()
		p := e.progress
		e.mu.Unlock()
		if err := out.Encode(p); err != nil {
			return err
		}
	}
}

func (e *engine) work() {
	for turn := 0; ; turn++ {
		var err error
		switch e.load.Load() {
		case Products:
			err = e.multiply(turn)
		case Decode:
			err = e.decode()
		default:
			time.Sleep(time.Millisecond)
			continue
		}
		e.mu.Lock()
		e.progress.Steps++
		e.progress.At = time.Since(e.start)
		if err != nil {
			e.progress.Err = fmt.Sprint(err)
		}
		e.mu.Unlock()
	}
}

// multiply keeps two kernels queued.
func (e *engine) multiply(turn int) error {
	var none cuda.Copies
	if err := e.products.Launch(e.stream, loadBlocks, loadThreads, e.turns, e.out); err != nil {
		return err
	}
	if err := e.stream.Submit(&none, cuda.Counter{}, e.done[turn%2]); err != nil {
		return err
	}
	if turn == 0 {
		return nil
	}
	return e.done[(turn+1)%2].Wait(0, time.Second)
}

// decode makes one step: token ids to the GPU, the passes, tokens back, wait.
func (e *engine) decode() error {
	var ids, tokens cuda.Copies
	ids.Add(e.out, cuda.HostAddr(e.tokens.Slot(0)), tokenBytes)
	tokens.Add(cuda.HostAddr(e.tokens.Slot(1)), e.out, tokenBytes)
	if err := e.stream.Submit(&ids, cuda.Counter{}, e.done[0]); err != nil {
		return err
	}
	for i := range uint64(kernelsPerStep) {
		if err := e.read.Launch(e.stream, loadBlocks, loadThreads, e.weights+i*readBytes, readBytes, e.out); err != nil {
			return err
		}
	}
	if err := e.stream.Submit(&tokens, cuda.Counter{}, e.done[1]); err != nil {
		return err
	}
	return e.done[1].Wait(0, time.Second)
}
