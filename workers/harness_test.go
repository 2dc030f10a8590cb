package workers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/agent"
	"github.com/kvasir-ai/kvasir/workers/events"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const blockSize = 2

// blocks is, per tier, what is held and what each block follows.
type blocks [kv.NumMarks]map[kv.Hash]kv.Hash

func (b *blocks) apply(e kv.Event) {
	if b[e.Tier] == nil {
		b[e.Tier] = map[kv.Hash]kv.Hash{}
	}
	parent := e.Parent
	for _, h := range e.Hashes {
		if e.Kind == kv.Stored {
			b[e.Tier][h] = parent
			parent = h
		} else {
			delete(b[e.Tier], h)
		}
	}
	if e.Kind == kv.Cleared {
		clear(b[e.Tier])
	}
}

func (b *blocks) equal(o *blocks) bool {
	for t := range b {
		if !maps.Equal(b[t], o[t]) {
			return false
		}
	}
	return true
}

// index is a naive prefix index that insists on the Sink's contract.
type index struct {
	t       *testing.T
	mu      sync.Mutex
	store   map[kv.WorkerID]string
	held    map[kv.WorkerID]*blocks
	shared  map[string]*blocks
	removed map[kv.WorkerID]int
}

func newIndex(t *testing.T) *index {
	return &index{t: t, store: map[kv.WorkerID]string{}, held: map[kv.WorkerID]*blocks{}, shared: map[string]*blocks{}, removed: map[kv.WorkerID]int{}}
}

func (x *index) AddWorker(id kv.WorkerID, store string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.held[id] != nil {
		x.t.Errorf("worker %s added twice", id)
	}
	x.held[id], x.store[id] = &blocks{}, store
	if x.shared[store] == nil {
		x.shared[store] = &blocks{}
	}
}

func (x *index) RemoveWorker(id kv.WorkerID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.held[id] == nil {
		x.t.Errorf("worker %s removed, but it is not there", id)
	}
	delete(x.held, id)
	delete(x.store, id)
	x.removed[id]++
}

func (x *index) Expect(int) {}

func (x *index) Apply(id kv.WorkerID, e kv.Event) {
	x.mu.Lock()
	defer x.mu.Unlock()
	switch {
	case x.held[id] == nil:
		x.t.Errorf("event for worker %s, which is not there", id)
	case e.Tier == kv.Redis:
		x.shared[x.store[id]].apply(e)
	default:
		x.held[id].apply(e)
	}
}

// of is what the index says of a worker, its shared store included.
func (x *index) of(id kv.WorkerID) *blocks {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.held[id] == nil {
		return nil
	}
	var b blocks
	for t := range b {
		b[t] = maps.Clone(x.held[id][t])
	}
	b[kv.Redis] = maps.Clone(x.shared[x.store[id]][kv.Redis])
	return &b
}

func (x *index) count(id kv.WorkerID, t kv.Tier) int {
	b := x.of(id)
	if b == nil {
		return -1
	}
	return len(b[t])
}

// engine answers as vLLM does and publishes KV events.
type engine struct {
	t    *testing.T
	addr string
	srv  *http.Server
	pub  *events.Publisher

	noEvents   atomic.Bool
	healthGate atomic.Pointer[chan struct{}] // /health answers once it is closed
	gated      atomic.Int32                  // probes that wait for that
	queries    atomic.Uint64                 // prompt tokens

	mu   sync.Mutex
	held map[kv.Hash]kv.Hash // its gpu blocks and their parents
}

var root = kv.RootSpec{Model: "tiny", BlockSize: blockSize}.Hash()

func startEngine(t *testing.T) *engine {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{t: t, addr: l.Addr().String()}
	e.serve(l)
	t.Cleanup(e.kill)
	return e
}

func (e *engine) serve(l net.Listener) {
	var err error
	if e.pub, err = events.NewPublisher(events.PublisherConfig{Endpoint: "tcp://127.0.0.1:0", Replay: "tcp://127.0.0.1:0", Topic: "kv@tiny"}); err != nil {
		e.t.Fatal(err)
	}
	pub := e.pub
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(http.ResponseWriter, *http.Request) {
		if gate := e.healthGate.Load(); gate != nil {
			e.gated.Add(1)
			<-*gate
		}
	})
	mux.HandleFunc("/v1/models", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, `{"data":[{"id":"tiny","max_model_len":64}]}`)
	})
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "# TYPE vllm:num_requests_running gauge\nvllm:num_requests_running 3\n"+
			"# TYPE vllm:prefix_cache_queries_total counter\nvllm:prefix_cache_queries_total %d\n"+
			"# TYPE vllm:cache_config_info gauge\nvllm:cache_config_info{block_size=\"%d\",num_gpu_blocks=\"40\"} 1\n", e.queries.Load(), blockSize)
	})
	mux.HandleFunc("/kv_event_sources", func(w http.ResponseWriter, _ *http.Request) {
		if e.noEvents.Load() {
			fmt.Fprint(w, "{}")
			return
		}
		json.NewEncoder(w).Encode(map[string]any{"0": map[string]any{
			"enable_kv_cache_events": true, "endpoint": pub.Endpoint(), "replay_endpoint": pub.Replay(), "topic": pub.Topic()}})
	})
	e.srv = &http.Server{Handler: mux}
	go e.srv.Serve(l)
	e.mu.Lock()
	e.held = map[kv.Hash]kv.Hash{}
	e.mu.Unlock()
}

