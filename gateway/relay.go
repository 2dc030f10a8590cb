package gateway

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// maxEvent bounds one event of a stream; prompt_token_ids of a long context
// come in one.
const maxEvent = 32 << 20

// relayBuffers hold what was read of a stream and is not yet sent.
var relayBuffers = sync.Pool{New: func() any { b := make([]byte, 32<<10); return &b }}

// errCut is a stream that ended before "[DONE]".
var errCut = errors.New("the stream ended before [DONE]")

// relayStream passes a stream on in whole events, one write and flush for each
// read, and watches it for first token and usage. Because only whole events
// are sent, a worker that dies before its first leaves the client's answer
// unbegun, and one that dies later leaves it where another can go on.
func (x *exchange) relayStream(ctx context.Context, p *placement, b *booking, resp *http.Response, silence *time.Timer) (err error, again bool) {
	pooled := relayBuffers.Get().(*[]byte)
	defer relayBuffers.Put(pooled)
	buf, n := *pooled, 0 // buf[:n] is read and not sent: less than an event
	for {
		if n == len(buf) {
			if n >= maxEvent {
				return x.streamCut(p, errors.New("an event is too large"))
			}
			buf = append(buf, make([]byte, len(buf))...)
		}
		m, readErr := resp.Body.Read(buf[n:])
		// A blank line may begin up to two bytes before what is new.
		known := max(0, n-2)
		n += m
		if end := eventsEnd(buf[:n], known); end > 0 && !x.tooSoon(p, buf[:end]) {
			silence.Stop() // a client that is slow to take them is not the worker's silence
			if err, again := x.passEvents(p, b, resp, buf[:end]); err != nil {
				return err, again
			}
			silence.Reset(x.g.c.Limits.Idle)
			n = copy(buf, buf[end:n])
		}
		if readErr != nil {
			return x.streamEnd(p, b, resp, buf[:n], silenced(ctx, readErr))
		}
	}
}

// passEvents sends whole events to the client, up to one that shows that the
// worker has failed.
func (x *exchange) passEvents(p *placement, b *booking, resp *http.Response, events []byte) (err error, again bool) {
	events, failed := x.take(p, events)
	if x.answer.first && x.firstToken.IsZero() {
		x.firstToken = x.g.c.Now()
	}
	if x.answer.first && x.begun != b {
		x.begun = b
		b.firstToken()
		if p.split != nil {
			p.split.arrived(p)
		}
	}
	if s := p.split; failed != nil && s != nil && !x.sent && !s.across.Load() {
		x.heard = heard{} // the client has heard nothing
		return x.splitFailed(p, s.blamed(p, failed))
	}
	if len(events) > 0 {
		if !x.sent {
			x.beginAnswer(resp)
			x.streaming = true
			p.worker.ReportSuccess()
		}
		if err := x.deliver(events); err != nil {
			return x.clientGone(err), false
		}
	}
	if failed != nil {
		return x.streamCut(p, failed)
	}
	return nil, false
}

// tooSoon reports whether events are to wait for those after them: what a decode
// worker says before its first token is said before the KV is there, and may be
// followed by an error that another attempt need not end in.
func (x *exchange) tooSoon(p *placement, events []byte) bool {
	if p.split == nil || x.sent || p.split.across.Load() {
		return false
	}
	for payload := range payloads(events) {
		if string(payload) == "[DONE]" || bytes.HasPrefix(payload, []byte(`{"error"`)) || hasContent(payload) || valueFollows(payload, `"finish_reason":`, '"') {
			return false
		}
	}
	return true
}

// isWhole reports whether the last event of a stream lacks nothing but its blank
// line.
func isWhole(event []byte) bool {
	for payload := range payloads(event) {
		if string(payload) != "[DONE]" && !json.Valid(payload) {
			return false
		}
	}
	return true
}

