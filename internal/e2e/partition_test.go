package e2e

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// pause stops a process in the middle of whatever it does, until the test goes on
// with it or ends.
func (p *process) pause() (goOn func()) {
	p.t.Helper()
	signal := func(s syscall.Signal) { _ = p.cmd.Process.Signal(s) }
	signal(syscall.SIGSTOP)
	p.t.Cleanup(func() { signal(syscall.SIGCONT) })
	return func() { signal(syscall.SIGCONT) }
}

// etcd and Redis are paused, cut off and started anew, one after the other, while
// streams run: none fails, each has the text of an unbroken run, and everything is
// found again afterwards.
func TestFleetSurvivesPartitions(t *testing.T) {
	const ttl = 2 * time.Second
	redisPort, etcdPort, etcdPeer, etcdDir := freePort(t), freePort(t), freePort(t), t.TempDir()
	redis := redisServer(t, redisPort)
	etcd := etcdServer(t, etcdPort, etcdPeer, etcdDir)
	toRedis := newFaulty(t, fmt.Sprint("127.0.0.1:", redisPort), nil)
	toEtcd := newFaulty(t, fmt.Sprint("127.0.0.1:", etcdPort), nil)
	config := writeFile(t, "fleet.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
models: [{name: tiny}]
discovery: {etcd: {endpoints: [%q], ttl: %s}}
agent: {model: tiny, engine: embedded, embedded: {gpu_blocks: 256}}
tiers: {cpu: 8MiB, redis: {url: "redis://%s/0"}}
`, toEtcd.addr(), ttl, toRedis.addr()))
	for _, id := range []string{"w0", "w1"} {
		start(t, "worker "+id, []string{"TMPDIR=" + t.TempDir()}, binary, "worker", "--config", config, "--id", id)
	}
	g := ready(t, start(t, "gateway", nil, binary, "serve", "--config", config))
	g.awaitWorkers(2)
	whole := g.unbroken(t)

	var load sync.WaitGroup
	var answered, wrong atomic.Int64
	var over atomic.Bool
	t.Cleanup(load.Wait)
	t.Cleanup(func() { over.Store(true) })
	for i := range 3 {
		load.Go(func() {
			for n := i; !over.Load(); n += 3 {
				if !g.sameAs(t, n, whole) {
					wrong.Add(1)
					return
				}
				answered.Add(1)
			}
		})
	}
	// served waits until streams that began in the trouble have ended in it, and
	// leases would have run out.
	served := func(what string) {
		t.Helper()
		began, before := time.Now(), answered.Load()
		g.eventually("streams are served with "+what, func() error {
			if n := answered.Load() - before; wrong.Load() == 0 && (n < 12 || time.Since(began) < 2*ttl) {
				return fmt.Errorf("%d so far", n)
			}
			return nil
		})
		t.Logf("%s: %d streams served", what, answered.Load()-before)
	}
	found := func() {
		t.Helper()
		g.awaitWorkers(2)
		before := g.committed("redis")
		g.eventually("new blocks reach Redis", func() error {
			if _, err := g.stream(t.Context(), tinyRequest(int(time.Now().UnixNano()%1e9))); err != nil {
				return err
			}
			if n := g.committed("redis"); n <= before {
				return fmt.Errorf("%d blocks, as before", n)
			}
			return nil
		})
	}
	for _, trouble := range []struct {
		what string
		make func() (end func())
	}{
		{"etcd paused", etcd.pause},
		{"etcd cut off", func() func() { toEtcd.part(); return toEtcd.heal }},
		{"etcd cut off and its connections reset", func() func() { toEtcd.part(); toEtcd.closeAll(); return toEtcd.heal }},
		{"Redis paused", redis.pause},
		{"Redis cut off", func() func() { toRedis.part(); return toRedis.heal }},
		{"both cut off", func() func() {
			toRedis.part()
			toEtcd.part()
			return func() { toRedis.heal(); toEtcd.heal() }
		}},
		{"both dead", func() func() {
			redis.kill()
			etcd.kill()
			return func() { redisServer(t, redisPort); etcdServer(t, etcdPort, etcdPeer, etcdDir) }
		}},
	} {
		end := trouble.make()
		served(trouble.what)
		end()
		found()
		if wrong.Load() > 0 {
			break
		}
	}
	over.Store(true)
	load.Wait()
	t.Logf("%d streams, %d wrong", answered.Load(), wrong.Load())
}
