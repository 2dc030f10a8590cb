package main

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/kvasir-ai/kvasir/internal/config"
)

// certificate is a key pair in files, read again when they change.
type certificate struct {
	certFile, keyFile string

	mu        sync.Mutex
	looked    time.Time
	cert, key []byte // what pair was made from
	pair      *tls.Certificate
}

// lookAtCertificate is how long a pair is used unseen.
const lookAtCertificate = time.Second

func newCertificate(certFile, keyFile string) (*certificate, error) {
	c := &certificate{certFile: certFile, keyFile: keyFile}
	_, err := c.get()
	return c, err
}

// get is the pair as the files have it now; while they are being replaced and
// do not fit each other, as they had it before.
func (c *certificate) get() (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	if c.pair != nil && now.Sub(c.looked) < lookAtCertificate {
		return c.pair, nil
	}
	c.looked = now
	err := c.readLocked()
	if c.pair != nil {
		return c.pair, nil
	}
	return nil, err
}

func (c *certificate) readLocked() error {
	cert, err := os.ReadFile(c.certFile)
	if err != nil {
		return err
	}
	key, err := os.ReadFile(c.keyFile)
	if err != nil {
		return err
	}
	if c.pair != nil && bytes.Equal(cert, c.cert) && bytes.Equal(key, c.key) {
		return nil
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return fmt.Errorf("%s and %s: %w", c.certFile, c.keyFile, err)
	}
	c.cert, c.key, c.pair = cert, key, &pair
	return nil
}

func (c *certificate) server(*tls.ClientHelloInfo) (*tls.Certificate, error) { return c.get() }

func (c *certificate) client(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.get() }

// clientsTLS is how clients reach the gateway; nil: in plain text.
func clientsTLS(t *config.TLS) (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	c, err := newCertificate(t.Cert, t.Key)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	return &tls.Config{GetCertificate: c.server, MinVersion: tls.VersionTLS12}, nil
}

// fleetTLS is how gateways and agents speak with each other over TCP: each shows
// a certificate of the fleet's authority, and takes no other. nil: in plain text.
func fleetTLS(f *config.Fleet) (*tls.Config, error) {
	if f == nil || f.CA == "" {
		return nil, nil
	}
	c, err := newCertificate(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("fleet: %w", err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, fmt.Errorf("fleet.ca: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("fleet.ca: %s holds no certificate in PEM form", f.CA)
	}
	return &tls.Config{
		GetCertificate: c.server, GetClientCertificate: c.client, RootCAs: pool, ClientCAs: pool,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	}, nil
}

// fleetSecret seals registrations; nil: they are not sealed.
func fleetSecret(f *config.Fleet) ([]byte, error) {
	if f == nil {
		return nil, nil
	}
	if f.SecretFile == "" {
		return []byte(f.Secret), nil
	}
	b, err := os.ReadFile(f.SecretFile)
	if err != nil {
		return nil, fmt.Errorf("fleet.secret_file: %w", err)
	}
	if b = bytes.TrimSpace(b); len(b) == 0 {
		return nil, errors.New("fleet.secret_file: the file is empty")
	}
	return b, nil
}
