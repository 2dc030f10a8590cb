package gateway

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
)

// pipes is a network within the process. In a synctest bubble real sockets would
// keep time from passing; these let a whole gateway run in virtual time.
type pipes struct {
	mu        sync.Mutex
	listeners map[string]*pipeListener
}

type pipeListener struct {
	addr   string
	dialed chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func newPipes() *pipes { return &pipes{listeners: map[string]*pipeListener{}} }

func (p *pipes) listen() net.Listener {
	p.mu.Lock()
	defer p.mu.Unlock()
	l := &pipeListener{addr: fmt.Sprintf("host%d:80", len(p.listeners)), dialed: make(chan net.Conn), closed: make(chan struct{})}
	p.listeners[l.addr] = l
	return l
}

func (p *pipes) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	p.mu.Lock()
	l := p.listeners[addr]
	p.mu.Unlock()
	if l == nil {
		return nil, errors.New("nobody listens at " + addr)
	}
	here, there := net.Pipe()
	select {
	case l.dialed <- there:
		return here, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (l *pipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.dialed:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

func (l *pipeListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *pipeListener) Addr() net.Addr  { return l }
func (l *pipeListener) Network() string { return "pipe" }
func (l *pipeListener) String() string  { return l.addr }

// serve starts a server, on the loopback if there is no other network.
func (p *pipes) serve(h http.Handler) *httptest.Server {
	if p == nil {
		return httptest.NewServer(h)
	}
	s := &httptest.Server{Listener: p.listen(), Config: &http.Server{Handler: h}}
	s.Start()
	return s
}

// over makes a transport dial within the network, if there is one.
func (p *pipes) over(t *http.Transport) *http.Transport {
	if p != nil {
		t.DialContext = p.dial
	}
	return t
}

// newBubble is newSetting on a network of its own.
func newBubble(t testing.TB, n int, change func(*Config)) *setting {
	return newSettingOn(newPipes(), t, n, change)
}
