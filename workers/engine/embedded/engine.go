package embedded

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"slices"
	"time"

	"github.com/kvasir-ai/kvasir/gateway/chattemplate"
	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/engine/embedded/llama"
	"github.com/kvasir-ai/kvasir/workers/events"
)

// Engine is a running engine.
type Engine struct {
	url     string
	manager *kvbm.Manager
	source  EventSource
	closers []func(context.Context) error // in the order of opening
}

// layoutVersion is that of the byte order inside a block, see llama.
const layoutVersion = 1

// Start loads the model and serves it until Close. ctx bounds the start only.
func Start(ctx context.Context, c Config) (_ *Engine, err error) {
	c.setDefaults()
	if err := c.validate(); err != nil {
		return nil, err
	}
	e := &Engine{}
	defer func() {
		if err != nil {
			err = errors.Join(err, e.Close(ctx))
		}
	}()
	model, err := llama.Open(c.Model)
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	e.onClose(func(context.Context) error { return model.Close() })
	if err := c.fitContext(model); err != nil {
		return nil, err
	}
	s := &server{name: c.Name, maxContext: c.MaxContext, vocab: model.Config().Vocab, blockSize: c.BlockSize, created: time.Now().Unix()}
	if err := s.loadText(c.Model); err != nil {
		return nil, err
	}
	if err := e.openManager(ctx, c, model); err != nil {
		return nil, err
	}
	s.metrics = newMetrics(c.Name, c.BlockSize, e.manager.GPU())
	publisher, err := events.NewPublisher(events.PublisherConfig{Endpoint: c.Events, Replay: c.Replay, Topic: c.Topic, Log: c.Log})
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	e.onClose(func(context.Context) error { return publisher.Close() })
	e.source = EventSource{Endpoint: publisher.Endpoint(), Replay: publisher.Replay(), Topic: c.Topic}
	s.source = e.source
	s.scheduler = e.startScheduler(c, model, s, publisher)
	if err := e.listen(c, s); err != nil {
		return nil, err
	}
	c.Log.Info("the engine serves", "model", c.Name, "url", e.url, "device", "cpu", "context", c.MaxContext,
		"pages", c.GPUBlocks, "page_tokens", c.BlockSize, "page_bytes", model.BlockBytes(c.BlockSize), "events", e.source.Endpoint)
	return e, nil
}

func (e *Engine) onClose(f func(context.Context) error) { e.closers = append(e.closers, f) }

func (e *Engine) openManager(ctx context.Context, c Config, model *llama.Model) (err error) {
	t := c.Tiers
	t.GPUBlocks = c.GPUBlocks
	t.Layout = kv.Layout{Model: model.Fingerprint(), DType: model.DType(), Layers: model.Config().Layers, BlockSize: c.BlockSize,
		BlockBytes: model.BlockBytes(c.BlockSize), TPSize: 1, Version: layoutVersion}
	if t.Log == nil {
		t.Log = c.Log
	}
	if e.manager, err = kvbm.Open(ctx, t); err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	e.onClose(e.manager.Close)
	return nil
}

func (e *Engine) startScheduler(c Config, model *llama.Model, s *server, publisher *events.Publisher) *scheduler {
	threads := c.Threads
	if threads <= 0 {
		threads = runtime.GOMAXPROCS(0)
	}
	runner := llama.NewRunner(model, c.BlockSize, threads)
	e.onClose(func(context.Context) error { runner.Close(); return nil })
	eos := append(slices.Clone(model.Config().EOS), s.tokenizer.EOS()...)
	slices.Sort(eos)
	ctx, stop := context.WithCancel(context.Background())
	sched := &scheduler{
		pool: e.manager.GPU(), manager: e.manager, runner: runner, metrics: s.metrics, log: c.Log,
		blockSize: c.BlockSize, chunk: c.ChunkTokens, maxSeqs: c.MaxSeqs, maxQueue: c.MaxQueue,
		restoreTimeout: c.RestoreTimeout, eos: slices.Compact(eos),
		ctx: ctx, wakeup: make(chan struct{}, 1),
	}
	sched.announcer = newAnnouncer(c.BlockSize, sched.wake, func(batch []events.Event) {
		if !publisher.Publish(events.Batch{Time: float64(time.Now().UnixMicro()) / 1e6, Events: batch}) {
			s.metrics.eventBatchesLost.Inc()
		}
	})
	_, stopWatch := e.manager.Watch(sched.announcer.collect) // the pages are empty yet: no snapshot
	done := make(chan struct{})
	go func() {
		defer close(done)
		sched.run()
	}()
	e.onClose(func(context.Context) error {
		stop()
		<-done
		stopWatch()
		return nil
	})
	return sched
}

func (e *Engine) listen(c Config, s *server) error {
	l, err := net.Listen("tcp", c.Listen)
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	e.url = "http://" + l.Addr().String()
	srv := &http.Server{Handler: s.handler(), ReadHeaderTimeout: 10 * time.Second}
	served := make(chan struct{})
	go func() {
		defer close(served)
		if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			c.Log.Error("the engine's HTTP server ended", "error", err)
		}
	}()
	e.onClose(func(ctx context.Context) error {
		s.scheduler.drain()
		if srv.Shutdown(ctx) != nil {
			srv.Close() // time is up: what still runs is cut off
		}
		<-served
		return nil
	})
	return nil
}

// loadText reads the model's tokenizer and chat template.
func (s *server) loadText(path string) (err error) {
	if s.tokenizer, err = tokenizer.Load(path); err != nil {
		return fmt.Errorf("embedded: the model's tokenizer: %w", err)
	}
	if src := s.tokenizer.ChatTemplate(); src != "" {
		if s.template, err = chattemplate.Parse(src); err != nil {
			return fmt.Errorf("embedded: the model's chat template: %w", err)
		}
	}
	return nil
}

// URL is the base of the HTTP API.
func (e *Engine) URL() string { return e.url }

// Manager is the block manager that owns the engine's pages and its lower tiers.
func (e *Engine) Manager() *kvbm.Manager { return e.manager }

// EventSource is where the KV events are.
func (e *Engine) EventSource() EventSource { return e.source }

// Close takes no more requests, lets those in flight finish until ctx ends, then
// fails the rest, and stops everything.
func (e *Engine) Close(ctx context.Context) error {
	var errs []error
	for _, f := range slices.Backward(e.closers) {
		errs = append(errs, f(ctx))
	}
	e.closers = nil
	return errors.Join(errs...)
}
