package main

import (
	"context"
	"errors"
	"log/slog"
	"sync"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/agent"
	"github.com/kvasir-ai/kvasir/workers/agent/plugin"
)

// pluginHost is an agent's side of the plug-in in an engine that runs by
// itself, and the block manager that the plug-in's arrival opened.
type pluginHost struct {
	server *plugin.Server

	mu          sync.Mutex
	manager     *kvbm.Manager // nil: not opened yet
	blockTokens int
	reg         prometheus.Registerer // nil: no metrics
}

func hostPlugin(ctx context.Context, cfg *config.Config, a *agent.Agent, log *slog.Logger) (*pluginHost, error) {
	tiers, err := tierConfig(cfg, log)
	if err != nil {
		return nil, err
	}
	h := &pluginHost{}
	h.server, err = plugin.Serve(ctx, plugin.Config{
		Listen: cfg.Agent.Plugin, Model: cfg.Agent.Model, Planned: a.Planned, Loaded: a.Loaded, Log: log,
		Open: func(l kv.Layout) (*kvbm.Manager, error) {
			tiers.Layout = l
			m, err := kvbm.Open(ctx, tiers)
			if err == nil {
				h.opened(m, l.BlockSize)
				a.Adopt(m)
			}
			return m, err
		},
	})
	return h, err
}

func (h *pluginHost) opened(m *kvbm.Manager, blockTokens int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.manager, h.blockTokens = m, blockTokens
	h.export()
}

// register shows the manager's metrics, as soon as there is one.
func (h *pluginHost) register(reg prometheus.Registerer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reg = reg
	h.export()
}

func (h *pluginHost) export() {
	if h.reg != nil && h.manager != nil {
		h.reg.MustRegister(agent.Collector{Manager: h.manager}, agent.KVBMNames{Manager: h.manager, BlockTokens: h.blockTokens})
	}
}

func (h *pluginHost) close(ctx context.Context) error {
	err := h.server.Close()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.manager != nil {
		err = errors.Join(err, h.manager.Close(ctx))
	}
	return err
}
