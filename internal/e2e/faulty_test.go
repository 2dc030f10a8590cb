package e2e

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/kvasir-ai/kvasir/internal/trial"
)

// faulty is a TCP proxy in front of a real service. While it is parted nothing
// passes either way, and nobody is told; and it may spoil connections.
type faulty struct {
	target   string
	listener net.Listener
	// spoil decides what becomes of a connection after a request that begins with
	// these bytes; nil: nothing does.
	spoil func(sent []byte) fault

	mu     sync.Mutex
	conns  map[net.Conn]bool
	passes chan struct{} // closed while bytes may pass
}

// fault is what happens to a connection after so many more bytes from the service.
type fault struct {
	after int
	how   string // "": nothing
}

// ruin is the fault that a connection is in for.
type ruin struct {
	mu sync.Mutex
	fault
}

func newFaulty(t *testing.T, target string, spoil func(sent []byte) fault) *faulty {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &faulty{target: target, listener: l, spoil: spoil, conns: map[net.Conn]bool{}, passes: make(chan struct{})}
	close(f.passes)
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		f.heal()
		f.closeAll()
		all.Wait()
	})
	return f
}

func (f *faulty) addr() string { return f.listener.Addr().String() }

// part lets nothing pass from here on.
func (f *faulty) part() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.passes = make(chan struct{})
}

// heal lets pass again what was held up.
func (f *faulty) heal() {
	f.mu.Lock()
	defer f.mu.Unlock()
	select {
	case <-f.passes:
	default:
		close(f.passes)
	}
}

func (f *faulty) closeAll() {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Close()
	}
}

func (f *faulty) await() {
	f.mu.Lock()
	passes := f.passes
	f.mu.Unlock()
	<-passes
}

func (f *faulty) hold(c net.Conn) (letGo func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.conns[c] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.conns, c)
		c.Close()
	}
}

func (f *faulty) serve(client net.Conn) {
	defer f.hold(client)()
	f.await()
	service, err := net.Dial("tcp", f.target)
	if err != nil {
		return
	}
	defer f.hold(service)()
	var bad ruin
	done := make(chan struct{})
	go func() {
		defer close(done)
		f.requests(service, client, &bad)
		service.(*net.TCPConn).CloseWrite()
	}()
	f.answers(client, service, &bad)
	client.Close()
	service.Close()
	<-done
}

func (f *faulty) requests(service, client net.Conn, bad *ruin) {
	buf := make([]byte, 64<<10)
	for {
		n, err := client.Read(buf)
		f.await()
		if f.spoil != nil && n > 0 {
			bad.mu.Lock()
			bad.fault = f.spoil(buf[:n])
			bad.mu.Unlock()
		}
		if _, wrong := service.Write(buf[:n]); wrong != nil || err != nil {
			return
		}
	}
}

// answers passes bytes on until either side ends or the fault has come.
func (f *faulty) answers(client, service net.Conn, bad *ruin) {
	buf := make([]byte, 4<<10)
	for {
		n, err := service.Read(buf)
		f.await()
		out := buf[:n]
		bad.mu.Lock()
		how, comes := bad.how, bad.how != "" && bad.how != "slows" && n >= bad.after
		if comes {
			out = out[:bad.after]
		}
		bad.after -= n
		bad.mu.Unlock()
		for ; how == "slows" && len(out) > 64; out = out[64:] {
			if _, err := client.Write(out[:64]); err != nil {
				return
			}
			time.Sleep(time.Millisecond)
		}
		if _, err := client.Write(out); err != nil {
			return
		}
		if comes {
			f.end(client, service, how)
			return
		}
		if err != nil {
			return
		}
	}
}

func (f *faulty) end(to, from net.Conn, how string) {
	switch how {
	case "hangs":
		_, _ = io.Copy(io.Discard, from) // and says no more
	case "resets":
		_ = to.(*net.TCPConn).SetLinger(0)
	case "returns garbage":
		_, _ = to.Write(bytes.Repeat([]byte("\xff\xfe}\r\n\r\n<html>\x00"), 20))
	}
}

// Streams from real engines behind connections that hang, reset, end in the middle
// of anything, turn into garbage or are slow: none fails, and each has the text of
// an unbroken greedy run.
func TestStreamsSurviveFaultyConnections(t *testing.T) {
	rng := trial.Rand(t)
	var mu sync.Mutex
	spoiled := map[string]int{}
	hows := []string{"hangs", "resets", "truncates", "returns garbage", "slows"}
	spoil := func(sent []byte) fault {
		mu.Lock()
		defer mu.Unlock()
		if !bytes.HasPrefix(sent, []byte("POST")) || rng.IntN(3) > 0 {
			return fault{}
		}
		b := fault{after: 2000 + rng.IntN(60_000), how: hows[rng.IntN(len(hows))]}
		spoiled[b.how]++
		return b
	}
	fleet := "listen: 127.0.0.1:0\nmodels: [{name: tiny}]\nlimits: {idle: 1s}\nworkers:\n"
	for i := range 3 {
		engine := startEngine(t, fmt.Sprint("w", i))
		fleet += fmt.Sprintf("  - {id: w%d, model: tiny, engine: embedded, url: \"http://%s\"}\n", i, newFaulty(t, engine, spoil).addr())
	}
	g := ready(t, start(t, "gateway", nil, binary, "serve", "--config", writeFile(t, "fleet.yaml", fleet)))
	g.awaitWorkers(3)
	direct := gateway{g.process, "http://" + startEngine(t, "alone")}
	whole := direct.unbroken(t)

	streams := trial.Size(t, "KVASIR_STREAMS", 64)
	var all sync.WaitGroup
	for i := range streams {
		all.Go(func() { g.sameAs(t, i, whole) })
	}
	all.Wait()
	t.Logf("%d streams, connections spoiled: %v", streams, spoiled)
	if len(spoiled) < len(hows) {
		t.Errorf("only %v happened", spoiled)
	}
}

// startEngine starts a worker with the tiny model and returns its engine's address.
func startEngine(t *testing.T, id string) string {
	t.Helper()
	config := writeFile(t, "worker.yaml", "agent: {model: tiny, engine: embedded, embedded: {gpu_blocks: 4096}}\ntiers: {cpu: 16MiB}\n")
	p := start(t, "worker "+id, []string{"TMPDIR=" + t.TempDir()}, binary, "worker", "--config", config, "--id", id)
	line := p.waitLine("worker is up")
	var addr string
	if _, err := fmt.Sscanf(line[strings.Index(line, "engine=http"):], "engine=http://%s", &addr); err != nil {
		t.Fatalf("%s: %v", line, err)
	}
	return addr
}