// streamEnd judges how an upstream's stream ended; rest is an event without its
// blank line.
func (x *exchange) streamEnd(p *placement, b *booking, resp *http.Response, rest []byte, readErr error) (err error, again bool) {
	if readErr == io.EOF && len(rest) > 0 && isWhole(rest) && !x.tooSoon(p, rest) {
		if err, again := x.passEvents(p, b, resp, rest); err != nil {
			return err, again
		}
	}
	switch {
	case x.answer.failed:
		// The client has the engine's own error event.
		e := fail(CodeUpstreamFailed, "", "worker %s sent an error within its stream", p.worker.ID())
		e.sent = x.sent
		return e, false
	case x.answer.done:
		return nil, false // whole, even if the client has hung up since, as many do at [DONE]
	case readErr == io.EOF:
		readErr = errCut
	}
	return x.streamCut(p, readErr)
}

func (x *exchange) streamCut(p *placement, cause error) (error, bool) {
	return x.upstreamError(p, "broke off its stream", cause)
}

// relayWhole passes an answer on that is not a stream. It is complete before
// any of it is sent, so a worker that dies within it can be replaced.
func (x *exchange) relayWhole(p *placement, resp *http.Response) (err error, again bool) {
	limit := x.g.c.Limits.Answer
	var body []byte
	if resp.ContentLength >= 0 && resp.ContentLength <= limit {
		body = make([]byte, resp.ContentLength)
		_, err = io.ReadFull(resp.Body, body)
	} else {
		body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	}
	if err != nil {
		return x.upstreamError(p, "broke off its answer", err)
	}
	if int64(len(body)) > limit {
		return fail(CodeUpstreamFailed, "", "worker %s answered more than the %d bytes that this gateway takes", p.worker.ID(), limit), false
	}
	p.worker.ReportSuccess()
	if p.split != nil {
		p.split.arrived(p)
		body = p.split.truthful(nil, body)
	}
	x.answer.unary(body)
	x.beginAnswer(resp)
	x.w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	if err := x.deliver(body); err != nil {
		return x.clientGone(err), false
	}
	return nil, false
}

// beginAnswer sends the header. From here on the answer is this worker's.
func (x *exchange) beginAnswer(resp *http.Response) {
	h := x.w.Header()
	for name, values := range resp.Header {
		if passes(name) {
			h[name] = values
		}
	}
	x.setHeaders()
	x.sent = true
	x.silence.Stop() // from here on each worker has its own
	if x.late != nil {
		x.late.Stop()
	}
	x.w.WriteHeader(resp.StatusCode)
}

// passes reports whether an engine's header is for the client. Those of the
// connection are not, nor is what the gateway says itself.
func passes(name string) bool {
	switch name {
	case "Connection", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Te", "Trailer", "Transfer-Encoding", "Upgrade",
		"Content-Length", "Date", "Server", headerRequestID, headerWorker, headerCachedTokens, headerPredictedTTFT:
		return false
	}
	return true
}

const (
	// deliverPart is how much of an answer must have been taken within
	// Limits.ClientStall: enough for a slow client that takes something.
	deliverPart = 64 << 10
	// deliverRenew is how far the deadline of writes may be behind.
	deliverRenew = time.Second
)

// deliver sends a part of the answer. A client that takes nothing for too long
// holds a worker's place in vain: it is given up, and with it the upstream.
func (x *exchange) deliver(b []byte) error {
	for len(b) > 0 {
		n := min(len(b), deliverPart)
		if now := time.Now(); x.writeBy.Sub(now) < x.g.c.Limits.ClientStall-deliverRenew {
			x.writeBy = now.Add(x.g.c.Limits.ClientStall)
			_ = x.rc.SetWriteDeadline(x.writeBy) // not every writer can
		}
		if _, err := x.w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	if err := x.rc.Flush(); !errors.Is(err, http.ErrNotSupported) {
		return err
	}
	return nil
}

// clientGone ends an exchange whose client doesn't take its answer.
func (x *exchange) clientGone(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fail(CodeClientStalled, "", "the client took nothing of its answer for %s", x.g.c.Limits.ClientStall).because(err)
	}
	if x.ctx.Err() != nil {
		return x.ended()
	}
	return fail(CodeClientClosed, "", "the client closed the connection").because(err)
}
