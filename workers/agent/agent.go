package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/instrumentation/google.golang.org/grpc/otelgrpc"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"

	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
	"github.com/kvasir-ai/kvasir/workers/events"
)

// Config says what engine the agent stands beside.
type Config struct {
	// Info is the worker. What it leaves out (model, block size, event source)
	// is asked of the engine.
	Info workers.Info
	// Manager may be nil: then the agent only passes the engine's events on,
	// until Adopt gives it one.
	Manager *kvbm.Manager
	// Listen is unix:///path (made with mode 0600; a stale file is replaced) or
	// host:port.
	Listen string
	// TLS is what callers over TCP must speak and show; nil: plain text.
	TLS     *tls.Config
	HTTP    *http.Client
	Log     *slog.Logger
	Version string
	// StatsInterval is that of a watcher who asks for none (default 500 ms).
	StatsInterval time.Duration
	// LogBlocks bounds the deltas kept for watchers that come back, in blocks
	// (default 1 M).
	LogBlocks int
}

func (c *Config) setDefaults() {
	if c.HTTP == nil {
		c.HTTP = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 2, IdleConnTimeout: 30 * time.Second}}
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.StatsInterval <= 0 {
		c.StatsInterval = 500 * time.Millisecond
	}
	if c.LogBlocks <= 0 {
		c.LogBlocks = 1 << 20
	}
}

const (
	engineTimeout = 2 * time.Second
	minInterval   = 20 * time.Millisecond // of stats
)

// Agent serves until it is closed.
type Agent struct {
	agentpb.UnimplementedAgentServer

	c        Config
	log      *slog.Logger
	engine   workers.Engine
	hub      *hub
	listener net.Listener
	server   *grpc.Server
	health   *health.Server
	reader   atomic.Pointer[events.Reader] // nil: not reading the engine's events (yet)
	// readsEngine says whether reader will be there; set before serving.
	readsEngine bool
	load        cachedLoad
	manager     atomic.Pointer[kvbm.Manager] // nil: none (yet)
	adopted     chan struct{}                // closed when all watchers can know of it
	planned     plans
	loads       loadSpeed

	ctx    context.Context // ends the streams
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	info workers.Info // completed by what the engine says
}

// Serve starts an agent. It runs until Close; values in ctx pass.
func Serve(ctx context.Context, c Config) (*Agent, error) {
	c.setDefaults()
	if err := c.Info.Validate(); err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	l, err := listen(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	a := &Agent{
		c:        c,
		log:      c.Log.With("worker", c.Info.ID),
		engine:   workers.NewEngine(c.HTTP, c.Info),
		hub:      newHub(c.LogBlocks),
		listener: l,
		health:   health.NewServer(),
		info:     c.Info,
		adopted:  make(chan struct{}),
		server: grpc.NewServer(
			grpc.Creds(trust(l, c.TLS)),
			grpc.StatsHandler(otelgrpc.NewServerHandler(otelgrpc.WithFilter(agentpb.Traced))),
			grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
			grpc.MaxRecvMsgSize(agentpb.MaxHashes*16+1<<10),
		),
	}
	a.ctx, a.cancel = context.WithCancel(context.WithoutCancel(ctx))
	agentpb.RegisterAgentServer(a.server, a)
	grpc_health_v1.RegisterHealthServer(a.server, a.health)
	a.start()
	a.log.Info("agent serves", "listen", a.Target())
	return a, nil
}

func (a *Agent) start() {
	a.wg.Go(func() { a.hub.run(a.ctx) })
	a.readsEngine = a.c.Info.Events.Endpoint != "" || a.c.Manager == nil || a.c.Manager.GPU() == nil
	if m := a.c.Manager; m != nil {
		a.adopt(m)
		close(a.adopted)
	}
	if a.readsEngine {
		a.wg.Go(func() { a.followEngine(a.ctx) })
	}
	a.wg.Go(func() {
		if err := a.server.Serve(a.listener); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
			a.log.Error("the agent stopped serving", "error", err)
		}
	})
}

// Target is the address to dial, in gRPC's form.
func (a *Agent) Target() string { return target(a.listener.Addr()) }

// Blocks is how many blocks the worker holds in any tier, as far as the agent
// was told.
func (a *Agent) Blocks() int { return a.hub.blocks() }

// Close ends every stream and call, and waits for what the agent started. The
// block manager is the caller's.
func (a *Agent) Close() error {
	a.health.Shutdown()
	a.cancel()
	a.server.Stop()
	a.wg.Wait()
	a.c.HTTP.CloseIdleConnections()
	return nil
}

// describe is Info, completed by asking the engine once it answers.
func (a *Agent) describe(ctx context.Context) (workers.Info, error) {
	a.mu.Lock()
	info := a.info
	a.mu.Unlock()
	if info.Model != "" && info.BlockSize > 0 {
		return info, nil
	}
	ctx, cancel := context.WithTimeout(ctx, engineTimeout)
	defer cancel()
	d, err := a.engine.Describe(ctx)
	if err != nil {
		return info, err
	}
	if info.Model == "" {
		info.Model = d.Model
	}
	if info.BlockSize == 0 {
		info.BlockSize = d.BlockSize
	}
	if info.Engine == "" {
		info.Engine = d.Engine
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.info = info
	return info, nil
}
