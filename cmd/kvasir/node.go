package main

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers"
	"github.com/kvasir-ai/kvasir/workers/agent"
	"github.com/kvasir-ai/kvasir/workers/engine/embedded"
)

// node is a worker's half of a process: an agent and, if it is the embedded
// one, its engine.
type node struct {
	info   workers.Info
	engine *embedded.Engine // nil: the engine runs by itself
	agent  *agent.Agent
	plugin *pluginHost // nil: the engine has no plug-in of ours
}

// startNode starts the worker that cfg.Agent describes.
func startNode(ctx context.Context, cfg *config.Config, log *slog.Logger) (*node, error) {
	a := cfg.Agent
	log = log.With("worker", a.ID)
	n := &node{info: workers.Info{
		ID: kv.WorkerID(a.ID), Model: a.Model, URL: a.URL, Engine: a.Engine, Role: a.Role, Agent: advertised(a),
		Events: workers.EventSource{Endpoint: a.Events.Endpoint, Replay: a.Events.Replay, Topic: a.Events.Topic},
	}}
	trust, err := fleetTLS(cfg.Fleet)
	if err != nil {
		return nil, err
	}
	ac := agent.Config{Listen: listenAddress(a), TLS: trust, Log: log, Version: version()}
	if a.Engine == "embedded" {
		if err := n.startEngine(ctx, cfg, log); err != nil {
			return nil, err
		}
		ac.Manager = n.engine.Manager()
	}
	ac.Info = n.info
	n.agent, err = agent.Serve(ctx, ac)
	if err != nil {
		return nil, errors.Join(err, n.close(ctx))
	}
	if a.Plugin != "" {
		if n.plugin, err = hostPlugin(ctx, cfg, n.agent, log); err != nil {
			return nil, errors.Join(err, n.close(ctx))
		}
	}
	return n, nil
}

func (n *node) startEngine(ctx context.Context, cfg *config.Config, log *slog.Logger) error {
	e := cfg.Agent.Embedded
	if e.Threads == 0 {
		e.Threads = runtime.NumCPU()
	}
	if e.Model == "" {
		var err error
		if e.Model, err = tinyModel(); err != nil {
			return err
		}
	}
	giveWay()
	tiers, err := tierConfig(cfg, log)
	if err != nil {
		return err
	}
	engine, err := embedded.Start(ctx, embedded.Config{
		Model: e.Model, Name: cfg.Agent.Model, Listen: e.Listen, BlockSize: e.BlockSize, GPUBlocks: e.GPUBlocks,
		MaxContext: e.MaxContext, Threads: e.Threads, Tiers: tiers, Log: log,
		Events: "tcp://127.0.0.1:0", Replay: "tcp://127.0.0.1:0", Topic: "kv@" + cfg.Agent.ID,
	})
	if err != nil {
		return err
	}
	n.engine = engine
	n.info.URL, n.info.BlockSize, n.info.Tokenizer = engine.URL(), e.BlockSize, e.Model
	n.info.Events = workers.EventSource(engine.EventSource())
	return nil
}

// tierConfig is what the file says of the tiers; whoever opens them knows the
// layout.
func tierConfig(cfg *config.Config, log *slog.Logger) (kvbm.Config, error) {
	tiers := kvbm.Config{CPUBytes: int64(cfg.Tiers.CPU), Policy: cfg.Tiers.Eviction, Log: log}
	if d := cfg.Tiers.Disk; d != nil {
		tiers.Disk = kvbm.DiskConfig{Paths: slabFolders(cfg), Bytes: int64(d.Size), WriteBytesPerDay: int64(d.WritePerDay)}
	}
	if r := cfg.Tiers.Redis; r != nil {
		tiers.Redis = kvbm.RedisConfig{URL: r.URL, More: r.More, CA: r.CA, TTL: time.Duration(r.TTL)}
	}
	var err error
	if p := cfg.Tiers.Peer; p != nil {
		tiers.Peer, err = peerTier(p)
	}
	return tiers, err
}

// peerTier reads what the settings of the peer tier point to.
func peerTier(p *config.Peer) (c kvbm.PeerConfig, err error) {
	c = kvbm.PeerConfig{Listen: cmp.Or(p.Listen, "127.0.0.1:0"), Advertise: p.Advertise, Secret: p.Secret}
	if p.SecretFile != "" {
		b, err := os.ReadFile(p.SecretFile)
		if err != nil {
			return c, fmt.Errorf("tiers.peer.secret_file: %w", err)
		}
		if c.Secret = strings.TrimSpace(string(b)); c.Secret == "" {
			return c, fmt.Errorf("tiers.peer.secret_file: %s is empty", p.SecretFile)
		}
	}
	if p.Cert == "" {
		return c, nil
	}
	cert, err := tls.LoadX509KeyPair(p.Cert, p.Key)
	if err != nil {
		return c, fmt.Errorf("tiers.peer.cert: %w", err)
	}
	pem, err := os.ReadFile(p.CA)
	if err != nil {
		return c, fmt.Errorf("tiers.peer.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return c, fmt.Errorf("tiers.peer.ca: %s holds no certificate", p.CA)
	}
	c.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: pool, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert}
	return c, nil
}

// slabFolders are where the worker keeps its slabs, one on each device.
func slabFolders(cfg *config.Config) (folders []string) {
	for _, path := range append([]string{cfg.Tiers.Disk.Path}, cfg.Tiers.Disk.More...) {
		folders = append(folders, filepath.Join(path, cfg.Agent.ID))
	}
	return folders
}

// giveWay lets Go run two more threads than there are cores, so that the
// engine's arithmetic, which keeps every core busy for milliseconds on end, does
// not hold up events, health and streams: the kernel shares the cores out more
// finely than Go's scheduler does.
func giveWay() { runtime.GOMAXPROCS(runtime.NumCPU() + 2) }

// close ends the agent first, so that nobody asks a manager that is gone.
func (n *node) close(ctx context.Context) error {
	var errs []error
	if n.agent != nil {
		errs = append(errs, n.agent.Close())
	}
	if n.plugin != nil {
		errs = append(errs, n.plugin.close(ctx))
	}
	if n.engine != nil {
		errs = append(errs, n.engine.Close(ctx))
	}
	return errors.Join(errs...)
}

// listenAddress is the agent's control API, by default a socket named after it.
func listenAddress(a config.Agent) string {
	if a.Listen != "" {
		return a.Listen
	}
	return "unix://" + filepath.Join(os.TempDir(), fmt.Sprintf("kvasir-%s.sock", a.ID))
}

func advertised(a config.Agent) string {
	if a.Advertise != "" {
		return a.Advertise
	}
	return listenAddress(a)
}
