package zmtp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strings"
)

// splitEndpoint turns tcp://host:port or ipc://path into the arguments of
// net.Dial and net.Listen.
func splitEndpoint(endpoint string) (network, address string, err error) {
	scheme, rest, ok := strings.Cut(endpoint, "://")
	switch {
	case ok && scheme == "tcp" && rest != "":
		return "tcp", rest, nil
	case ok && scheme == "ipc" && rest != "":
		return "unix", rest, nil
	}
	return "", "", fmt.Errorf("zmtp: endpoint %q: want tcp://host:port or ipc://path", endpoint)
}

// Wildcard reports whether an endpoint names every interface, so that it can be
// listened on but must be given a host before it is dialled.
func Wildcard(endpoint string) bool {
	_, address, err := splitEndpoint(endpoint)
	if err != nil {
		return false
	}
	host, _, err := net.SplitHostPort(address)
	return err == nil && (host == "*" || host == "" || host == "0.0.0.0" || host == "::")
}

// WithHost is the endpoint with its host replaced; of an ipc endpoint it is the
// endpoint itself.
func WithHost(endpoint, host string) string {
	network, address, err := splitEndpoint(endpoint)
	if err != nil || network != "tcp" {
		return endpoint
	}
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		return endpoint
	}
	return "tcp://" + net.JoinHostPort(host, port)
}

// Dial connects and shakes hands as typ.
func Dial(ctx context.Context, endpoint string, typ Type) (*Conn, error) {
	network, address, err := splitEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{Timeout: handshakeTimeout}
	raw, err := d.DialContext(ctx, network, address)
	if err != nil {
		return nil, fmt.Errorf("zmtp: %w", err)
	}
	c := NewConn(raw, typ)
	stop := context.AfterFunc(ctx, func() { c.Close() })
	err = c.Handshake()
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}

// Listener accepts connections as one socket type.
type Listener struct {
	l        net.Listener
	typ      Type
	endpoint string
}

// Listen binds an endpoint. The host * means every interface, the port 0 or *
// one that the system picks: Endpoint tells which.
func Listen(endpoint string, typ Type) (*Listener, error) {
	network, address, err := splitEndpoint(endpoint)
	if err != nil {
		return nil, err
	}
	host := ""
	if network == "tcp" {
		var port string
		if host, port, err = net.SplitHostPort(address); err != nil {
			return nil, fmt.Errorf("zmtp: endpoint %q: %w", endpoint, err)
		}
		address = net.JoinHostPort(strings.TrimPrefix(host, "*"), strings.TrimPrefix(port, "*"))
	} else if err := removeStaleSocket(address); err != nil {
		return nil, err
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return nil, fmt.Errorf("zmtp: %w", err)
	}
	if network == "tcp" {
		endpoint = fmt.Sprintf("tcp://%s", l.Addr())
		if host == "*" || host == "" {
			endpoint = WithHost(endpoint, "*")
		}
	}
	return &Listener{l: l, typ: typ, endpoint: endpoint}, nil
}

// removeStaleSocket makes way for a new Unix socket when nobody listens on the
// file that an earlier process left behind.
func removeStaleSocket(path string) error {
	fi, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("zmtp: %w", err)
	}
	if fi.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("zmtp: %s exists and is not a socket", path)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("zmtp: another process listens on %s", path)
	}
	return os.Remove(path)
}

// Endpoint is where peers dial, with the port that the system picked.
func (l *Listener) Endpoint() string { return l.endpoint }

// Accept waits for the next peer. The caller runs Handshake, in a goroutine of
// its own, so that a peer that says nothing keeps nobody else out.
func (l *Listener) Accept() (*Conn, error) {
	raw, err := l.l.Accept()
	if err != nil {
		return nil, err
	}
	return NewConn(raw, l.typ), nil
}

// Close stops listening; accepted connections live on.
func (l *Listener) Close() error { return l.l.Close() }
