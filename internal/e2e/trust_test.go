package e2e

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/kvasir-ai/kvasir/workers/agent/agentpb"
)

// A fleet over TCP with certificates and a secret: it serves over HTTPS and
// HTTP/2 and onboards, while no stranger can call an agent or register a worker.
func TestStrangersCannotJoinTheFleet(t *testing.T) {
	dir, ca, pool := authority(t)
	etcdPort := freePort(t)
	etcdServer(t, etcdPort, freePort(t), t.TempDir())
	agentAddr, admin := fmt.Sprintf("127.0.0.1:%d", freePort(t)), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	config := writeFile(t, "fleet.yaml", fmt.Sprintf(`
listen: 127.0.0.1:0
admin: %q
models: [{name: tiny}]
discovery: {etcd: {endpoints: ["127.0.0.1:%d"], ttl: 3s}}
agent: {model: tiny, engine: embedded, listen: %q}
tiers: {cpu: 16MiB}
tls: {cert: %[4]s/own.crt, key: %[4]s/own.key}
fleet: {secret: "a long and random one", ca: %[4]s/ca.crt, cert: %[4]s/own.crt, key: %[4]s/own.key}
`, admin, etcdPort, agentAddr, dir))
	start(t, "worker", []string{"TMPDIR=" + t.TempDir()}, binary, "worker", "--config", config, "--id", "w0").waitLine("worker is up")
	p := start(t, "gateway", nil, binary, "serve", "--config", config)
	_, url, _ := strings.Cut(p.waitLine("gateway is up"), "url=")
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	p.eventually("the gateway is ready over HTTPS", func() error {
		r, err := client.Get(url + "/ready")
		if err != nil {
			return err
		}
		defer r.Body.Close()
		if r.StatusCode != 200 || r.ProtoMajor != 2 {
			return fmt.Errorf("%s over %s", r.Status, r.Proto)
		}
		return nil
	})

	if err := describe(t, agentAddr, credentials.NewTLS(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{ca.issue(t)}})); err != nil {
		t.Errorf("one of the fleet cannot call the agent: %v", err)
	}
	_, other, _ := authority(t)
	for name, trust := range map[string]credentials.TransportCredentials{
		"in plain text":                    insecure.NewCredentials(),
		"without a certificate":            credentials.NewTLS(&tls.Config{RootCAs: pool}),
		"with another authority's":         credentials.NewTLS(&tls.Config{RootCAs: pool, Certificates: []tls.Certificate{other.issue(t)}}),
		"who does not look at the agent's": credentials.NewTLS(&tls.Config{InsecureSkipVerify: true}),
	} {
		if err := describe(t, agentAddr, trust); err == nil {
			t.Errorf("a stranger %s called the agent", name)
		}
	}

	etcd, err := clientv3.New(clientv3.Config{Endpoints: []string{fmt.Sprintf("127.0.0.1:%d", etcdPort)}, DialTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer etcd.Close()
	own, err := etcd.Get(t.Context(), "/kvasir/workers/w0")
	if err != nil || len(own.Kvs) != 1 {
		t.Fatalf("%+v %v", own, err)
	}
	forgeries := []string{
		`{"id":"evil","model":"tiny","url":"http://127.0.0.1:1"}`,
		`{"worker":{"id":"evil","model":"tiny","url":"http://127.0.0.1:1"},"seal":"AAAA"}`,
		string(own.Kvs[0].Value), // another's own seal
	}
	for _, forged := range forgeries {
		if _, err := etcd.Put(t.Context(), "/kvasir/workers/evil", forged); err != nil {
			t.Fatal(err)
		}
	}
	p.eventually("every forgery is refused", func() error {
		if n := strings.Count(p.output(), "a registration in etcd is unusable"); n < len(forgeries) {
			return fmt.Errorf("%d of %d", n, len(forgeries))
		}
		return nil
	})
	gateway{p, "http://" + admin}.awaitWorkers(1)
}

// describe calls an agent as a gateway does.
func describe(t *testing.T, addr string, trust credentials.TransportCredentials) error {
	t.Helper()
	conn, err := grpc.NewClient(addr, grpc.WithTransportCredentials(trust))
	if err != nil {
		return err
	}
	defer conn.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = agentpb.NewAgentClient(conn).Describe(ctx, &agentpb.DescribeRequest{})
	return err
}

// issuer signs certificates for 127.0.0.1.
type issuer struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// authority is a new authority, with a folder of its certificate and of one that
// it has signed.
func authority(t *testing.T) (dir string, ca issuer, pool *x509.CertPool) {
	t.Helper()
	ca.key = newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "a fleet"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &ca.key.PublicKey, ca.key)
	if err != nil {
		t.Fatal(err)
	}
	if ca.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	pool.AddCert(ca.cert)
	dir = t.TempDir()
	own := ca.issue(t)
	key, err := x509.MarshalECPrivateKey(own.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	for name, block := range map[string]*pem.Block{
		"ca.crt": {Type: "CERTIFICATE", Bytes: der}, "own.crt": {Type: "CERTIFICATE", Bytes: own.Certificate[0]}, "own.key": {Type: "EC PRIVATE KEY", Bytes: key},
	} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir, ca, pool
}

func (i issuer) issue(t *testing.T) tls.Certificate {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "one of a fleet"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, i.cert, &key.PublicKey, i.key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}
