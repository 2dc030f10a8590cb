package gateway

import (
	"context"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/wire"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/router"
)

// Gateway serves the OpenAI API in front of a fleet. Its methods may be called
// from any goroutine.
type Gateway struct {
	c         Config
	transport *http.Transport
	engines   *wire.Client
	client    *http.Client
	models    *models
	checker   *checker
	contexts  *contexts
	admission admission
	rooms     sync.Map // model -> *room
	budget    *retryBudget
	records   *records
	metrics   *metrics
	doubts    *doubts
	mooncakes mooncakes

	// placing guards the router's state: policy, calibration, ledger, loads and
	// what seats keep.
	placing     sync.Mutex
	predictions *prefixindex.Predictions
	ledger      *router.Ledger
	loads       *router.Loads
	roster      atomic.Pointer[roster] // changed under placing
	looked      int                    // times that space was looked for
}

// New makes a gateway. It loads the configured tokenizers and starts nothing.
func New(c Config) (*Gateway, error) {
	transport := newTransport()
	client := &http.Client{Transport: transport, Timeout: 30 * time.Second}
	there := &engineTokens{client: client}
	if err := c.setDefaults(there); err != nil {
		return nil, err
	}
	ms, err := newModels(&c)
	if err != nil {
		return nil, err
	}
	g := &Gateway{
		c: c, transport: transport, client: client, engines: wire.NewClient(transport.IdleConnTimeout, transport), models: ms,
		contexts:    &contexts{client: client, now: c.Now, known: map[kv.WorkerID]*contextLength{}},
		admission:   admission{most: c.Limits.InFlight},
		budget:      newRetryBudget(),
		records:     newRecords(c.Records),
		predictions: newPredictions(),
		ledger:      router.NewLedger(),
		loads:       router.NewLoads(),
		mooncakes:   mooncakes{client: client, known: map[kv.WorkerID]mooncakeEngine{}},
	}
	g.checker = &checker{g: g, there: there, verdicts: map[kv.WorkerID]verdict{}}
	ms.trusted = g.checker.limit
	g.doubts = newDoubts(g.c.Log)
	g.metrics = newMetrics(g, c.Registry)
	return g, nil
}

// Drain turns readiness off, keeps serving for Limits.DrainDelay, then refuses
// new inference requests and returns once those in flight have ended, or with
// ctx's error when it is over first.
func (g *Gateway) Drain(ctx context.Context) error {
	err := g.admission.drain(ctx, g.c.Limits.DrainDelay)
	g.Close()
	return err
}

// Close lets go of the connections to engines. Call it when nothing is served
// any more.
func (g *Gateway) Close() {
	g.transport.CloseIdleConnections()
	g.engines.CloseIdleConnections()
}
