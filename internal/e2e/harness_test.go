package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binary is the kvasir that the tests drive, built once; under the race
// detector it is built with it, so that a race anywhere ends a test.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "kvasir-e2e")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "kvasir")
		args := []string{"build", "-o", binary}
		if raceEnabled {
			args = append(args, "-race")
		}
		build := exec.Command("go", append(args, "github.com/kvasir-ai/kvasir/cmd/kvasir")...)
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "%v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// need skips the test if a part of the machine is missing, or fails it where
// everything is required.
func need(t *testing.T, have bool, what string) {
	t.Helper()
	if have {
		return
	}
	if os.Getenv("KVASIR_REQUIRE_ALL") != "" {
		t.Fatalf("%s is required here; run make test-deps", what)
	}
	t.Skipf("%s is missing; make test-deps installs it", what)
}

// smollm2 is the demo model's file.
func smollm2(t *testing.T) string {
	t.Helper()
	f := os.Getenv("KVASIR_SMOLLM2")
	need(t, f != "", "SmolLM2")
	return f
}

// process is a running program whose output is kept.
type process struct {
	t    *testing.T
	name string
	cmd  *exec.Cmd
	done chan struct{}
	err  error
	// A program of others may end a SIGTERM by dying of it.
	foreign bool

	mu    sync.Mutex
	lines []string
	grew  chan struct{} // closed and replaced at each line
}

// start runs a program until the test ends. Its output is shown if the test
// fails.
func start(t *testing.T, name string, env []string, program string, args ...string) *process {
	t.Helper()
	p := &process{t: t, name: name, cmd: exec.Command(program, args...), done: make(chan struct{}), grew: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	w.Close()
	go p.read(r)
	t.Cleanup(func() {
		p.stop()
		if t.Failed() {
			t.Logf("output of %s:\n%s", name, p.output())
		}
	})
	return p
}

func (p *process) read(r *os.File) {
	defer r.Close()
	for s := bufio.NewScanner(r); s.Scan(); {
		p.mu.Lock()
		p.lines = append(p.lines, s.Text())
		close(p.grew)
		p.grew = make(chan struct{})
		p.mu.Unlock()
	}
	p.err = p.cmd.Wait()
	close(p.done)
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	lines := p.lines
	if len(lines) > 200 {
		lines = lines[len(lines)-200:]
	}
	return strings.Join(lines, "\n")
}

// waitLine returns the first line that contains what.
func (p *process) waitLine(what string) string {
	p.t.Helper()
	deadline := time.After(90 * time.Second)
	for {
		p.mu.Lock()
		lines, grew := p.lines, p.grew
		p.mu.Unlock()
		for _, l := range lines {
			if strings.Contains(l, what) {
				return l
			}
		}
		select {
		case <-grew:
		case <-p.done:
			p.t.Fatalf("%s ended before it printed %q: %v", p.name, what, p.err)
		case <-deadline:
			p.t.Fatalf("%s did not print %q", p.name, what)
		}
	}
}

// stop ends the process as an operator would, and fails the test if it does not
// go cleanly.
func (p *process) stop() {
	select {
	case <-p.done:
		return
	default:
	}
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.done:
		if p.err != nil && !p.foreign {
			p.t.Errorf("%s did not end cleanly: %v", p.name, p.err)
		}
	case <-time.After(40 * time.Second):
		_ = p.cmd.Process.Signal(syscall.SIGQUIT) // goroutine dump into the output
		<-p.done
		p.t.Errorf("%s did not end within 40 s of SIGTERM", p.name)
	}
}

// kill ends the process as a crash would.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// gateway is a process with Kvasir's front door.
type gateway struct {
	*process
	url string
}

// startUp runs `kvasir up` and waits until it is ready.
func startUp(t *testing.T, env []string, args ...string) gateway {
	t.Helper()
	return ready(t, start(t, "kvasir up", env, binary, append([]string{"up", "--listen", "127.0.0.1:0"}, args...)...))
}

// ready waits for the gateway's address and for its workers.
func ready(t *testing.T, p *process) gateway {
	t.Helper()
	line := p.waitLine("listening on http://")
	g := gateway{p, strings.Fields(line[strings.Index(line, "http://"):])[0]}
	g.eventually("the gateway is ready", func() error {
		return statusOK(g.url + "/ready")
	})
	return g
}

func statusOK(url string) error {
	r, err := http.Get(url)
	if err != nil {
		return err
	}
	defer r.Body.Close()
	if r.StatusCode != http.StatusOK {
		b, _ := io.ReadAll(r.Body)
		return fmt.Errorf("%s: %s", r.Status, b)
	}
	return nil
}

// eventually waits for a condition that the world reaches by itself.
func (p *process) eventually(what string, cond func() error) {
	p.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		err := cond()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			p.t.Fatalf("waiting until %s: %v", what, err)
		}
		select {
		case <-p.done:
			p.t.Fatalf("%s ended while waiting until %s: %v", p.name, what, p.err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// freePort is a TCP port that was free a moment ago, for programs that cannot
// pick one themselves. It is none that the kernel gives to outgoing connections:
// some programs need most of a minute before they listen.
func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		port := 10_000 + rand.IntN(22_000)
		l, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
		if err != nil {
			continue
		}
		l.Close()
		if _, taken := ports.LoadOrStore(port, true); !taken {
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// ports are those that freePort has given away.
var ports sync.Map

// redisServer starts a real Redis and returns its URL.
func redisServer(t *testing.T, port int) *process {
	t.Helper()
	path, err := exec.LookPath("redis-server")
	need(t, err == nil, "redis-server")
	p := start(t, "redis-server", nil, path, "--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", t.TempDir())
	p.foreign = true
	p.eventually("Redis listens", dial(port))
	return p
}

// etcdServer starts a real etcd on the data in dir.
func etcdServer(t *testing.T, port, peerPort int, dir string) *process {
	t.Helper()
	path, err := exec.LookPath("etcd")
	need(t, err == nil, "etcd")
	client, peer := fmt.Sprintf("http://127.0.0.1:%d", port), fmt.Sprintf("http://127.0.0.1:%d", peerPort)
	p := start(t, "etcd", nil, path, "--data-dir", dir, "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer)
	p.foreign = true
	p.eventually("etcd is healthy", func() error { return statusOK(client + "/health") })
	return p
}

func dial(port int) func() error {
	return func() error {
		c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	}
}

// run executes a command to its end and returns its output.
func run(t *testing.T, env []string, program string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// exitCode is the code that a command ended with.
func exitCode(err error) int {
	if e := (*exec.ExitError)(nil); errors.As(err, &e) {
		return e.ExitCode()
	}
	if err != nil {
		return -1
	}
	return 0
}

// writeFile makes a file in a fresh folder.
func writeFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
