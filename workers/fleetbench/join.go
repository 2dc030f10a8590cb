package fleetbench

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/agent"
	"github.com/kvasir-ai/kvasir/workers/discovery"
)

// JoinOptions say what a gateway finds.
type JoinOptions struct {
	Agents int
	Blocks int // of each agent
	Seed   uint64
}

// DefaultJoin are the options of the published figures.
func DefaultJoin() JoinOptions { return JoinOptions{Agents: 8, Blocks: 1 << 20, Seed: 1} }

// JoinReport is what was measured.
type JoinReport struct {
	Agents      int     `json:"agents"`
	Memberships int     `json:"memberships"`
	FullAfterS  float64 `json:"full_after_s"` // from the start of the fleet to the last block entered
	CPUS        float64 `json:"cpu_s"`        // agents included
}

// joinBlock is in tokens: what a block holds does not matter once it is hashed,
// so few, to have the agents filled soon.
const joinBlock = 4

// Join fills agents from their engines' sockets, then starts a fleet that knows
// nothing but their addresses and waits until x has all blocks.
func Join(ctx context.Context, o JoinOptions, x Index) (r JoinReport, err error) {
	prompts := o.Blocks / wireChain
	if prompts < 1 || o.Agents < 1 {
		return r, fmt.Errorf("bench index: want at least one agent with %d blocks", wireChain)
	}
	engines, infos, stop, err := startAgents(ctx, o, prompts)
	defer stop()
	if err != nil {
		return r, err
	}
	runtime.GC() // the messages that filled the agents
	counted := &countedSink{Index: x}
	r.Agents, r.Memberships = o.Agents, o.Agents*prompts*wireChain
	fleet := workers.NewFleet(workers.FleetConfig{Sources: []workers.Source{discovery.Static(infos...)}, Sink: counted})
	joined, leave := context.WithCancel(ctx)
	var running sync.WaitGroup
	defer running.Wait()
	defer leave()
	cpu, began := cpuTime(syscall.RUSAGE_SELF), time.Now()
	running.Go(func() { fleet.Run(joined) })
	if err := await(ctx, func() bool { return counted.stored.Load() >= int64(r.Memberships) }); err != nil {
		return r, err
	}
	r.FullAfterS, r.CPUS = time.Since(began).Seconds(), (cpuTime(syscall.RUSAGE_SELF) - cpu).Seconds()
	return r, complete(engines, x)
}

// startAgents starts agents beside engines that publish their blocks once, and
// returns when the agents have them all.
func startAgents(ctx context.Context, o JoinOptions, prompts int) (engines []*engine, infos []workers.Info, stop func(), err error) {
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(ctx)
	var agents []*agent.Agent
	stop = func() {
		for _, a := range agents {
			a.Close()
		}
		cancel()
		running.Wait()
	}
	start := make(chan struct{})
	close(start)
	for w := range o.Agents {
		// One engine at a time: the messages of all would fill the memory.
		one, err := newEngines(WireOptions{Workers: 1, Run: 64, OwnHashes: true, Seed: o.Seed + uint64(w)}, prompts, joinBlock)
		if err != nil {
			return engines, infos, stop, err
		}
		e := one[0]
		e.id = kv.WorkerID(fmt.Sprintf("w%d", w))
		if err := e.listen(); err != nil {
			return engines, infos, stop, err
		}
		running.Go(func() { e.publish(ctx, start) })
		info := workers.Info{ID: e.id, Model: wireModel, URL: "http://127.0.0.1:1", Engine: "vllm", BlockSize: joinBlock,
			Events: workers.EventSource{Endpoint: e.listener.Endpoint()}}
		a, err := agent.Serve(ctx, agent.Config{Info: info, Listen: "127.0.0.1:0"})
		if err != nil {
			return engines, infos, stop, err
		}
		agents = append(agents, a)
		if err := await(ctx, func() bool { return a.Blocks() == prompts*wireChain && sent([]*engine{e}) }); err != nil {
			return engines, infos, stop, err
		}
		e.stream = nil
		engines = append(engines, e)
		infos = append(infos, workers.Info{ID: e.id, URL: info.URL, Agent: a.Target()})
	}
	return engines, infos, stop, nil
}

// countedSink counts the blocks that come.
type countedSink struct {
	Index
	stored atomic.Int64
}

func (s *countedSink) Apply(id kv.WorkerID, e kv.Event) {
	s.Index.Apply(id, e)
	if e.Kind == kv.Stored {
		s.stored.Add(int64(len(e.Hashes)))
	}
}
