package wire

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

// Client sends requests to engines. Make it with NewClient; its methods may be
// called from any goroutine.
type Client struct {
	// Dial opens connections; it may be set before the first request.
	Dial   func(ctx context.Context, network, addr string) (net.Conn, error)
	keep   time.Duration
	secure http.RoundTripper

	mu      sync.Mutex
	engines map[string]*engine // by base URL
	reaper  *time.Timer        // nil: nothing is idle
}

// mostIdle bounds the idle connections to one engine.
const mostIdle = 1024

// engine is one base URL.
type engine struct {
	key    string // in Client.engines
	base   *url.URL
	addr   string  // to dial
	prefix string  // of all paths
	idle   []*conn // the longest idle first; guarded by Client.mu
}

// NewClient keeps idle connections for so long. Requests for https go to secure.
func NewClient(keep time.Duration, secure http.RoundTripper) *Client {
	dialer := &net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}
	return &Client{Dial: dialer.DialContext, keep: keep, secure: secure, engines: map[string]*engine{}}
}

// Post sends body to the path below base and returns once the answer's header
// is there. The answer's body must be closed. Neither header nor body may change
// before that.
func (c *Client) Post(ctx context.Context, base, path string, header http.Header, body []byte) (*http.Response, error) {
	e, err := c.engine(base)
	if err != nil {
		return nil, err
	}
	if e.base.Scheme != "http" {
		return c.post(ctx, e, path, header, body)
	}
	for reuse := true; ; reuse = false {
		cn, err := c.take(ctx, e, reuse)
		if err != nil {
			return nil, err
		}
		resp, err := cn.exchange(ctx, path, header, body)
		if err == nil {
			return resp, nil
		}
		cn.close()
		if !errors.Is(err, errStale) || ctx.Err() != nil {
			return nil, err
		}
		c.drop(e) // the others are no better
	}
}

// post is Post over another transport.
func (c *Client) post(ctx context.Context, e *engine, path string, header http.Header, body []byte) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, strings.TrimSuffix(e.base.String(), "/")+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header = header.Clone()
	// A key without values is not sent, but lets the transport repeat the request
	// over a new connection when a kept-alive one turns out to be closed.
	req.Header["Idempotency-Key"] = nil
	return c.secure.RoundTrip(req)
}

func (c *Client) engine(base string) (*engine, error) {
	c.mu.Lock()
	e := c.engines[base]
	c.mu.Unlock()
	if e != nil {
		return e, nil
	}
	u, err := url.Parse(base)
	if err != nil {
		return nil, err
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, fmt.Errorf("the engine's URL %q is none of http or https", base)
	}
	e = &engine{key: base, base: u, addr: u.Host, prefix: strings.TrimSuffix(u.EscapedPath(), "/")}
	if u.Port() == "" {
		e.addr = net.JoinHostPort(u.Hostname(), "80")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if there := c.engines[base]; there != nil {
		return there, nil
	}
	c.engines[base] = e
	return e, nil
}

// take is the connection that was used last, or, without reuse, a new one.
func (c *Client) take(ctx context.Context, e *engine, reuse bool) (*conn, error) {
	c.mu.Lock()
	if n := len(e.idle); n > 0 && reuse {
		cn := e.idle[n-1]
		e.idle[n-1] = nil
		e.idle = e.idle[:n-1]
		c.mu.Unlock()
		return cn, nil
	}
	c.mu.Unlock()
	nc, err := c.Dial(ctx, "tcp", e.addr)
	if err != nil {
		return nil, err
	}
	return newConn(c, e, nc), nil
}

// put keeps a connection for another request.
func (c *Client) put(cn *conn) {
	cn.since, cn.used = time.Now(), true
	c.mu.Lock()
	if c.engines[cn.e.key] == nil {
		c.engines[cn.e.key] = cn.e // forgotten while this one was busy
	}
	full := len(cn.e.idle) >= mostIdle || c.engines[cn.e.key] != cn.e
	if !full {
		cn.e.idle = append(cn.e.idle, cn)
		if c.reaper == nil {
			c.reaper = time.AfterFunc(c.keep, c.reap)
		}
	}
	c.mu.Unlock()
	if full {
		cn.close()
	}
}

// reap closes the connections that were idle for too long, and forgets engines
// that are not there any more with them.
func (c *Client) reap() {
	var old []*conn
	latest := time.Now().Add(-c.keep)
	c.mu.Lock()
	next := time.Duration(-1)
	for base, e := range c.engines {
		n := 0
		for n < len(e.idle) && !e.idle[n].since.After(latest) {
			n++
		}
		old = append(old, e.idle[:n]...)
		e.idle = append([]*conn(nil), e.idle[n:]...)
		if len(e.idle) == 0 {
			delete(c.engines, base)
		} else if wait := e.idle[0].since.Sub(latest); next < 0 || wait < next {
			next = wait
		}
	}
	if c.reaper = nil; next >= 0 {
		c.reaper = time.AfterFunc(next+time.Millisecond, c.reap)
	}
	c.mu.Unlock()
	for _, cn := range old {
		cn.close()
	}
}

// drop closes an engine's idle connections.
func (c *Client) drop(e *engine) {
	c.mu.Lock()
	idle := e.idle
	e.idle = nil
	c.mu.Unlock()
	for _, cn := range idle {
		cn.close()
	}
}

// CloseIdleConnections closes the connections that carry no request.
func (c *Client) CloseIdleConnections() {
	c.mu.Lock()
	var all []*engine
	for _, e := range c.engines {
		all = append(all, e)
	}
	if c.reaper != nil {
		c.reaper.Stop()
		c.reaper = nil
	}
	c.mu.Unlock()
	for _, e := range all {
		c.drop(e)
	}
}
