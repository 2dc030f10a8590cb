package gateway

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"
)

// newTransport is the connections to engines.
func newTransport() *http.Transport {
	return &http.Transport{
		MaxIdleConns:        4096,
		MaxIdleConnsPerHost: 1024,
		// Below the 5 s after which vLLM's server closes idle connections: one
		// that is closed as we use it looks like a worker's death.
		IdleConnTimeout:    4 * time.Second,
		DisableCompression: true, // answers pass through as they are
		WriteBufferSize:    64 << 10,
		ReadBufferSize:     32 << 10,
	}
}

// try sends the request to one worker and relays its answer. again says that
// another worker may be tried.
func (x *exchange) try(p *placement, b *booking) (err error, again bool) {
	defer b.release()
	defer p.end()
	ctx, span := x.g.span(x.ctx, "kvasir.upstream", trace.SpanKindClient)
	defer span.End()
	ctx, abandon := context.WithCancelCause(ctx)
	cancel := func() { abandon(nil) }
	defer cancel()
	if x.carry == nil {
		x.dispatched = x.g.c.Now()
	}
	x.hurried = !x.deadline.IsZero() && !x.sent
	settle := x.onboard(ctx, p)
	defer settle()
	// Before settle: an answer that is complete ends what is left of the restore.
	defer cancel()

	silence := time.AfterFunc(x.g.c.Limits.FirstByte, func() { abandon(errSilent) })
	defer silence.Stop()
	if !x.q.stream {
		silence.Stop()
	}
	path, body, err := x.upstream(ctx, p)
	if err == nil && p.split != nil {
		if body, err = p.split.begin(ctx, abandon, path, body); err != nil {
			return x.splitFailed(p, err)
		}
	}
	if err != nil {
		return x.upstreamError(p, "did not answer", err)
	}
	resp, err := x.send(ctx, p, path, body)
	if err != nil {
		return x.upstreamError(p, "did not answer", silenced(ctx, err))
	}
	defer resp.Body.Close()
	x.noPlace = p.split == nil && busy(resp)
	b.taken = !x.noPlace
	x.refused = resp.StatusCode == http.StatusBadGateway || resp.StatusCode == http.StatusServiceUnavailable
	switch {
	case x.noPlace:
		return fail(CodeOverloaded, "", "every worker is busy").after(defaultRetryAfter), true
	case x.refused:
		err, _ := x.upstreamError(p, "refused", errors.New(resp.Status))
		return err, true
	case resp.StatusCode >= 400 && p.split != nil:
		return x.splitFailed(p, p.split.blamed(p, fmt.Errorf("%s: %s", resp.Status, errorMessage(readSome(resp.Body)))))
	case resp.StatusCode >= 500:
		return x.engineFault(p, resp)
	case resp.StatusCode >= 400:
		p.worker.ReportSuccess()
		return x.refusal(resp), false
	case strings.HasPrefix(resp.Header.Get("Content-Type"), "text/event-stream"):
		return x.relayStream(ctx, p, b, resp, silence)
	}
	return x.relayWhole(p, resp)
}

// silenced is the reason for which a read or dispatch failed.
func silenced(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errSilent) {
		return cause
	}
	return err
}

// upstream is what a worker is sent: the client's own bytes with what the gateway
// adds, or the rest of a stream that goes on.
func (x *exchange) upstream(ctx context.Context, p *placement) (path string, body []byte, err error) {
	if x.carry != nil {
		body, err := x.continuing(x.g.contexts.of(ctx, p.worker))
		return endpointCompletion.path(), body, err
	}
	x.named = x.carriable && !x.q.fields.has(fieldReturnTokenIDs) && namesTokens(p.worker.Info().Engine)
	body, err = x.q.edited(x.named)
	return x.endpoint.path(), body, err
}

// namesTokens reports whether an engine knows return_token_ids. One that was not
// named is taken to be vLLM; others refuse fields that they do not know.
func namesTokens(engine string) bool { return engine == "" || engine == "vllm" || engine == "embedded" }

// send dispatches the part of the request that answers it.
func (x *exchange) send(ctx context.Context, p *placement, path string, body []byte) (*http.Response, error) {
	if p.split != nil {
		p.split.sent = x.g.c.Now()
	}
	return x.post(ctx, p, path, body)
}

// post sends a body to one worker.
func (x *exchange) post(ctx context.Context, p *placement, path string, body []byte) (*http.Response, error) {
	info := p.worker.Known()
	h := make(http.Header, 8)
	h["Content-Type"], h["User-Agent"] = typeJSON, asKvasir
	h[headerRequestID] = []string{x.id}
	if p.plan {
		h.Set(headerRestoreBlocks, itoa(p.estimate.Cut))
	}
	if x.hurried {
		h.Set(headerDeadline, itoa(int(max(1, x.deadline.Sub(x.g.c.Now()).Milliseconds()))))
	}
	if accept := x.r.Header.Get("Accept"); accept != "" {
		h.Set("Accept", accept)
	}
	info.Authorize(h)
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(h))
	p.worker.ReportSent()
	return x.g.engines.Post(ctx, info.URL, path, h, body)
}

