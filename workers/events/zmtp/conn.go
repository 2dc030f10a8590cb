package zmtp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// Type is a socket type, as announced in the handshake.
type Type string

// The socket types that KV events use.
const (
	Pub    Type = "PUB"
	Sub    Type = "SUB"
	Router Type = "ROUTER"
	Dealer Type = "DEALER"
)

// peers lists who may talk to whom (RFC 23 of ZeroMQ).
var peers = map[Type][]Type{
	Pub:    {Sub, "XSUB"},
	Sub:    {Pub, "XPUB"},
	Router: {Dealer, "REQ", Router},
	Dealer: {Router, "REP", Dealer},
}

// Limits on what a peer may send.
const (
	maxMessage = 64 << 20 // bytes, all frames of one message
	maxFrames  = 64       // of one message
	maxCommand = 4 << 10  // bytes
	growStep   = 1 << 20  // bytes allocated ahead of their arrival
	readBuffer = 128 << 10

	handshakeTimeout = 5 * time.Second
	frameTimeout     = 30 * time.Second // for the rest of a message that has begun
	writeTimeout     = 10 * time.Second
)

const (
	flagMore    = 1
	flagLong    = 2
	flagCommand = 4
)

var errProtocol = errors.New("zmtp: protocol error")

// Conn is one ZMTP connection.
type Conn struct {
	raw  net.Conn
	r    *bufio.Reader
	typ  Type
	peer Type

	buf     []byte // bytes of the message last received
	ends    []int  // where its frames end in buf
	frames  [][]byte
	headers []byte // of the message being sent

	writing sync.Mutex // the reader answers PING beside the writer
}

// NewConn wraps a connection; Handshake comes before anything else.
func NewConn(raw net.Conn, typ Type) *Conn {
	return &Conn{raw: raw, r: bufio.NewReaderSize(raw, readBuffer), typ: typ}
}

// Close closes the connection; a Recv or Send in progress returns.
func (c *Conn) Close() error { return c.raw.Close() }

// Peer is the other side's socket type.
func (c *Conn) Peer() Type { return c.peer }

// Handshake exchanges greetings and READY commands.
func (c *Conn) Handshake() error {
	if err := c.raw.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return err
	}
	hello := append(greeting(), c.ready()...)
	if _, err := c.raw.Write(hello); err != nil {
		return fmt.Errorf("zmtp: handshake: %w", err)
	}
	if err := c.readGreeting(); err != nil {
		return fmt.Errorf("zmtp: handshake: %w", err)
	}
	if err := c.readReady(); err != nil {
		return fmt.Errorf("zmtp: handshake: %w", err)
	}
	return c.raw.SetDeadline(time.Time{})
}

// greeting announces version 3.0: a 3.1 peer then speaks 3.0 to us, in which
// subscriptions are messages.
func greeting() []byte {
	b := make([]byte, 64, 128)
	b[0], b[9] = 0xFF, 0x7F
	b[10] = 3
	copy(b[12:32], "NULL")
	return b
}

func (c *Conn) ready() []byte {
	body := append([]byte{5}, "READY"...)
	property := func(name, value string) {
		body = append(body, byte(len(name)))
		body = append(body, name...)
		body = binary.BigEndian.AppendUint32(body, uint32(len(value)))
		body = append(body, value...)
	}
	property("Socket-Type", string(c.typ))
	if c.typ == Dealer || c.typ == Router {
		property("Identity", "")
	}
	return append([]byte{flagCommand, byte(len(body))}, body...)
}

func (c *Conn) readGreeting() error {
	var g [64]byte
	if _, err := io.ReadFull(c.r, g[:]); err != nil {
		return err
	}
	if g[0] != 0xFF || g[9] != 0x7F {
		return fmt.Errorf("%w: the peer does not speak ZeroMQ", errProtocol)
	}
	if g[10] < 3 {
		return fmt.Errorf("%w: the peer speaks ZMTP %d, want 3 or later", errProtocol, g[10])
	}
	if mechanism := string(g[12:17]); mechanism != "NULL\x00" {
		return fmt.Errorf("%w: the peer wants security mechanism %q, only NULL is supported", errProtocol, mechanism)
	}
	return nil
}

