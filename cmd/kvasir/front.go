package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"go.opentelemetry.io/otel"
	"golang.org/x/sync/errgroup"

	"github.com/kvasir-ai/kvasir/gateway"
	"github.com/kvasir-ai/kvasir/internal/config"
	"github.com/kvasir-ai/kvasir/internal/telemetry"
	"github.com/kvasir-ai/kvasir/prefixindex"
	"github.com/kvasir-ai/kvasir/router"
	"github.com/kvasir-ai/kvasir/workers"
)

// front is the gateway's half of a process: the fleet's supervisor, the index
// and the HTTP servers.
type front struct {
	cfg      *config.Config
	log      *slog.Logger
	gw       *gateway.Gateway
	fleet    *workers.Fleet
	listener net.Listener
	admin    net.Listener // nil: admin endpoints are on listener
	registry *prometheus.Registry
	tls      *tls.Config  // of listener; nil: plain HTTP
	tenants  *tenantsFile // nil: the gateway is open to everybody
	access   *telemetry.Held
}

func newRegistry() *prometheus.Registry {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return reg
}

// newFront listens, so that a taken port is an error before anything runs, but
// serves nothing yet.
func newFront(cfg *config.Config, log *slog.Logger, sources []workers.Source, onRequest func(gateway.Record)) (*front, error) {
	reg := newRegistry()
	index := prefixindex.New(prefixindex.Options{})
	policy, err := router.NewPolicy(cfg.Router.Policy, cfg.Router.Seed)
	if err != nil {
		return nil, err
	}
	// A line a request, in a write of its own, would be a tenth of what a small
	// request costs.
	f := &front{cfg: cfg, log: log, registry: reg, access: telemetry.Hold(os.Stderr)}
	access, err := telemetry.NewLogger(f.access, cfg.Telemetry.LogLevel, cfg.Telemetry.LogFormat)
	if err != nil {
		return nil, err
	}
	if f.tls, err = clientsTLS(cfg.TLS); err != nil {
		return nil, err
	}
	agents, err := fleetTLS(cfg.Fleet)
	if err != nil {
		return nil, err
	}
	f.fleet = workers.NewFleet(workers.FleetConfig{Sources: sources, Sink: index, Log: log, AgentTLS: agents, Registerer: reg,
		EjectShare: ejectShare(cfg.Limits.EjectPercent)})
	gwConfig := gateway.Config{
		Fleet: f.fleet, Index: index, Policy: policy, Log: log, Access: access, Registry: reg, OnRequest: onRequest, Admin: cfg.Admin != "",
		Limits: gateway.Limits{
			Body: int64(cfg.Limits.Body), InFlight: cfg.Limits.InFlight,
			BodyTime:  time.Duration(cfg.Limits.BodyTime),
			FirstByte: time.Duration(cfg.Limits.FirstByte), Idle: time.Duration(cfg.Limits.Idle), Request: time.Duration(cfg.Limits.Request),
			Migrations: cfg.Limits.Migrations, DrainDelay: time.Duration(cfg.Limits.DrainDelay),
			QueueAhead: time.Duration(cfg.Limits.QueueAhead), Queue: cfg.Limits.Queue, QueueBytes: int64(cfg.Limits.QueueBytes),
			TTFT: time.Duration(cfg.Limits.TTFT), ClientStall: time.Duration(cfg.Limits.ClientStall),
		},
	}
	if cfg.Telemetry.OTLP != "" {
		gwConfig.Tracer = otel.Tracer("github.com/kvasir-ai/kvasir/gateway")
	}
	if cfg.Auth != nil {
		if f.tenants, err = newTenants(cfg.Auth.KeysFile); err != nil {
			return nil, err
		}
		gwConfig.Tenants = f.tenants.directory
	}
	for _, m := range cfg.Models {
		gwConfig.Models = append(gwConfig.Models, gateway.Model{Name: m.Name, Tokenizer: m.Tokenizer})
	}
	if f.gw, err = gateway.New(gwConfig); err != nil {
		return nil, err
	}
	if f.listener, err = net.Listen("tcp", cfg.Listen); err != nil {
		return nil, fmt.Errorf("%w; give another address with --listen", err)
	}
	if cfg.Admin != "" {
		if f.admin, err = net.Listen("tcp", cfg.Admin); err != nil {
			f.listener.Close()
			return nil, fmt.Errorf("admin: %w", err)
		}
	}
	return f, nil
}

// ejectShare is a percentage as the fleet takes it, to which 0 means its default.
func ejectShare(percent int) float64 {
	if percent == 0 {
		return -1
	}
	return float64(percent) / 100
}

// url is where clients on this machine reach the gateway.
func (f *front) url() string {
	if f.tls != nil {
		return "https" + strings.TrimPrefix(localURL(f.listener.Addr()), "http")
	}
	return localURL(f.listener.Addr())
}

// open reports whether the gateway listens on every interface.
func (f *front) open() bool {
	a, ok := f.listener.Addr().(*net.TCPAddr)
	return ok && a.IP.IsUnspecified()
}

func localURL(a net.Addr) string {
	host, port, _ := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return "http://" + net.JoinHostPort(host, port)
}

// run serves until ctx ends, then drains: not ready first, requests in flight
// finish within the configured time, and what is left is cut.
func (f *front) run(ctx context.Context) error {
	// Fleet and servers outlive ctx: draining requests still need them.
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var g errgroup.Group
	g.Go(func() error {
		if err := f.fleet.Run(work); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	})
	g.Go(func() error { f.gw.CheckTokens(work); return nil })
	g.Go(func() error { spareMemory(work); return nil })
	if f.tenants != nil {
		g.Go(func() error { f.tenants.watch(work, f.log); return nil })
	} else {
		f.log.Info("no auth in the settings: everybody who reaches the gateway may use it")
	}
	servers := []*http.Server{serve(&g, f.listener, f.tls, f.gw.Handler(), f.log)}
	if f.admin != nil {
		servers = append(servers, serve(&g, f.admin, nil, adminMux(f.gw.AdminHandler()), f.log))
	}
	f.log.Info("gateway is up", "url", f.url())

	<-ctx.Done()
	f.log.Info("draining", "at_most", time.Duration(f.cfg.Limits.Drain))
	drain, cancel := context.WithTimeout(work, time.Duration(f.cfg.Limits.DrainDelay+f.cfg.Limits.Drain))
	defer cancel()
	err := f.gw.Drain(drain)
	for _, s := range servers {
		if e := s.Shutdown(drain); e != nil {
			s.Close() // what still runs is cut; Drain's error says so
		}
	}
	stop()
	f.access.Flush()
	return errors.Join(err, g.Wait())
}

// serve answers on l, over TLS if t is set, in HTTP/1 and HTTP/2.
func serve(g *errgroup.Group, l net.Listener, t *tls.Config, h http.Handler, log *slog.Logger) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	s := &http.Server{
		Handler: h, TLSConfig: t, Protocols: protocols, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
	}
	g.Go(func() error {
		answer := s.Serve
		if t != nil {
			answer = func(l net.Listener) error { return s.ServeTLS(l, "", "") }
		}
		if err := answer(l); !errors.Is(err, http.ErrServerClosed) {
			return err
		}
		return nil
	})
	return s
}

// adminMux adds the profiler, which belongs on an admin listener only.
func adminMux(h http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", h)
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/cmdline", pprof.Cmdline)
	mux.HandleFunc("/debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/trace", pprof.Trace)
	return mux
}