// Headers that all requests to engines have.
var typeJSON, asKvasir = []string{"application/json"}, []string{"kvasir"}

// upstreamError is a worker's failure before its answer was sent on.
func (x *exchange) upstreamError(p *placement, what string, cause error) (err error, again bool) {
	if x.ctx.Err() != nil {
		if context.Cause(x.ctx) == errSilent {
			p.worker.ReportFailure(errSilent)
		}
		return x.ended(), false
	}
	if s := p.split; s != nil && !x.sent && s.err.Load() != nil {
		return x.splitFailed(p, s.blamed(p, cause))
	}
	p.worker.ReportFailure(cause)
	x.g.metrics.upstreamErrors.WithLabelValues(x.q.model, string(p.worker.ID())).Inc()
	if errors.Is(cause, errSilent) {
		return fail(CodeDeadlineExceeded, "", "%v", errSilent), x.sent
	}
	return fail(CodeUpstreamFailed, "", "worker %s %s", p.worker.ID(), what).because(cause), true
}

// splitFailed is the failure of an attempt in two legs that is not the second
// worker's.
func (x *exchange) splitFailed(p *placement, cause error) (err error, again bool) {
	if x.ctx.Err() != nil {
		return x.ended(), false
	}
	return fail(CodeUpstreamFailed, "", "workers %s and %s could not share the request", p.split.first.worker.ID(), p.worker.ID()).because(cause), true
}

// engineFault is a 5xx that another worker might repeat: a request that crashes
// engines must not be carried from one to the next.
func (x *exchange) engineFault(p *placement, resp *http.Response) (error, bool) {
	err, _ := x.upstreamError(p, fmt.Sprintf("answered %d", resp.StatusCode), errors.New(resp.Status))
	var e *Error
	if errors.As(err, &e) && e.Code == CodeUpstreamFailed {
		if message := errorMessage(readSome(resp.Body)); message != "" {
			e.Message += ": " + message
			e.quotes = true
		}
	}
	return err, false
}

// refusal passes an engine's 4xx on, in OpenAI's form: as it is, if it has it.
func (x *exchange) refusal(resp *http.Response) error {
	body := readSome(resp.Body)
	e := fail(CodeUpstreamRefused, "", "%s", errorMessage(body)).quoting()
	e.Upstream = resp.StatusCode
	if retry := resp.Header.Get("Retry-After"); retry != "" {
		x.w.Header().Set("Retry-After", retry)
	}
	if hasError(body) {
		x.setHeaders()
		writeJSON(x.w, resp.StatusCode, body)
		x.sent, e.sent = true, true
	} else if e.Message == "" {
		e.Message = "the engine refused the request: " + resp.Status
	}
	return e
}

// readSome is the start of an error's body.
func readSome(r io.Reader) []byte {
	b, _ := io.ReadAll(io.LimitReader(r, 64<<10)) // what could be read is what there is
	return b
}

// hasError reports whether body has OpenAI's form.
func hasError(body []byte) bool {
	found := false
	err := eachField(body, func(key, value []byte) error {
		found = found || string(key) == "error" && value[0] == '{'
		return nil
	})
	return err == nil && found
}

// errorMessage finds the words in the error forms that engines have.
func errorMessage(body []byte) (message string) {
	_ = eachField(body, func(key, value []byte) error {
		switch k := string(key); {
		case k == "error" && value[0] == '{':
			message = errorMessage(value)
		case (k == "message" || k == "detail" || k == "error") && value[0] == '"':
			if b, err := decodeString(value); err == nil {
				message = string(b)
			}
		}
		return nil
	})
	return message
}

// onboard has the worker's agent bring up what the decision restores, beside
// the request's way through the engine. The returned function waits for it.
func (x *exchange) onboard(ctx context.Context, p *placement) (settle func()) {
	p = p.computes()
	if !p.plan || restored(p.estimate.Blocks) == 0 || p.worker.Info().Agent == "" {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		ctx, span := x.g.span(ctx, "kvasir.onboard", trace.SpanKindInternal)
		defer span.End()
		cut := p.estimate.Cut
		deadline := x.dispatched.Add(restorePatience(p))
		if !x.deadline.IsZero() {
			deadline = earlier(deadline, x.deadline)
		}
		r, err := p.worker.Onboard(ctx, x.id, x.prompt.root, x.prompt.hashes[:cut], p.pulls, deadline)
		o := onboarded(cut, r, err)
		x.entry.update(func(rec *Record) { rec.Onboard = o })
		x.g.metrics.onboard(x.q.model, p.worker.ID(), o)
		if span.IsRecording() {
			span.SetAttributes(onboardAttributes(o)...)
		}
		if err != nil && ctx.Err() == nil {
			x.log().Warn("a restore failed; the engine recomputes", "worker", p.worker.ID(), "error", err)
		}
	}()
	return func() { <-done }
}

// restorePatience is how late a restore may be. Beyond a few times its
// prediction, computing the blocks would have been the better choice.
func restorePatience(p *placement) time.Duration {
	ms := 3 * (p.estimate.QueueMS + p.estimate.RestoreLinkMS)
	return max(time.Second, time.Duration(ms*float64(time.Millisecond)))
}