func (c *Conn) readReady() error {
	flags, size, err := c.readHeader()
	if err != nil {
		return err
	}
	if flags&flagCommand == 0 || size > maxCommand {
		return fmt.Errorf("%w: want a READY command", errProtocol)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c.r, body); err != nil {
		return err
	}
	if len(body) < 6 || string(body[:6]) != "\x05READY" {
		return fmt.Errorf("%w: want READY, got command %.32q", errProtocol, body)
	}
	c.peer, err = socketType(body[6:])
	if err != nil {
		return err
	}
	for _, p := range peers[c.typ] {
		if p == c.peer {
			return nil
		}
	}
	return fmt.Errorf("%w: a %s socket cannot talk to a %s socket", errProtocol, c.typ, c.peer)
}

// socketType finds the Socket-Type among a READY command's properties.
func socketType(props []byte) (Type, error) {
	for len(props) > 0 {
		n := int(props[0])
		if len(props) < 1+n+4 {
			break
		}
		name := string(props[1 : 1+n])
		props = props[1+n:]
		size := binary.BigEndian.Uint32(props)
		props = props[4:]
		if uint64(size) > uint64(len(props)) {
			break
		}
		if name == "Socket-Type" {
			return Type(props[:size]), nil
		}
		props = props[size:]
	}
	return "", fmt.Errorf("%w: READY without Socket-Type", errProtocol)
}

func (c *Conn) readHeader() (flags byte, size uint64, err error) {
	if flags, err = c.r.ReadByte(); err != nil {
		return 0, 0, err
	}
	if flags&flagLong == 0 {
		b, err := c.r.ReadByte()
		return flags, uint64(b), err
	}
	var long [8]byte
	_, err = io.ReadFull(c.r, long[:])
	return flags, binary.BigEndian.Uint64(long[:]), err
}

// Recv returns the frames of the next message; they are valid until the next
// Recv. With idle > 0 it gives up with os.ErrDeadlineExceeded when no message
// begins in that time, and may be called again.
func (c *Conn) Recv(idle time.Duration) ([][]byte, error) {
	for {
		var deadline time.Time
		if idle > 0 {
			deadline = time.Now().Add(idle)
		}
		if done, err := c.bufferedMessage(); done || err != nil {
			return c.frames, err
		}
		if c.r.Buffered() == 0 {
			if err := c.raw.SetReadDeadline(deadline); err != nil {
				return nil, err
			}
			if _, err := c.r.Peek(1); err != nil {
				return nil, err
			}
			continue // most messages come whole
		}
		if err := c.raw.SetReadDeadline(time.Now().Add(frameTimeout)); err != nil {
			return nil, err
		}
		command, err := c.readMessage()
		if err != nil {
			return nil, err
		}
		if !command {
			return c.frames, nil
		}
		if err := c.answer(c.buf); err != nil {
			return nil, err
		}
	}
}

// bufferedMessage takes a message that has arrived as a whole from where it is.
// Anything else it leaves: what is cut short, commands, and what is wrong.
func (c *Conn) bufferedMessage() (done bool, err error) {
	b, err := c.r.Peek(c.r.Buffered())
	if err != nil {
		return false, err
	}
	c.frames = c.frames[:0]
	for at := 0; len(b)-at >= 2 && len(c.frames) < maxFrames; {
		flags, size := b[at], uint64(b[at+1])
		at += 2
		if flags&flagLong != 0 {
			if len(b)-at < 7 {
				return false, nil
			}
			size = binary.BigEndian.Uint64(b[at-1:])
			at += 7
		}
		if flags&flagCommand != 0 || size > uint64(len(b)-at) {
			return false, nil
		}
		end := at + int(size)
		c.frames = append(c.frames, b[at:end:end])
		at = end
		if flags&flagMore == 0 {
			_, err := c.r.Discard(at)
			return true, err
		}
	}
	return false, nil
}

