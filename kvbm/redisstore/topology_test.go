package redisstore

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	crand "crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/kvasir-ai/kvasir/internal/kv"
	"github.com/kvasir-ai/kvasir/internal/trial"
	"github.com/kvasir-ai/kvasir/kvbm/redisstore/redistest"
)

// onTCP runs a redis-server on a free port of this machine.
func onTCP(t *testing.T, args ...string) (port int, kill func()) {
	t.Helper()
	redistest.Need(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port = l.Addr().(*net.TCPAddr).Port
	l.Close()
	return port, onPort(t, port, append([]string{"--port", fmt.Sprint(port), "--bind", "127.0.0.1", "--save", "", "--dir", t.TempDir()}, args...)...)
}

func onPort(t *testing.T, port int, args ...string) (kill func()) {
	t.Helper()
	cmd := exec.Command("redis-server", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }
	t.Cleanup(kill)
	trial.Await(t, "redis-server listens", func() bool {
		c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	return kill
}

// roundTrip puts blocks, gets them back, and finds them all.
func roundTrip(t *testing.T, s *Store, size int) {
	t.Helper()
	want := map[kv.Block]bool{}
	for i := range byte(20) {
		b := kv.Block{Hash: kv.Hash{50, i}, Parent: kv.Hash{50, i - 1}}
		src, dst := random(size, uint64(i)), make([]byte, size)
		trial.Await(t, "the block is taken", func() bool { _, err := s.Put(t.Context(), b, src); return err == nil })
		if there, err := s.Put(t.Context(), b, src); !there || err != nil {
			t.Fatalf("put again: %v %v", there, err)
		}
		if got, err := s.Get(t.Context(), b.Hash, dst); err != nil || got != b || !bytes.Equal(dst, src) {
			t.Fatalf("get: %v %v", got, err)
		}
		want[b] = true
	}
	if err := s.Discover(t.Context(), func(bs []kv.Block) bool {
		for _, b := range bs {
			delete(want, b)
		}
		return true
	}); err != nil || len(want) != 0 {
		t.Fatalf("discover: %v; %d blocks were not found", err, len(want))
	}
	lives, err := s.Lives(t.Context(), []kv.Hash{{50, 3}, {99}})
	if err != nil || lives[0] <= 0 || lives[0] > time.Hour || lives[1] != 0 {
		t.Fatalf("lives: %v %v", lives, err)
	}
}

// A real cluster of two masters: each block's keys are on one of them.
func TestACluster(t *testing.T) {
	var ports [2]int
	for i := range ports {
		ports[i], _ = onTCP(t, "--cluster-enabled", "yes")
	}
	var cs [2]*redis.Client
	for i, ranges := range [][2]int{{0, 8191}, {8192, 16383}} {
		cs[i] = redis.NewClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", ports[i])})
		defer cs[i].Close()
		if err := cs[i].ClusterAddSlotsRange(t.Context(), ranges[0], ranges[1]).Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := cs[0].ClusterMeet(t.Context(), "127.0.0.1", fmt.Sprint(ports[1])).Err(); err != nil {
		t.Fatal(err)
	}
	trial.Await(t, "the cluster is whole", func() bool {
		for _, c := range cs {
			if info := c.ClusterInfo(t.Context()).Val(); !strings.Contains(info, "cluster_state:ok") || !strings.Contains(info, "cluster_known_nodes:2") {
				return false
			}
		}
		return true
	})
	const size = chunkBytes + 10
	roundTrip(t, open(t, fmt.Sprintf("redis://127.0.0.1:%d?cluster=true", ports[0]), size), size)
	for i, c := range cs {
		if n := c.DBSize(t.Context()).Val(); n == 0 || n%3 != 0 {
			t.Errorf("master %d has %d keys, want whole blocks of 3", i, n)
		}
	}
}

// A real sentinel: when the master dies, the replica takes over.
func TestBehindASentinel(t *testing.T) {
	master, kill := onTCP(t)
	replica, _ := onTCP(t, "--replicaof", "127.0.0.1", fmt.Sprint(master), "--repl-diskless-sync-delay", "0")
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	conf := filepath.Join(dir, "sentinel.conf")
	if err := os.WriteFile(conf, fmt.Appendf(nil, "port %d\ndir %s\nsentinel monitor kv 127.0.0.1 %d 1\nsentinel down-after-milliseconds kv 500\nsentinel failover-timeout kv 2000\n", port, dir, master), 0o600); err != nil {
		t.Fatal(err)
	}
	onPort(t, port, conf, "--sentinel")
	s := open(t, fmt.Sprintf("redis://127.0.0.1:%d?master_name=kv", port), 5000)
	roundTrip(t, s, 5000)
	at := redis.NewSentinelClient(&redis.Options{Addr: fmt.Sprintf("127.0.0.1:%d", port)})
	defer at.Close()
	trial.Await(t, "the sentinel knows the replica", func() bool {
		rs, err := at.Replicas(t.Context(), "kv").Result()
		return err == nil && len(rs) == 1 && strings.Contains(rs[0]["flags"], "slave") && rs[0]["master-link-status"] == "ok"
	})
	kill()
	trial.Await(t, "the replica took over", func() bool {
		_, err := s.Put(t.Context(), kv.Block{Hash: kv.Hash{70}}, random(5000, 1))
		return err == nil
	})
	if addr, err := at.GetMasterAddrByName(t.Context(), "kv").Result(); err != nil || addr[1] != fmt.Sprint(replica) {
		t.Fatalf("the master is %v %v, want port %d", addr, err, replica)
	}
	if _, err := s.Get(t.Context(), kv.Hash{50, 3}, make([]byte, 5000)); err != nil {
		t.Fatalf("what was replicated: %v", err)
	}
}

// A real server that speaks TLS and wants a password.
func TestOverTLS(t *testing.T) {
	dir := t.TempDir()
	ca := certificate(t, dir)
	redistest.Need(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	l.Close()
	onPort(t, port, "--port", "0", "--tls-port", fmt.Sprint(port), "--tls-cert-file", ca, "--tls-key-file", filepath.Join(dir, "key.pem"),
		"--tls-ca-cert-file", ca, "--tls-auth-clients", "no", "--requirepass", "s3cret", "--save", "", "--dir", dir)
	url := fmt.Sprintf("rediss://:s3cret@127.0.0.1:%d/0", port)
	s, err := Open(t.Context(), Options{URL: url, CA: ca, TTL: time.Hour, BlockBytes: 5000, Fingerprint: layout, Connections: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	roundTrip(t, s, 5000)
	unknown := open(t, url, 5000)
	trial.Await(t, "the system's authorities do not know it", func() bool {
		_, err := unknown.Get(t.Context(), blk.Hash, make([]byte, 5000))
		if err == nil || errors.Is(err, ErrMiss) {
			t.Fatalf("with the system's authorities: %v", err)
		}
		return strings.Contains(err.Error(), "certificate") // or it took too long
	})
	if _, err := Open(t.Context(), Options{URL: url, CA: filepath.Join(dir, "key.pem"), BlockBytes: 10}); err == nil {
		t.Fatal("a key was taken for certificates")
	}
}

// certificate makes one for this machine, signed by itself; its key is beside it.
func certificate(t *testing.T, dir string) (file string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), crand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "redis"}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(crand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	file = filepath.Join(dir, "cert.pem")
	for name, b := range map[string]*pem.Block{file: {Type: "CERTIFICATE", Bytes: der}, filepath.Join(dir, "key.pem"): {Type: "PRIVATE KEY", Bytes: keyDER}} {
		if err := os.WriteFile(name, pem.EncodeToMemory(b), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return file
}

func TestDiscoverLeavesOutWhatIsNoBlock(t *testing.T) {
	srv := redistest.Start(t)
	s := open(t, srv.URL(), 10)
	roundTrip(t, s, 10)
	ctx := context.Background()
	s.client.Set(ctx, s.key(kv.Hash{1}), "rubbish", 0)
	s.client.Set(ctx, s.key(kv.Hash{2}), header{kv.Block{Hash: kv.Hash{3}}, 10, 0}.encode(), 0)
	s.client.Set(ctx, s.key(kv.Hash{4}), header{kv.Block{Hash: kv.Hash{4}}, 11, 0}.encode(), 0)
	s.client.LPush(ctx, s.key(kv.Hash{5}), "list")
	n := 0
	if err := s.Discover(ctx, func(bs []kv.Block) bool { n += len(bs); return true }); err != nil || n != 20 {
		t.Fatalf("%d blocks were found, want 20; %v", n, err)
	}
	if _, err := s.Get(ctx, kv.Hash{5}, make([]byte, 10)); !errors.Is(err, ErrCorrupt) {
		t.Fatalf("a list in place of a header: %v", err)
	}
}
