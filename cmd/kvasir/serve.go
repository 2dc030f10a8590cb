package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/telemetry"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/discovery"
)

func newServe() *cobra.Command {
	var file, listen, model string
	var urls []string
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Runs the gateway in front of a fleet: the workers of the configuration file, of
etcd, of a watched file, or given with --worker. With --worker alone it learns
model, block size and event sockets from the engines.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if listen != "" {
				cfg.Listen = listen
			}
			for i, u := range urls {
				cfg.Workers = append(cfg.Workers, config.Worker{ID: fmt.Sprintf("worker-%d", i), URL: u})
			}
			if len(cfg.Workers) == 0 && cfg.Discovery.Etcd == nil && cfg.Discovery.File == "" {
				return usagef("no workers: give --worker URL, or a --config with workers or discovery")
			}
			if model != "" {
				cfg.Models = append(cfg.Models, config.Model{Name: servedName(model), Tokenizer: model})
			}
			return runServe(c.Context(), cfg)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file")
	f.StringVar(&listen, "listen", "", "address for clients, over the file's")
	f.StringArrayVar(&urls, "worker", nil, "base URL of an engine; may be given again")
	f.StringVar(&model, "model", "", "model folder or file whose tokenizer to use; served under its base name")
	return c
}

func runServe(ctx context.Context, cfg *config.Config) error {
	log, err := newLogger(cfg.Telemetry)
	if err != nil {
		return err
	}
	stopTraces, err := telemetry.StartTracing(ctx, cfg.Telemetry.OTLP, "kvasir-gateway", version())
	if err != nil {
		return err
	}
	from, err := sources(cfg, log)
	if err != nil {
		return err
	}
	f, err := newFront(cfg, log, from, nil)
	if err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, "kvasir: listening on %s\n", f.url())
	err = f.run(ctx)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	return errors.Join(err, stopTraces(end))
}

// sources are the places that cfg names workers in.
func sources(cfg *config.Config, log *slog.Logger) ([]workers.Source, error) {
	var list []workers.Source
	if len(cfg.Workers) > 0 {
		infos := make([]workers.Info, len(cfg.Workers))
		for i, w := range cfg.Workers {
			infos[i] = workers.Info{
				ID: kv.WorkerID(w.ID), Model: w.Model, URL: w.URL, Engine: w.Engine, Role: w.Role, BlockSize: w.BlockSize, Agent: w.Agent,
				Events: workers.EventSource{Endpoint: w.Events.Endpoint, Replay: w.Events.Replay, Topic: w.Events.Topic},
			}
		}
		list = append(list, discovery.Static(infos...))
	}
	if cfg.Discovery.File != "" {
		list = append(list, discovery.File(cfg.Discovery.File, log))
	}
	if cfg.Discovery.Etcd != nil {
		etcd, err := discovery.Etcd(etcdConfig(cfg.Discovery.Etcd, log))
		if err != nil {
			return nil, err
		}
		list = append(list, etcd)
	}
	return list, nil
}

func etcdConfig(e *config.Etcd, log *slog.Logger) discovery.EtcdConfig {
	return discovery.EtcdConfig{
		Endpoints: e.Endpoints, Prefix: e.Prefix, Username: e.Username, Password: e.Password, TTL: time.Duration(e.TTL), Log: log,
	}
}
