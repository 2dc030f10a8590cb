package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/internal/telemetry"
	"github.com/kvasir-ai/kvasir/workers/agent"
	"github.com/kvasir-ai/kvasir/workers/discovery"
)

func newWorker() *cobra.Command {
	var file, id string
	var diskCheck bool
	c := &cobra.Command{
		Use:   "worker --config FILE",
		Short: "Run an agent beside an engine, or the embedded engine with its agent",
		Long: `Runs the block manager and control API of one worker. With engine embedded (the
default) the engine runs in this process too. Where the configuration names
etcd, the worker registers there.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if id != "" {
				cfg.Agent.ID = id
			}
			if cfg.Agent.ID == "" {
				return usagef("the worker has no name: set agent.id or give --id")
			}
			if diskCheck {
				return checkDisks(c.OutOrStdout(), cfg)
			}
			return runWorker(c.Context(), cfg)
		},
	}
	c.Flags().StringVar(&file, "config", "", "configuration file; its agent and tiers are used")
	c.Flags().StringVar(&id, "id", "", "name of the worker, over agent.id")
	c.Flags().BoolVar(&diskCheck, "disk-check", false, "verify every block of the worker's disk tier, print counts, and exit")
	return c
}

// closeTimeout bounds how long a worker may take to end: streams in flight, the
// disk tier's checkpoint.
const closeTimeout = 30 * time.Second

func runWorker(ctx context.Context, cfg *config.Config) (err error) {
	log, err := newLogger(cfg.Telemetry)
	if err != nil {
		return err
	}
	stopTraces, err := telemetry.StartTracing(ctx, cfg.Telemetry.OTLP, "kvasir-worker", version())
	if err != nil {
		return err
	}
	if cfg.Agent.Model == "" && cfg.Agent.Engine == "embedded" {
		cfg.Agent.Model = servedName(cfg.Agent.Embedded.Model)
	}
	n, err := startNode(ctx, cfg, log)
	if err != nil {
		return err
	}
	defer func() {
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
		defer cancel()
		err = errors.Join(err, n.close(end), stopTraces(end))
	}()
	if cfg.Agent.Metrics != "" {
		stop, err := serveMetrics(cfg.Agent.Metrics, n, log)
		if err != nil {
			return err
		}
		defer stop()
	}
	if cfg.Discovery.Etcd != nil {
		ec, err := etcdConfig(cfg, log)
		if err != nil {
			return err
		}
		r, err := discovery.Register(ctx, ec, n.info)
		if err != nil {
			return err
		}
		defer r.Close() // leave the fleet before the engine goes
	}
	log.Info("worker is up", "worker", n.info.ID, "engine", n.info.URL, "agent", n.info.Agent)
	<-ctx.Done()
	log.Info("worker ends", "worker", n.info.ID)
	return nil
}

// serveMetrics shows the agent's and its block manager's metrics.
func serveMetrics(addr string, n *node, log *slog.Logger) (stop func(), err error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("agent.metrics: %w", err)
	}
	reg := newRegistry()
	if n.engine != nil {
		m := n.engine.Manager()
		reg.MustRegister(agent.Collector{Manager: m}, agent.KVBMNames{Manager: m, BlockTokens: n.info.BlockSize})
	}
	if n.plugin != nil {
		n.plugin.register(reg)
	}
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	var g errgroup.Group
	s := serve(&g, l, nil, mux, log)
	return func() {
		s.Close()
		if err := g.Wait(); err != nil {
			log.Error("the metrics listener failed", "error", err)
		}
	}, nil
}
