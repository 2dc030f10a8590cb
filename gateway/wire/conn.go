package wire

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// conn is a connection to an engine. It belongs to the request that it carries.
type conn struct {
	c     *Client
	e     *engine
	nc    net.Conn
	br    *bufio.Reader
	head  []byte // the request's, reused
	used  bool   // it carried a request before
	since time.Time

	// left is how much more may be read before an answer's header is complete;
	// negative: it is. got says that something was read.
	left int
	got  bool
}

const (
	readBuffer = 16 << 10
	// mostHead bounds an answer's header.
	mostHead = 1 << 20
	// joined is up to which length a body goes out in one write with its header.
	joined = 16 << 10
)

var (
	// errStale is a kept connection that the engine had closed.
	errStale    = errors.New("the engine had closed the connection")
	errLongHead = fmt.Errorf("the answer's header is longer than %d bytes", mostHead)
	errSwitched = errors.New("the engine switched protocols, which nobody asked for")
	// past interrupts reads and writes.
	past = time.Unix(1, 0)
	// posted tells http.ReadResponse what was asked.
	posted = &http.Request{Method: http.MethodPost}
)

func newConn(c *Client, e *engine, nc net.Conn) *conn {
	cn := &conn{c: c, e: e, nc: nc}
	cn.br = bufio.NewReaderSize(cn, readBuffer)
	return cn
}

func (cn *conn) close() { _ = cn.nc.Close() }

// Read is what br reads from.
func (cn *conn) Read(p []byte) (int, error) {
	if cn.left == 0 {
		return 0, errLongHead
	}
	if cn.left > 0 && len(p) > cn.left {
		p = p[:cn.left]
	}
	n, err := cn.nc.Read(p)
	cn.got = cn.got || n > 0
	if cn.left > 0 {
		cn.left -= n
	}
	return n, err
}

// exchange sends a request and reads the header of its answer.
func (cn *conn) exchange(ctx context.Context, path string, header http.Header, body []byte) (*http.Response, error) {
	if err := cn.writeHead(path, header, len(body)); err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = cn.nc.SetDeadline(past) })
	cn.left, cn.got = mostHead, false
	writeErr := cn.write(body)
	// An engine may refuse a body before it has taken it: then its answer is there.
	resp, err := cn.readHead()
	if err != nil {
		stop()
		if writeErr != nil {
			err = writeErr
		}
		switch {
		case ctx.Err() != nil:
			return nil, context.Cause(ctx)
		case cn.used && !cn.got:
			return nil, errStale
		}
		return nil, err
	}
	cn.left = -1
	resp.Body = &answer{inner: resp.Body, cn: cn, ctx: ctx, stop: stop, keep: !resp.Close && writeErr == nil}
	return resp, nil
}

func (cn *conn) writeHead(path string, header http.Header, size int) error {
	b := append(cn.head[:0], "POST "...)
	b = append(append(b, cn.e.prefix...), path...)
	b = append(append(b, " HTTP/1.1\r\nHost: "...), cn.e.base.Host...)
	b = append(b, "\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(size), 10)
	b = append(b, "\r\n"...)
	for name, values := range header {
		for _, v := range values {
			if strings.ContainsAny(v, "\r\n\x00") || strings.ContainsAny(name, "\r\n\x00: ") {
				return fmt.Errorf("the header %q cannot be sent", name)
			}
			b = append(append(append(append(b, name...), ": "...), v...), "\r\n"...)
		}
	}
	cn.head = append(b, "\r\n"...)
	return nil
}

// write sends head and body in one call where the body is not so long that the
// copy would cost more than the call.
func (cn *conn) write(body []byte) error {
	if len(body) <= joined {
		cn.head = append(cn.head, body...)
		_, err := cn.nc.Write(cn.head)
		return err
	}
	parts := net.Buffers{cn.head, body}
	_, err := parts.WriteTo(cn.nc)
	return err
}

// readHead reads an answer's header, past those that only say to wait.
func (cn *conn) readHead() (*http.Response, error) {
	for {
		resp, err := http.ReadResponse(cn.br, posted)
		switch {
		case err != nil:
			return nil, err
		case resp.StatusCode == http.StatusSwitchingProtocols:
			return nil, errSwitched
		case resp.StatusCode >= 200:
			return resp, nil
		}
	}
}

// answer is an answer's body. Its end gives the connection back.
type answer struct {
	inner io.Reader
	cn    *conn // nil: given back
	ctx   context.Context
	stop  func() bool // ends the watch on ctx; false: it has struck
	keep  bool
}

func (b *answer) Read(p []byte) (int, error) {
	if b.cn == nil {
		return 0, io.EOF
	}
	n, err := b.inner.Read(p)
	switch {
	case err == nil:
	case err == io.EOF:
		b.release(b.keep)
	case b.ctx.Err() != nil:
		err = context.Cause(b.ctx)
	}
	return n, err
}

// Close ends the answer. What was not read of it is not waited for.
func (b *answer) Close() error {
	b.release(false)
	return nil
}

func (b *answer) release(keep bool) {
	cn := b.cn
	if cn == nil {
		return
	}
	b.cn = nil
	if b.stop() && keep && cn.br.Buffered() == 0 {
		cn.c.put(cn)
	} else {
		cn.close()
	}
}
