package peer

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"time"
)

var errSecret = errors.New("the peer has another secret")

// greet is the server's side of the handshake.
func (s *Server) greet(c net.Conn, room bool) error {
	if err := c.SetDeadline(time.Now().Add(s.o.Stall)); err != nil {
		return err
	}
	b := make([]byte, helloBytes)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	h, err := parseHello(b)
	if err != nil {
		return err
	}
	a := answer{version: version, verdict: granted}
	switch {
	case !room:
		a.verdict = busy
	case h.version != version || h.fingerprint != s.o.Fingerprint || int(h.blockBytes) != s.o.BlockBytes:
		a.verdict = otherLayout
	}
	if _, err := rand.Read(a.nonce[:]); err != nil {
		return err
	}
	a.proof = prove(s.o.Secret, "server", h, a)
	if _, err := c.Write(a.encode()); err != nil {
		return err
	}
	if a.verdict != granted {
		return a.verdict.refusal()
	}
	var proof [proofBytes]byte
	if _, err := io.ReadFull(c, proof[:]); err != nil {
		return err
	}
	if want := prove(s.o.Secret, "client", h, a); !hmac.Equal(proof[:], want[:]) {
		return errSecret
	}
	return c.SetDeadline(time.Time{})
}

// dial opens a connection and shakes hands.
func dial(ctx context.Context, address string, o Options) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, o.Stall)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if o.wrap != nil {
		c = o.wrap(c)
	}
	if o.TLS != nil {
		t := tls.Client(c, forHost(o.TLS, address))
		if err := t.HandshakeContext(ctx); err != nil {
			c.Close()
			return nil, err
		}
		c = t
	}
	stop := context.AfterFunc(ctx, func() { _ = c.SetDeadline(time.Unix(1, 0)) })
	err = introduce(c, o)
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// forHost is the configuration for a certificate of the host that is dialled.
func forHost(c *tls.Config, address string) *tls.Config {
	host, _, err := net.SplitHostPort(address)
	if c.ServerName != "" || err != nil {
		return c
	}
	c = c.Clone()
	c.ServerName = host
	return c
}

// introduce is the client's side of the handshake.
func introduce(c net.Conn, o Options) error {
	h := hello{version: version, blockBytes: uint32(o.BlockBytes), fingerprint: o.Fingerprint}
	if _, err := rand.Read(h.nonce[:]); err != nil {
		return err
	}
	if _, err := c.Write(h.encode()); err != nil {
		return err
	}
	b := make([]byte, answerBytes)
	if _, err := io.ReadFull(c, b); err != nil {
		return err
	}
	a, err := parseAnswer(b)
	if err != nil {
		return err
	}
	if want := prove(o.Secret, "server", h, a); !hmac.Equal(a.proof[:], want[:]) {
		return errSecret
	}
	if err := a.verdict.refusal(); err != nil {
		return err
	}
	proof := prove(o.Secret, "client", h, a)
	_, err = c.Write(proof[:])
	return err
}
