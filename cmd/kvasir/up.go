package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway"
	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/internal/telemetry"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/discovery"
	"github.com/kvasir-ai/kvasir/workers/engine/embedded/llama"
)

func newUp() *cobra.Command {
	var listen, model string
	var count int
	c := &cobra.Command{
		Use:   "up",
		Short: "Run everything here: a gateway and embedded workers",
		Long: `Runs a gateway and embedded workers with their block managers in one process; no
other service is needed. Without --model it takes the demo model if make up
fetched it, else a tiny random one whose answers are noise.

Tiers and the engine's pages are set as for a worker, by environment:
KVASIR_AGENT_EMBEDDED_GPU_BLOCKS, KVASIR_TIERS_CPU, KVASIR_TIERS_DISK_PATH,
KVASIR_TIERS_DISK_SIZE, KVASIR_TIERS_REDIS_URL.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if count < 1 {
				return usagef("--workers must be at least 1")
			}
			cfg, err := upConfig(listen, model)
			if err != nil {
				return err
			}
			return runUp(c.Context(), cfg, count, c.OutOrStdout())
		},
	}
	f := c.Flags()
	f.StringVar(&listen, "listen", ":8000", "address for clients")
	f.StringVar(&model, "model", "", "Hugging Face folder or .gguf file")
	f.IntVar(&count, "workers", 2, "embedded workers")
	return c
}

// upConfig is the environment's configuration with defaults that show the
// tiers at work.
func upConfig(listen, model string) (*config.Config, error) {
	cfg, err := loadConfig("")
	if err != nil {
		return nil, err
	}
	cfg.Listen = listen
	if model == "" {
		model = cfg.Agent.Embedded.Model
	}
	if model == "" {
		model = cachedDemoModel()
	}
	cfg.Agent.Embedded.Model = model
	if _, set := os.LookupEnv("KVASIR_TIERS_CPU"); !set && cfg.Tiers.CPU == 0 {
		cfg.Tiers.CPU = 256 << 20
	}
	if _, set := os.LookupEnv("KVASIR_TELEMETRY_LOG_LEVEL"); !set {
		cfg.Telemetry.LogLevel = "warn" // the terminal is for the requests
	}
	return cfg, nil
}

func runUp(ctx context.Context, cfg *config.Config, count int, out io.Writer) (err error) {
	log, err := newLogger(cfg.Telemetry)
	if err != nil {
		return err
	}
	stopTraces, err := telemetry.StartTracing(ctx, cfg.Telemetry.OTLP, "kvasir", version())
	if err != nil {
		return err
	}
	tiny := cfg.Agent.Embedded.Model == ""
	if tiny {
		if cfg.Agent.Embedded.Model, err = tinyModel(); err != nil {
			return err
		}
	}
	name := servedName(cfg.Agent.Embedded.Model)
	cfg.Models = []config.Model{{Name: name, Tokenizer: cfg.Agent.Embedded.Model}}

	sockets, err := os.MkdirTemp("", "kvasir-up")
	if err != nil {
		return err
	}
	defer os.RemoveAll(sockets)
	var nodes []*node
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		for _, n := range nodes {
			err = errors.Join(err, n.close(end))
		}
		err = errors.Join(err, stopTraces(end))
	}()
	var infos []workers.Info
	for i := range count {
		one := *cfg
		one.Agent.ID, one.Agent.Model = fmt.Sprintf("w%d", i), name
		one.Agent.Listen = "unix://" + filepath.Join(sockets, one.Agent.ID+".sock")
		one.Agent.Embedded.Listen = "127.0.0.1:0"
		n, err := startNode(ctx, &one, log)
		if err != nil {
			return fmt.Errorf("worker %s: %w", one.Agent.ID, err)
		}
		nodes = append(nodes, n)
		infos = append(infos, n.info)
	}
	p := &requestPrinter{w: out}
	f, err := newFront(cfg, log, []workers.Source{discovery.Static(infos...)}, p.print)
	if err != nil {
		return err
	}
	welcome(out, f.url(), name, count, f.open(), tiny)
	return f.run(ctx)
}

// requestPrinter writes one line a request.
type requestPrinter struct {
	mu sync.Mutex
	w  io.Writer
}

func (p *requestPrinter) print(r gateway.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	fmt.Fprintln(p.w, r.Line())
}

func welcome(w io.Writer, url, model string, count int, open, tiny bool) {
	fmt.Fprintf(w, "kvasir %s: listening on %s and serving %s (embedded workers: %d)\n", version(), url, model, count)
	if open {
		fmt.Fprintln(w, "It listens on every interface and asks for no key; --listen 127.0.0.1:8000 keeps it to this machine.")
	}
	if tiny {
		fmt.Fprintln(w, "This is the built-in tiny random model: all of Kvasir is at work, but its answers are noise.")
	}
	if llama.Kernels() == "portable" {
		fmt.Fprintln(w, "No vector kernels: the processor lacks AVX2, or the binary was not built with GOEXPERIMENT=simd (make build is). Expect it to be slow.")
	}
	body := fmt.Sprintf(`{"model":"%s","messages":[{"role":"user","content":"What is the capital of France?"}],"max_tokens":32,"temperature":0`, model)
	fmt.Fprintf(w, `
Try it:
  curl %[1]s/v1/chat/completions -H 'Content-Type: application/json' -d '%[2]s}'
  curl -N %[1]s/v1/chat/completions -H 'Content-Type: application/json' -d '%[2]s,"stream":true}'
Ask why a request went where it went, with the x-request-id of its answer:
  kvasir explain REQUEST_ID --url %[1]s
One line a request follows; Ctrl-C ends.

`, url, body)
}
