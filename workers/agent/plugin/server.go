package plugin

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/kvbm"
	"github.com/kvasir-ai/kvasir/workers/agent"
)

const (
	// hold is how long staged blocks wait for the engine to take them.
	hold = time.Minute
	// stageLimit ends a staging with what has landed: the engine computes the
	// rest.
	stageLimit = 5 * time.Second
	// poolWait is how long the scheduler's part of an engine waits for the part
	// with the pages.
	poolWait = 5 * time.Second
	// quarantine is how long after a connection's end its process may still be
	// writing to a slot.
	quarantine = time.Second
	// layoutVersion is that of the order of bytes in a block: layer after layer,
	// each as the engine's page has it.
	layoutVersion = 1
)

// Config is one engine's socket.
type Config struct {
	// Listen is the socket's path; it is made with mode 0600.
	Listen string
	// Model is what block hashes start from; empty: what the engine serves.
	Model string
	// Open opens a manager for blocks of a layout. The server does not close it.
	Open func(kv.Layout) (*kvbm.Manager, error)
	// Planned is how many leading blocks a router wants restored for a request
	// that the agent was told of, by the gateway's id of it.
	Planned func(id string) (blocks int, ok bool)
	// Loaded is told how fast the engine took blocks from the pool.
	Loaded func(blocks int, bytes int64, took time.Duration)
	Log    *slog.Logger
}

// Server serves an engine's plug-in until it is closed.
type Server struct {
	c        Config
	log      *slog.Logger
	listener net.Listener
	ctx      context.Context
	cancel   context.CancelFunc
	wg       sync.WaitGroup

	opened chan struct{} // closed when there is a pool

	mu       sync.Mutex
	sessions map[*session]struct{}
	pool     *pool // nil: no engine part with pages was here yet
}

// pool is an open manager and what it was opened for.
type pool struct {
	name    string
	model   string
	layout  kv.Layout
	manager *kvbm.Manager
}

// Serve starts a server. It runs until Close; values in ctx pass.
func Serve(ctx context.Context, c Config) (*Server, error) {
	l, err := agent.ListenUnix(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("plugin: %w", err)
	}
	s := &Server{c: c, log: c.Log, listener: l, sessions: map[*session]struct{}{}, opened: make(chan struct{})}
	s.ctx, s.cancel = context.WithCancel(context.WithoutCancel(ctx))
	s.wg.Go(s.accept)
	s.log.Info("waiting for the engine's plug-in", "socket", c.Listen)
	return s, nil
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			if s.ctx.Err() == nil {
				s.log.Error("the plug-in's socket failed: no plug-in can connect any more", "error", err)
			}
			return
		}
		e := newSession(s, c.(*net.UnixConn))
		s.mu.Lock()
		if s.ctx.Err() != nil {
			s.mu.Unlock()
			c.Close()
			return
		}
		s.sessions[e] = struct{}{}
		s.mu.Unlock()
		s.wg.Go(func() {
			e.serve()
			s.mu.Lock()
			delete(s.sessions, e)
			s.mu.Unlock()
		})
	}
}

// Close ends every connection and gives back what they held. The manager is
// whoever opened it's to close, after this.
func (s *Server) Close() error {
	s.cancel()
	err := s.listener.Close()
	s.mu.Lock()
	for e := range s.sessions {
		e.conn.Close()
	}
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

// enter finds or opens the pool for the engine part that said r.
func (s *Server) enter(r *request) (*pool, error) {
	if r.Role == "scheduler" {
		return s.awaitPool()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	model := s.c.Model
	if model == "" {
		model = r.Model
	}
	l := kv.Layout{
		Model: model + " " + r.Layout.Fingerprint, DType: r.Layout.DType, Layers: r.Layout.Layers,
		BlockSize: r.Layout.BlockSize, BlockBytes: r.Layout.BlockBytes, TPSize: 1, Version: layoutVersion,
	}
	if s.pool != nil {
		if s.pool.layout != l {
			return nil, fmt.Errorf("this agent's tiers are laid out for %+v; restart it to serve an engine with %+v", s.pool.layout, l)
		}
		return s.pool, nil
	}
	m, err := s.c.Open(l)
	if err != nil {
		return nil, err
	}
	if m.Host() == nil {
		return nil, errors.Join(errors.New("the agent has no tier to keep blocks in: set tiers"), m.Close(s.ctx))
	}
	s.pool = &pool{name: fmt.Sprintf("%016x", rand.Uint64()), model: model, layout: l, manager: m}
	close(s.opened)
	s.log.Info("the engine's tiers are open", "block_bytes", l.BlockBytes, "slots", m.Host().Capacity())
	return s.pool, nil
}

// awaitPool lets the part without pages wait for the other one: after an agent's
// restart both come at once.
func (s *Server) awaitPool() (*pool, error) {
	late := time.NewTimer(poolWait)
	defer late.Stop()
	select {
	case <-s.opened:
		s.mu.Lock()
		defer s.mu.Unlock()
		return s.pool, nil
	case <-late.C:
		return nil, errors.New("the engine part that has the KV pages did not connect yet")
	case <-s.ctx.Done():
		return nil, errors.New("the agent ends")
	}
}
