package gateway

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/trace"

	"github.com/kvasir-ai/kvasir/gateway/tenants"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// Config is what a gateway is made of. Fleet, Index and Policy are required;
// the rest has defaults.
type Config struct {
	// Models are the names that clients may ask for besides those that workers
	// announce, with where to find their tokenizers.
	Models []Model
	// Fleet are the workers. The caller runs it.
	Fleet *workers.Fleet
	// Index is what the workers hold; the caller makes it the fleet's sink.
	Index *prefixindex.Index
	// Policy places requests. It is called under a lock and may keep state.
	Policy router.Policy
	// Calibration holds the rates that predictions start from and that the
	// gateway improves with what it observes. nil: DefaultRates.
	Calibration *router.Calibration
	Limits      Limits
	// Tenants are who may come in; nil: everybody, as nobody in particular.
	Tenants *tenants.Directory
	// Admin moves /metrics and /kvasir/v1/ from Handler to AdminHandler only.
	Admin bool
	// Records is how many decisions are kept for explain.
	Records int

	Log *slog.Logger
	// Registry gets the gateway's metrics and is what /metrics shows.
	Registry *prometheus.Registry
	// Tracer makes the spans; nil: there are none, and the caller's trace context
	// is passed on all the same.
	Tracer trace.Tracer
	// Access takes a line for each request that ended; nil: Log does.
	Access *slog.Logger
	// OnRequest is called once for every finished inference request, from the
	// request's goroutine. It must not block.
	OnRequest func(Record)
	// EngineTokens asks an engine for the tokens of a prompt, for models without
	// a tokenizer here or with another one than their engine's. path is where
	// the body would be sent for an answer. nil: the engine's own routes.
	EngineTokens func(ctx context.Context, engine workers.Info, path string, body []byte) ([]uint32, error)
	// Now is the clock; nil: time.Now.
	Now clock
}

// Model is one name that clients ask for.
type Model struct {
	// Name is the same at the workers.
	Name string
	// Tokenizer is a folder, tokenizer.json or .gguf. Empty: learned from a
	// worker that names one, else the engine's /tokenize is asked.
	Tokenizer string
}

type clock = func() time.Time

// Limits bounds what a request may take. A zero field takes its default.
type Limits struct {
	// Body is the largest request body in bytes (64 MiB).
	Body int64
	// InFlight is how many inference requests may be in flight (4096).
	InFlight int
	// BodyTime is how long a client may take to send its body (2 min).
	BodyTime time.Duration
	// FirstByte bounds the wait for the first event of a stream, all attempts
	// together (5 min).
	FirstByte time.Duration
	// Idle bounds the silence within a stream (1 min).
	Idle time.Duration
	// Request bounds a whole request (30 min).
	Request time.Duration
	// Retries is how many further workers may be tried before the first byte
	// (2; negative: none). A budget of a fifth of all requests bounds them too,
	// so that a failing fleet isn't loaded further. Workers that died are counted
	// as migrations.
	Retries int
	// Migrations is how often a stream may go on at another worker after its own
	// died (16; negative: never).
	Migrations int
	// DrainDelay is how long a draining gateway still takes requests, for load
	// balancers to notice that it is not ready (0).
	DrainDelay time.Duration
	// QueueAhead is how long a request may be predicted to wait at the best worker
	// before it waits in the gateway instead (100 ms; negative: it never does).
	QueueAhead time.Duration
	// Queue is how many requests of a model may wait in the gateway (1024), and
	// QueueBytes how large their bodies may be in all (256 MiB).
	Queue      int
	QueueBytes int64
	// TTFT is the objective by which requests are refused: those whose first token
	// is predicted to come later for having to wait. 0: none.
	TTFT time.Duration
	// ClientStall is how long a client may take nothing of its answer (30 s).
	ClientStall time.Duration
	// Answer is the largest answer that isn't a stream, in bytes (64 MiB).
	Answer int64
}

func (l *Limits) setDefaults() {
	setDefault(&l.Body, 64<<20)
	setDefault(&l.InFlight, 4096)
	setDefault(&l.BodyTime, 2*time.Minute)
	setDefault(&l.FirstByte, 5*time.Minute)
	setDefault(&l.Idle, time.Minute)
	setDefault(&l.Request, 30*time.Minute)
	setDefault(&l.Retries, 2)
	setDefault(&l.Migrations, 16)
	setDefault(&l.Answer, 64<<20)
	setDefault(&l.QueueAhead, 100*time.Millisecond)
	setDefault(&l.Queue, 1024)
	setDefault(&l.QueueBytes, 256<<20)
	setDefault(&l.ClientStall, 30*time.Second)
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func (c *Config) setDefaults(there *engineTokens) error {
	switch {
	case c.Fleet == nil:
		return errors.New("gateway: Config.Fleet is required")
	case c.Index == nil:
		return errors.New("gateway: Config.Index is required")
	case c.Policy == nil:
		return errors.New("gateway: Config.Policy is required")
	}
	seen := map[string]bool{}
	for _, m := range c.Models {
		if m.Name == "" || seen[m.Name] {
			return fmt.Errorf("gateway: model %q: want a name, and each only once", m.Name)
		}
		seen[m.Name] = true
	}
	c.Limits.setDefaults()
	setDefault(&c.Records, 4096)
	if c.Calibration == nil {
		c.Calibration = router.NewCalibration(DefaultRates)
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Registry == nil {
		c.Registry = prometheus.NewRegistry()
	}
	if c.Access == nil {
		c.Access = c.Log
	}
	if c.OnRequest == nil {
		c.OnRequest = func(Record) {}
	}
	if c.EngineTokens == nil {
		c.EngineTokens = there.of
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	return nil
}

// DefaultRates are what predictions start from before anything was observed.
// They are no machine's; a few observations outweigh them.
var DefaultRates = router.Rates{PrefillBaseMS: 5, PrefillPerTokenMS: 0.5}
