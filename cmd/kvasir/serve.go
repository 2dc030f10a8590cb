package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/kvasir-ai/kvasir/gateway/tokenizer"
	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/telemetry"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/discovery"
)

func newServe() *cobra.Command {
	var file, listen, model string
	var urls [3][]string // by role
	var given []workers.Info
	c := &cobra.Command{
		Use:   "serve",
		Short: "Run the gateway",
		Long: `Runs the gateway in front of a fleet: the workers of the configuration file, of
etcd, of a watched file, or given with --worker. With --worker alone it learns
the rest from the engines: model, context length, block size, event sockets,
and the tokenizer, if the engine's model folder can be read here. What cannot
be learned is said in the log, with the setting that helps. Engines that want a
key get that of KVASIR_WORKER_API_KEY. Which engines only prefill and which only
decode vLLM tells with VLLM_SERVER_DEV_MODE=1; --prefill and --decode say it of
others.`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			cfg, err := loadConfig(file)
			if err != nil {
				return err
			}
			if listen != "" {
				cfg.Listen = listen
			}
			if model != "" {
				if _, err := tokenizer.Load(model); err != nil {
					return fmt.Errorf("--model: %w", err)
				}
			}
			for role, of := range urls {
				flag := workerFlags[role].name
				for i, u := range of {
					info := workers.Info{
						ID: kv.WorkerID(fmt.Sprintf("%s-%d", flag, i)), URL: u, Role: kv.Role(role), Tokenizer: model, APIKey: os.Getenv("KVASIR_WORKER_API_KEY"),
					}
					if err := info.Validate(); err != nil {
						return usagef("--%s: %v", flag, err)
					}
					given = append(given, info)
				}
			}
			if len(given) == 0 && len(cfg.Workers) == 0 && cfg.Discovery.Etcd == nil && cfg.Discovery.File == "" {
				return usagef("no workers: give --worker URL (or --prefill and --decode), or a --config with workers or discovery")
			}
			return runServe(c.Context(), cfg, given)
		},
	}
	f := c.Flags()
	f.StringVar(&file, "config", "", "configuration file")
	f.StringVar(&listen, "listen", "", "address for clients, over the file's")
	for role, flag := range workerFlags {
		f.StringArrayVar(&urls[role], flag.name, nil, flag.usage)
	}
	f.StringVar(&model, "model", "", "model folder, tokenizer.json or .gguf file of the tokenizer that the engines of --worker use")
	return c
}

// workerFlags name engines, by their role.
var workerFlags = [...]struct{ name, usage string }{
	kv.Aggregated: {"worker", "base URL of an engine; may be given again"},
	kv.Prefill:    {"prefill", "base URL of an engine that computes prompts for those of --decode; may be given again"},
	kv.Decode:     {"decode", "base URL of an engine that answers with what those of --prefill computed; may be given again"},
}

// runServe is the gateway in front of cfg's workers and those given besides.
func runServe(ctx context.Context, cfg *config.Config, given []workers.Info) error {
	log, err := newLogger(cfg.Telemetry)
	if err != nil {
		return err
	}
	stopTraces, err := telemetry.StartTracing(ctx, cfg.Telemetry.OTLP, "kvasir-gateway", version())
	if err != nil {
		return err
	}
	from, err := sources(cfg, given, log)
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

// sources are the places that cfg names workers in, after those given.
func sources(cfg *config.Config, given []workers.Info, log *slog.Logger) ([]workers.Source, error) {
	var list []workers.Source
	if len(given) > 0 {
		list = append(list, attached{given, log})
	}
	var static []workers.Info
	for _, w := range cfg.Workers {
		info, err := workerInfo(w)
		if err != nil {
			return nil, err
		}
		static = append(static, info.PerRank()...)
	}
	if len(static) > 0 {
		list = append(list, discovery.Static(static...))
	}
	if cfg.Discovery.File != "" {
		list = append(list, discovery.File(cfg.Discovery.File, log))
	}
	if cfg.Discovery.Etcd != nil {
		ec, err := etcdConfig(cfg, log)
		if err != nil {
			return nil, err
		}
		etcd, err := discovery.Etcd(ec)
		if err != nil {
			return nil, err
		}
		list = append(list, etcd)
	}
	return list, nil
}

func workerInfo(w config.Worker) (workers.Info, error) {
	info := workers.Info{
		ID: kv.WorkerID(w.ID), Model: w.Model, URL: w.URL, Engine: w.Engine, Role: w.Role, Connector: w.Connector, Bootstrap: w.Bootstrap, BlockSize: w.BlockSize, Agent: w.Agent, Ranks: w.Ranks,
		Events: workers.EventSource{Endpoint: w.Events.Endpoint, Replay: w.Events.Replay, Topic: w.Events.Topic}, APIKey: w.APIKey,
	}
	if w.APIKeyEnv != "" {
		if info.APIKey = os.Getenv(w.APIKeyEnv); info.APIKey == "" {
			return info, fmt.Errorf("worker %s: api_key_env: the variable %s is not set", w.ID, w.APIKeyEnv)
		}
	}
	return info, nil
}

func etcdConfig(cfg *config.Config, log *slog.Logger) (discovery.EtcdConfig, error) {
	e := cfg.Discovery.Etcd
	secret, err := fleetSecret(cfg.Fleet)
	return discovery.EtcdConfig{
		Endpoints: e.Endpoints, Prefix: e.Prefix, Username: e.Username, Password: e.Password, Secret: secret,
		TTL: time.Duration(e.TTL), Log: log,
	}, err
}