// readMessage reads the frames of one message, or one command, into c.buf.
func (c *Conn) readMessage() (command bool, err error) {
	c.buf, c.ends = c.buf[:0], c.ends[:0]
	for {
		flags, size, err := c.readHeader()
		if err != nil {
			return false, noEOF(err)
		}
		command := flags&flagCommand != 0
		switch {
		case command && (size > maxCommand || len(c.ends) > 0 || flags&flagMore != 0):
			return false, fmt.Errorf("%w: bad command frame", errProtocol)
		case size > maxMessage-uint64(len(c.buf)):
			return false, fmt.Errorf("%w: message of more than %d bytes", errProtocol, maxMessage)
		case len(c.ends) == maxFrames:
			return false, fmt.Errorf("%w: message of more than %d frames", errProtocol, maxFrames)
		}
		if err := c.readBody(int(size)); err != nil {
			return false, noEOF(err)
		}
		if command {
			return true, nil
		}
		c.ends = append(c.ends, len(c.buf))
		if flags&flagMore == 0 {
			break
		}
	}
	c.frames = c.frames[:0]
	start := 0
	for _, end := range c.ends {
		c.frames = append(c.frames, c.buf[start:end:end])
		start = end
	}
	return false, nil
}

// readBody appends n bytes to c.buf, allocating as they arrive.
func (c *Conn) readBody(n int) error {
	for n > 0 {
		step := min(n, growStep)
		start := len(c.buf)
		if cap(c.buf)-start < step {
			grown := make([]byte, start, max(2*cap(c.buf), start+step))
			copy(grown, c.buf)
			c.buf = grown
		}
		c.buf = c.buf[:start+step]
		if _, err := io.ReadFull(c.r, c.buf[start:]); err != nil {
			return err
		}
		n -= step
	}
	return nil
}

// noEOF keeps a connection cut inside a message apart from one closed between
// two.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// answer reacts to a command: PING wants its context back, everything else
// (SUBSCRIBE, CANCEL, ERROR) has no meaning for a 3.0 peer.
func (c *Conn) answer(body []byte) error {
	const ping = "\x04PING"
	if len(body) < len(ping)+2 || string(body[:len(ping)]) != ping {
		return nil
	}
	context := body[len(ping)+2:] // behind the TTL
	pong := append([]byte{flagCommand, byte(5 + len(context))}, "\x04PONG"...)
	if len(context) > 16 {
		return fmt.Errorf("%w: PING with %d bytes of context", errProtocol, len(context))
	}
	return c.write(net.Buffers{append(pong, context...)})
}

// Send writes one message of one or more frames.
func (c *Conn) Send(frames ...[]byte) error {
	c.headers = c.headers[:0]
	if need := 9 * len(frames); cap(c.headers) < need {
		c.headers = make([]byte, 0, need)
	}
	buffers := make(net.Buffers, 0, 2*len(frames))
	for i, f := range frames {
		start := len(c.headers)
		c.headers = appendHeader(c.headers, len(f), i < len(frames)-1)
		buffers = append(buffers, c.headers[start:], f)
	}
	return c.write(buffers)
}

// appendHeader appends what goes ahead of a frame.
func appendHeader(b []byte, size int, more bool) []byte {
	var flags byte
	if more {
		flags = flagMore
	}
	if size <= 255 {
		return append(b, flags, byte(size))
	}
	return binary.BigEndian.AppendUint64(append(b, flags|flagLong), uint64(size))
}

// Append appends a message as Send would write it, for SendAppended.
func Append(b []byte, frames ...[]byte) []byte {
	for i, f := range frames {
		b = append(appendHeader(b, len(f), i < len(frames)-1), f...)
	}
	return b
}

// SendAppended writes a piece of what Append made.
func (c *Conn) SendAppended(b []byte) error { return c.write(net.Buffers{b}) }

func (c *Conn) write(b net.Buffers) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	if err := c.raw.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
		return err
	}
	_, err := b.WriteTo(c.raw)
	return err
}
