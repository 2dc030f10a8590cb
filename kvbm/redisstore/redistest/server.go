// Package redistest runs the real redis-server for tests.
package redistest

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"
)

// Server is one redis-server on a Unix socket. It keeps nothing across a Kill.
type Server struct {
	t      testing.TB
	socket string
	args   []string
	cmd    *exec.Cmd
}

// Need skips the test without redis-server, or fails it if KVASIR_REQUIRE_ALL=1.
func Need(t testing.TB) {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("KVASIR_REQUIRE_ALL") == "1" {
			t.Fatalf("redis-server is required: %v", err)
		}
		t.Skipf("redis-server is not installed; the Redis tier stays untested: %v", err)
	}
}

// Start runs a server until the test ends; args are further options of
// redis-server.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	Need(t)
	dir, err := os.MkdirTemp("", "redis") // t.TempDir's names are too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{t: t, socket: filepath.Join(dir, "s"), args: args}
	t.Cleanup(func() {
		s.Kill()
		os.RemoveAll(dir)
	})
	s.Run()
	return s
}

// URL is where the server is.
func (s *Server) URL() string { return "unix://" + s.socket }

// Run starts a server that was killed, with nothing in it, and waits until it
// answers.
func (s *Server) Run() {
	s.t.Helper()
	args := append([]string{"--port", "0", "--unixsocket", s.socket, "--save", "", "--dir", filepath.Dir(s.socket)}, s.args...)
	s.cmd = exec.Command("redis-server", args...)
	s.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "unix", s.socket)
		if err == nil {
			c.Close()
			return
		}
		if ctx.Err() != nil {
			s.t.Fatalf("redis-server does not answer: %v", err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// Kill ends the server at once. It does nothing when it does not run.
func (s *Server) Kill() {
	if s.cmd != nil {
		_ = s.cmd.Process.Kill()
		_ = s.cmd.Wait()
		s.cmd = nil
		_ = os.Remove(s.socket)
	}
}

// Stall makes the server accept bytes and answer nothing, until the returned
// function is called.
func (s *Server) Stall() (resume func()) {
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	return func() { _ = s.cmd.Process.Signal(syscall.SIGCONT) }
}
