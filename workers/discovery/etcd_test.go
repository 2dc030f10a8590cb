package discovery

import (
	"context"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/kvasir-ai/kvasir/workers"
)

// etcd is a real server that can be stopped and started again.
type etcd struct {
	t        *testing.T
	dir      string
	endpoint string
	peer     string
	cmd      *exec.Cmd
}

func startEtcd(t *testing.T) *etcd {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		if os.Getenv("KVASIR_REQUIRE_ALL") == "1" {
			t.Fatal("etcd is not installed, and KVASIR_REQUIRE_ALL=1")
		}
		t.Skip("etcd is not installed: discovery by etcd is untested (apt-get install etcd-server)")
	}
	t.Parallel() // most of the time is spent waiting for leases
	e := &etcd{t: t, dir: t.TempDir(), endpoint: freeURL(t), peer: freeURL(t)}
	e.start()
	t.Cleanup(e.kill)
	return e
}

func freeURL(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func (e *etcd) start() {
	e.t.Helper()
	e.cmd = exec.Command("etcd", "--name", "e", "--data-dir", e.dir, "--logger", "zap", "--log-level", "error",
		"--listen-client-urls", e.endpoint, "--advertise-client-urls", e.endpoint,
		"--listen-peer-urls", e.peer, "--initial-advertise-peer-urls", e.peer, "--initial-cluster", "e="+e.peer,
		"--heartbeat-interval", "20", "--election-timeout", "200", "--unsafe-no-fsync")
	if out, err := exec.Command("etcd", "--help").CombinedOutput(); err != nil || !strings.Contains(string(out), "unsafe-no-fsync") {
		e.cmd.Args = e.cmd.Args[:len(e.cmd.Args)-1]
	}
	if err := e.cmd.Start(); err != nil {
		e.t.Fatal(err)
	}
}

func (e *etcd) kill() {
	if e.cmd.Process != nil {
		e.cmd.Process.Kill()
		e.cmd.Wait()
	}
}

func (e *etcd) config() EtcdConfig {
	return EtcdConfig{Endpoints: []string{e.endpoint}, TTL: 2 * time.Second, Timeout: time.Second, Relist: time.Second, Retry: 20 * time.Millisecond}
}

func (e *etcd) client() *clientv3.Client {
	c := mustConfig(e.t, e.config())
	cli, err := c.dial(context.Background())
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(func() { cli.Close() })
	return cli
}

func (e *etcd) register(id string) *Registration {
	e.t.Helper()
	r, err := Register(e.t.Context(), e.config(), worker(id))
	if err != nil {
		e.t.Fatal(err)
	}
	e.t.Cleanup(r.Close)
	return r
}

func (e *etcd) watch() *fleet {
	e.t.Helper()
	s, err := Etcd(e.config())
	if err != nil {
		e.t.Fatal(err)
	}
	f := newFleet(e.t)
	f.run(s)
	return f
}

func TestEtcdFleetComesAndGoes(t *testing.T) {
	e := startEtcd(t)
	f := e.watch()
	f.is()
	w0 := e.register("w0")
	f.is("w0")
	e.register("w1")
	f.is("w0", "w1")
	w0.Close() // gives its lease back: others know at once
	f.is("w1")

	// Nonsense in etcd is not a worker.
	cli := e.client()
	for key, value := range map[string]string{"a": "{", "b": `{"id":"c","url":"http://h:1"}`, "d": `{"id":"d"}`} {
		if _, err := cli.Put(t.Context(), "/kvasir/workers/"+key, value); err != nil {
			t.Fatal(err)
		}
	}
	e.register("w2")
	f.is("w1", "w2")
}

func TestEtcdMayGoAway(t *testing.T) {
	e := startEtcd(t)
	f := e.watch()
	e.register("w0")
	f.is("w0")
	for len(f.updates) > 0 {
		<-f.updates
	}
	e.kill()
	// Longer than the lease: the registration counts as lost on both sides.
	time.Sleep(3 * time.Second)
	for len(f.updates) > 0 {
		if ids := <-f.updates; len(ids) != 1 {
			t.Errorf("while etcd was away the fleet became %v", ids)
		}
	}
	w1 := e.register("w1") // etcd need not be up
	e.start()
	f.is("w0", "w1")
	w1.Close()
	f.is("w0")
}

func TestEtcdMayLoseItsData(t *testing.T) {
	e := startEtcd(t)
	f := e.watch()
	e.register("w0")
	f.is("w0")
	e.kill()
	e.dir = t.TempDir()
	e.start()
	e.register("w1")
	f.is("w0", "w1")
}

// A stopped process keeps its connections open.
func TestEtcdMayHang(t *testing.T) {
	e := startEtcd(t)
	f := e.watch()
	e.register("w0")
	f.is("w0")
	if err := e.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	time.Sleep(3 * time.Second)
	if err := e.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	e.register("w1")
	f.is("w0", "w1")
}

func TestALeaseThatIsTakenAwayIsRenewed(t *testing.T) {
	e := startEtcd(t)
	f := e.watch()
	e.register("w0")
	f.is("w0")
	cli := e.client()
	got, err := cli.Get(t.Context(), "/kvasir/workers/w0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cli.Revoke(t.Context(), clientv3.LeaseID(got.Kvs[0].Lease)); err != nil {
		t.Fatal(err)
	}
	f.is()
	f.is("w0")
}

func TestEtcdWithPassword(t *testing.T) {
	e := startEtcd(t)
	cli := e.client()
	for _, err := range []error{
		func() error { _, err := cli.RoleAdd(t.Context(), "root"); return err }(),
		func() error { _, err := cli.UserAdd(t.Context(), "root", "secret"); return err }(),
		func() error { _, err := cli.UserGrantRole(t.Context(), "root", "root"); return err }(),
		func() error { _, err := cli.AuthEnable(t.Context()); return err }(),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	c := e.config()
	c.Username, c.Password = "root", "secret"
	c.Timeout = 10 * time.Second // a password's check is slow on purpose
	r, err := Register(t.Context(), c, worker("w0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	s, err := Etcd(c)
	if err != nil {
		t.Fatal(err)
	}
	f := newFleet(t)
	f.run(s)
	f.is("w0")
	if err := (&etcdSource{c: mustConfig(t, e.config())}).connect(t.Context(), func([]workers.Info) {
		t.Error("a stranger saw the fleet")
	}); err == nil {
		t.Error("etcd let a stranger in")
	}
}

func mustConfig(t *testing.T, c EtcdConfig) EtcdConfig {
	t.Helper()
	if err := c.setDefaults(); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestBadRegistrations(t *testing.T) {
	good := EtcdConfig{Endpoints: []string{"http://127.0.0.1:1"}}
	for i, f := range []func() error{
		func() error { _, err := Register(t.Context(), EtcdConfig{}, worker("w0")); return err },
		func() error { _, err := Register(t.Context(), good, worker("")); return err },
		func() error { _, err := Register(t.Context(), good, worker("a/b")); return err },
		func() error { _, err := Etcd(EtcdConfig{}); return err },
	} {
		if err := f(); err == nil {
			t.Errorf("case %d was accepted", i)
		}
	}
}
