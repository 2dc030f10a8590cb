package fleetbench

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/events"
	"github.com/kvasir-ai/kvasir/workers/events/zmtp"
)

// Index is what is filled.
type Index interface {
	workers.Sink
	// Held is how many leading blocks of a prompt a worker has.
	Held(id kv.WorkerID, hashes []kv.Hash) int
}

// WireOptions say what engines publish.
type WireOptions struct {
	Workers   int
	Blocks    int // of all workers together
	Run       int // blocks in an event, one event a message
	Rounds    int
	OwnHashes bool // each worker hashes equal content differently
	Seed      uint64
}

// DefaultWire are the options of the published figures, those of the comparison
// with Dynamo's indexer.
func DefaultWire() WireOptions {
	return WireOptions{Workers: 8, Blocks: 1 << 20, Run: 64, Rounds: 5, Seed: 1}
}

const (
	wireChain = 512 // blocks of a prompt; two workers share the first half of each
	wireBlock = 16  // tokens
	wireModel = "wire"
)

// WireReport is what was measured: the round of median speed, and the first one,
// in which the process has to ask for memory.
type WireReport struct {
	Workers            int     `json:"workers"`
	Memberships        int     `json:"memberships"`
	Run                int     `json:"run_blocks"`
	Rounds             int     `json:"rounds"`
	OwnHashes          bool    `json:"own_hashes"`
	BlocksPerS         float64 `json:"wire_blocks_per_s"`
	FirstBlocksPerS    float64 `json:"wire_blocks_per_s_first_round"`
	CPUPerBlockUS      float64 `json:"wire_cpu_us_per_block"` // without the publishers'
	PublishersUS       float64 `json:"wire_publishers_us_per_block"`
	BytesPerMembership float64 `json:"wire_bytes_per_membership"`
}

// engine is one publisher's messages, and what they say.
type engine struct {
	id       kv.WorkerID
	messages int
	stream   []byte // the messages, as they go over the wire
	chains   [][]kv.Hash
	cpu      atomic.Int64 // nanoseconds that sending took
	listener *zmtp.Listener
}

// Wire feeds x from o.Workers ZMQ publishers at once, o.Rounds times; before
// each round x forgets the workers.
func Wire(ctx context.Context, o WireOptions, x Index) (WireReport, error) {
	perWorker := o.Blocks / max(o.Workers, 1) / wireChain
	if perWorker < 1 || o.Rounds < 1 || o.Run < 1 || wireChain%o.Run != 0 {
		return WireReport{}, fmt.Errorf("bench index: want at least %d blocks for each of at least one worker, a round, and a run that divides %d", wireChain, wireChain)
	}
	engines, err := newEngines(o, perWorker, wireBlock)
	if err != nil {
		return WireReport{}, err
	}
	r := WireReport{Workers: o.Workers, Memberships: perWorker * wireChain * o.Workers, Run: o.Run, Rounds: o.Rounds, OwnHashes: o.OwnHashes}
	var rounds []wireRound
	for range o.Rounds {
		round, err := oneRound(ctx, engines, x)
		if err != nil {
			return r, err
		}
		rounds = append(rounds, round)
	}
	blocks := float64(r.Memberships)
	r.FirstBlocksPerS = blocks / rounds[0].took.Seconds()
	r.BytesPerMembership = rounds[0].bytes / blocks
	slices.SortFunc(rounds, func(a, b wireRound) int { return cmp.Compare(a.took, b.took) })
	median := rounds[len(rounds)/2]
	r.BlocksPerS = blocks / median.took.Seconds()
	r.CPUPerBlockUS = float64((median.cpu - median.publishers).Nanoseconds()) / 1e3 / blocks
	r.PublishersUS = float64(median.publishers.Nanoseconds()) / 1e3 / blocks
	return r, nil
}

// wireRound is one way of all messages into the index.
type wireRound struct {
	took, cpu  time.Duration
	publishers time.Duration // of cpu
	bytes      float64
}

func oneRound(ctx context.Context, engines []*engine, x Index) (r wireRound, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer cancel()
	start := make(chan struct{})
	readers := make([]*events.Reader, len(engines))
	for i, e := range engines {
		if err := e.listen(); err != nil {
			return r, err
		}
		x.RemoveWorker(e.id)
		x.AddWorker(e.id, "")
		readers[i] = e.reader(x)
		running.Go(func() { e.publish(ctx, start) })
		running.Go(func() { readers[i].Run(ctx) })
	}
	if err := await(ctx, func() bool { return connected(readers) }); err != nil {
		return r, err
	}
	memory, cpu, began := heap(), cpuTime(syscall.RUSAGE_SELF), time.Now()
	close(start)
	if err := await(ctx, func() bool { return drained(readers, engines[0].messages) }); err != nil {
		return r, err
	}
	r.took, r.cpu = time.Since(began), cpuTime(syscall.RUSAGE_SELF)-cpu
	if err := await(ctx, func() bool { return sent(engines) }); err != nil {
		return r, err
	}
	for _, e := range engines {
		r.publishers += time.Duration(e.cpu.Swap(0))
	}
	r.bytes = heap() - memory
	return r, complete(engines, x)
}