func (e *engine) url() string { return "http://" + e.addr }

func (e *engine) kill() {
	e.srv.Close()
	e.pub.Close()
}

// restart is a new process at the same address, with an empty cache and other
// event sockets.
func (e *engine) restart() {
	e.t.Helper()
	var l net.Listener
	trial.Await(e.t, "the engine's port", func() (ok bool) {
		var err error
		l, err = net.Listen("tcp", e.addr)
		return err == nil
	})
	e.serve(l)
}

// prompt computes what a prompt lacks in the cache and returns its blocks. An
// engine whose cache has a hole computes all behind the hole anew, and then
// holds blocks twice; this one leaves such prompts alone.
func (e *engine) prompt(tokens ...uint32) []kv.Hash {
	e.t.Helper()
	hashes := kv.Chain(nil, root, tokens, blockSize)
	e.mu.Lock()
	defer e.mu.Unlock()
	var missing []kv.Block
	first := 0
	for i, b := range kv.Blocks(nil, root, hashes) {
		_, held := e.held[b.Hash]
		switch {
		case !held && missing == nil:
			first = i
			fallthrough
		case !held:
			missing = append(missing, b)
		case missing != nil:
			return hashes
		}
	}
	if missing == nil {
		return hashes
	}
	ev := events.Event{Kind: kv.Stored, Tokens: tokens[blockSize*first : blockSize*len(hashes)], BlockSize: blockSize}
	if first > 0 {
		parent := events.HashOf(hashes[first-1])
		ev.Parent = &parent
	}
	for _, b := range missing {
		ev.Hashes = append(ev.Hashes, events.HashOf(b.Hash))
		e.held[b.Hash] = b.Parent
	}
	e.pub.Publish(events.Batch{Events: []events.Event{ev}})
	return hashes
}

// evict removes about a share of the blocks.
func (e *engine) evict(r *rand.Rand, share float64) {
	e.mu.Lock()
	defer e.mu.Unlock()
	ev := events.Event{Kind: kv.Removed}
	for h := range e.held {
		if r.Float64() < share {
			ev.Hashes = append(ev.Hashes, events.HashOf(h))
			delete(e.held, h)
		}
	}
	e.pub.Publish(events.Batch{Events: []events.Event{ev}})
}

func (e *engine) holds() *blocks {
	e.mu.Lock()
	defer e.mu.Unlock()
	return &blocks{kv.GPU: maps.Clone(e.held)}
}

// source is discovery whose list a test sets.
type source chan []workers.Info

func (s source) Run(ctx context.Context, update func([]workers.Info)) error {
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case list := <-s:
			update(list)
		}
	}
}

// startFleet runs a fleet with short times until the test ends.
func startFleet(t *testing.T, x *index, edit func(*workers.FleetConfig)) (*workers.Fleet, source) {
	t.Helper()
	s := make(source)
	transport := &http.Transport{}
	c := workers.FleetConfig{
		Sources:        []workers.Source{s},
		Sink:           x,
		HTTP:           &http.Client{Transport: transport},
		HealthInterval: 20 * time.Millisecond,
		StatsInterval:  10 * time.Millisecond,
		Grace:          200 * time.Millisecond,
		StaleAfter:     time.Minute,
		SilentAfter:    50 * time.Millisecond,
		BackoffMin:     time.Millisecond,
		BackoffMax:     20 * time.Millisecond,
	}
	if edit != nil {
		edit(&c)
	}
	f := workers.NewFleet(c)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
		transport.CloseIdleConnections()
		x.mu.Lock()
		defer x.mu.Unlock()
		if len(x.held) != 0 {
			t.Errorf("the fleet left %d workers in the index", len(x.held))
		}
	})
	return f, s
}

func ready(t *testing.T, f *workers.Fleet, id kv.WorkerID) *workers.Worker {
	t.Helper()
	trial.Await(t, "worker "+string(id)+" to be ready", func() bool {
		w := f.Worker(id)
		return w != nil && w.Ready()
	})
	return f.Worker(id)
}

// manager is a small block manager with gpu and cpu tiers.
func manager(t *testing.T) *kvbm.Manager {
	t.Helper()
	m, err := kvbm.Open(t.Context(), kvbm.Config{
		Layout:    kv.Layout{Model: "tiny", BlockSize: blockSize, BlockBytes: 4096},
		GPUBlocks: 8,
		CPUBytes:  64 * 4096,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close(context.Background()) })
	return m
}

// startAgent runs an agent beside an engine; path is its socket.
func startAgent(t *testing.T, e *engine, m *kvbm.Manager, path string) *agent.Agent {
	t.Helper()
	transport := &http.Transport{}
	a, err := agent.Serve(t.Context(), agent.Config{
		Info:    workers.Info{ID: "w0", URL: e.url(), Engine: "embedded", Events: sourceOf(e)},
		Manager: m,
		Listen:  "unix://" + path,
		HTTP:    &http.Client{Transport: transport},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a
}

func sourceOf(e *engine) workers.EventSource {
	return workers.EventSource{Endpoint: e.pub.Endpoint(), Replay: e.pub.Replay(), Topic: e.pub.Topic()}
}

func socket(t *testing.T) string { return filepath.Join(t.TempDir(), "a.sock") }