// complete makes sure that the index has every block.
func complete(engines []*engine, x Index) error {
	missing := 0
	for _, e := range engines {
		for _, chain := range e.chains {
			missing += len(chain) - x.Held(e.id, chain)
		}
	}
	if missing > 0 {
		return fmt.Errorf("bench index: %d blocks are not in the index", missing)
	}
	return nil
}

// reader follows the engine's events into x.
func (e *engine) reader(x Index) *events.Reader {
	return events.NewReader(events.ReaderConfig{
		Resolve: func(context.Context) (events.Source, error) {
			return events.Source{Endpoint: e.listener.Endpoint()}, nil
		},
		Model: wireModel, BlockSize: wireBlock,
		Emit: func(list []kv.Event) {
			for _, event := range list {
				x.Apply(e.id, event)
			}
		},
	})
}

// newEngines makes prompts of blocks of size tokens for each worker.
func newEngines(o WireOptions, prompts, size int) ([]*engine, error) {
	rng := rand.New(rand.NewPCG(o.Seed, 3))
	root := kv.RootSpec{Model: wireModel, BlockSize: size}.Hash()
	tokens := make([]uint32, wireChain*size)
	var engines []*engine
	for w := range o.Workers {
		e := &engine{id: kv.WorkerID(fmt.Sprintf("w%d", w))}
		for p := range prompts {
			head := rand.New(rand.NewPCG(o.Seed, uint64(w/2*prompts+p)))
			for i := range tokens {
				if i < len(tokens)/2 {
					tokens[i] = head.Uint32N(150_000)
				} else {
					tokens[i] = rng.Uint32N(150_000)
				}
			}
			chain := kv.Chain(nil, root, tokens, size)
			e.chains = append(e.chains, chain)
			if err := e.encode(o, w, tokens, chain, size); err != nil {
				return nil, err
			}
		}
		engines = append(engines, e)
	}
	return engines, nil
}

// encode appends the messages that store a prompt.
func (e *engine) encode(o WireOptions, worker int, tokens []uint32, chain []kv.Hash, size int) error {
	name := func(h kv.Hash) events.EngineHash {
		n := events.HashOf(h)
		if o.OwnHashes {
			n ^= events.EngineHash(worker) * 0x9E3779B97F4A7C15
		}
		return n
	}
	for i := 0; i < len(chain); i += o.Run {
		ev := events.Event{Kind: kv.Stored, Tokens: tokens[i*size : (i+o.Run)*size], BlockSize: size}
		for _, h := range chain[i : i+o.Run] {
			ev.Hashes = append(ev.Hashes, name(h))
		}
		if i > 0 {
			parent := name(chain[i-1])
			ev.Parent = &parent
		}
		m, err := events.Encode(events.Batch{Time: float64(i), Events: []events.Event{ev}})
		if err != nil {
			return err
		}
		var seq [8]byte
		binary.BigEndian.PutUint64(seq[:], uint64(e.messages))
		e.stream = zmtp.Append(e.stream, nil, seq[:], m)
		e.messages++
	}
	return nil
}

func (e *engine) listen() (err error) {
	e.listener, err = zmtp.Listen("tcp://127.0.0.1:0", zmtp.Pub)
	return err
}

// publish sends all messages to every subscriber, once started. TCP holds it back
// when the subscriber is slow.
func (e *engine) publish(ctx context.Context, start <-chan struct{}) {
	defer context.AfterFunc(ctx, func() { e.listener.Close() })()
	var sending sync.WaitGroup
	defer sending.Wait()
	for {
		c, err := e.listener.Accept()
		if err != nil {
			return
		}
		sending.Go(func() {
			defer c.Close()
			if c.Handshake() != nil {
				return
			}
			if _, err := c.Recv(0); err != nil { // the subscription
				return
			}
			select {
			case <-start:
				e.send(c)
				<-ctx.Done()
			case <-ctx.Done():
			}
		})
	}
}

// piece is how much a publisher sends at once.
const piece = 1 << 20

// send sends all messages, on a thread of its own that says what CPU that took.
func (e *engine) send(c *zmtp.Conn) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	began := cpuTime(rusageThread)
	for part := range slices.Chunk(e.stream, piece) {
		if c.SendAppended(part) != nil {
			return
		}
	}
	e.cpu.Add(max(1, int64(cpuTime(rusageThread)-began))) // 0: not done
}

func connected(readers []*events.Reader) bool {
	for _, r := range readers {
		if !r.Stats().Connected {
			return false
		}
	}
	return true
}

func drained(readers []*events.Reader, messages int) bool {
	for _, r := range readers {
		if s := r.Stats(); s.Batches+s.BadBatches < uint64(messages) {
			return false
		}
	}
	return true
}

// sent reports whether all publishers have said what it took.
func sent(engines []*engine) bool {
	return !slices.ContainsFunc(engines, func(e *engine) bool { return e.cpu.Load() == 0 })
}

// await polls until done, for a minute at most.
func await(ctx context.Context, done func() bool) error {
	deadline := time.Now().Add(time.Minute)
	for !done() {
		if time.Now().After(deadline) {
			return fmt.Errorf("bench index: not done after a minute")
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(time.Millisecond)
	}
	return nil
}

// heap is the size of what is reachable.
func heap() float64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

const rusageThread = 1 // RUSAGE_THREAD, which package syscall lacks

// cpuTime is what this process or thread has used.
func cpuTime(who int) time.Duration {
	var u syscall.Rusage
	if syscall.Getrusage(who, &u) != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
