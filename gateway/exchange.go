package gateway

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/kvasir-ai/kvasir/gateway/queue"
	"github.com/kvasir-ai/kvasir/gateway/tenants"
	"github.com/kvasir-ai/kvasir/internal/kv"
)

const (
	headerRequestID     = "X-Request-Id"
	headerRestoreBlocks = "X-Kvasir-Restore-Blocks"
	headerWorker        = "X-Kvasir-Worker"
	headerPrefillWorker = "X-Kvasir-Prefill-Worker"
	headerCachedTokens  = "X-Kvasir-Cached-Tokens"
	headerPredictedTTFT = "X-Kvasir-Predicted-Ttft-Ms"

	outcomeOK = "ok"
)

// Why a request's context ended, besides the client.
var (
	errTooLong = errors.New("the request took longer than the gateway allows")
	errSilent  = errors.New("the worker was silent for too long")
)

// exchange is one inference request from its first byte to its record's end.
// It belongs to its handler's goroutine.
type exchange struct {
	g        *Gateway
	w        http.ResponseWriter
	rc       *http.ResponseController
	r        *http.Request
	endpoint endpoint

	id     string
	entry  *entry
	began  time.Time
	span   trace.Span
	ctx    context.Context
	cancel context.CancelCauseFunc
	// silence cancels when nothing was answered for too long, all workers tried
	// together.
	silence *time.Timer

	q        *inference
	priority queue.Priority
	// patience is how long the client waits, until deadline, when late ends the
	// request; latest is when a worker must turn to it; pass is the room that let
	// it in and waits for it to be booked.
	patience         time.Duration
	deadline, latest time.Time
	late             *time.Timer
	pass             *room

	tenant *tenants.Tenant // nil: the gateway is open
	prompt *promptTokens
	tried  map[kv.WorkerID]bool

	// sent is set once any of the answer is out: no retry after that. streaming
	// says that it is a stream, whatever was asked for.
	sent, streaming bool
	// writeBy is the deadline of the connection's writes, zero before the first.
	writeBy time.Time
	// refused says that the last worker answered 502 or 503; retries and lost count
	// the workers that failed before the answer began, by whether they are there
	// still. suspicion is how surely workers died of this request, one by one.
	refused       bool
	retries, lost int
	suspicion     float64
	// noPlace says that the last worker had no place for the request.
	noPlace bool
	// splits counts the attempts in two legs that failed; whole says why there may
	// be none, "" if there may.
	splits int
	whole  string
	// hurried says that the attempt's workers are told of the deadline.
	hurried bool

	// A stream that may go on elsewhere when its worker dies: what the client has
	// of it, where it does go on, and how often it did. named says that the
	// engine was asked to name its tokens.
	carriable, named bool
	heard            heard
	carry            *carried
	migrations       int
	begun            *booking // whose first token was seen
	edited           []byte
	shape            shape

	answer     answer
	dispatched time.Time // to the last worker tried
	firstToken time.Time // zero: none seen
	placed     *placement
}

// serve handles one chat or completion request.
func (g *Gateway) serve(w http.ResponseWriter, r *http.Request, e endpoint) {
	x := g.begin(w, r, e)
	var err error
	defer func() {
		if p := recover(); p != nil {
			x.log().Error("a request's handler panicked", "panic", p, "stack", string(debug.Stack()))
			err = fail(CodeInternal, "", "internal error")
		}
		x.finish(err)
	}()
	if err = g.admission.enter(); err != nil {
		return
	}
	defer g.admission.leave()
	if err = x.enter(); err != nil {
		return
	}
	defer x.leave()
	err = x.run()
}

func (g *Gateway) begin(w http.ResponseWriter, r *http.Request, e endpoint) *exchange {
	x := &exchange{g: g, w: w, rc: http.NewResponseController(w), r: r, endpoint: e, began: g.c.Now(), tried: map[kv.WorkerID]bool{}, tenant: tenantOf(r)}
	wanted := r.Header.Get(headerRequestID)
	if !saneID(wanted) {
		wanted = ""
	}
	x.entry = g.records.begin(wanted, Record{Time: x.began, Endpoint: string(e)})
	x.id = x.entry.id()
	w.Header().Set(headerRequestID, x.id)

	ctx := r.Context()
	if r.Header.Get("Traceparent") != "" {
		ctx = propagation.TraceContext{}.Extract(ctx, propagation.HeaderCarrier(r.Header))
	}
	ctx, x.span = g.span(ctx, "kvasir.request", trace.SpanKindServer)
	x.ctx, x.cancel = context.WithCancelCause(ctx)
	return x
}

// run carries the request to its answer. After an error nothing more is sent
// but the error itself.
func (x *exchange) run() error {
	g := x.g
	g.budget.earn()
	// A client that trickles its body holds no more than this.
	_ = x.rc.SetReadDeadline(time.Now().Add(g.c.Limits.BodyTime)) // not every writer can
	body, err := readBody(x.w, x.r, g.c.Limits.Body)
	if err != nil {
		return err // the deadline stays: the server reads on for a while, to answer
	}
	_ = x.rc.SetReadDeadline(time.Time{})
	if x.q, err = parseInference(x.endpoint, body); err != nil {
		return err
	}
	x.entry.update(func(r *Record) { r.Model, r.Stream = x.q.model, x.q.stream })
	if err := g.models.check(x.q.model, x.tenant); err != nil {
		return err
	}
	if err := x.claim(); err != nil {
		return err
	}
	if err := x.readUrgency(); err != nil {
		return err
	}
	if err := x.hopeless(); err != nil {
		return err
	}
	defer x.watchDeadline()()
	overall := time.AfterFunc(g.c.Limits.Request, func() { x.cancel(errTooLong) })
	defer overall.Stop()
	x.silence = time.AfterFunc(g.c.Limits.FirstByte, func() { x.cancel(errSilent) })
	if !x.q.stream {
		x.silence.Stop()
	}
	if err := x.readPrompt(); err != nil {
		return err
	}
	if err := x.queue(); err != nil {
		return err
	}
	defer x.endPass()
	x.carriable = g.c.Limits.Migrations > 0 && x.prompt.tokens != nil && !x.prompt.batch && x.q.uncarriable() == ""
	return x.dispatch()
}

// readPrompt turns the prompt into tokens.
func (x *exchange) readPrompt() (err error) {
	ctx, span := x.g.span(x.ctx, "kvasir.tokenize", trace.SpanKindInternal)
	defer span.End()
	if x.prompt, err = x.g.tokenize(ctx, x.q); err != nil {
		return err
	}
	x.entry.update(func(r *Record) { r.Tokens, r.TokensFrom = x.prompt.total, x.prompt.from })
	return nil
}

// dispatch tries workers until one answers, within the retry budget, and lets a
// stream whose worker dies go on elsewhere.
func (x *exchange) dispatch() (err error) {
	var lost time.Time // when the last worker failed
	for {
		p, b, placing := x.place()
		switch {
		case placing == nil:
		case err == nil:
			return placing
		case x.awaitWorker(placing, lost):
			continue
		case x.carry != nil:
			return notContinued(err, asError(placing).Message)
		default:
			return err // of the last worker tried: there is no other
		}
		x.placed = p
		x.tried[p.worker.ID()] = true
		var again bool
		if err, again = x.try(p, b); err == nil || !again || x.ctx.Err() != nil {
			return err
		}
		if x.noPlace {
			x.noPlace = false
			if err := x.waitForPlace(p); err != nil {
				return err
			}
			continue
		}
		lost = x.g.c.Now()
		if p.split != nil && p.split.fault != noFault {
			if !x.splitAgain(p, err) {
				return err
			}
			continue
		}
		if x.sent {
			if done, stuck := x.carryOn(p, err); done || stuck != nil {
				return stuck
			}
			continue
		}
		if !x.mayRetry(p, err) {
			return err
		}
		x.g.metrics.retries.WithLabelValues(x.q.model).Inc()
		x.entry.update(func(r *Record) {
			r.Failed = append(r.Failed, FailedAttempt{Worker: p.worker.ID(), Why: asError(err).forLog()})
			r.Onboard = nil
		})
		x.log().Warn("trying another worker", "failed", p.worker.ID(), "error", asError(err).forLog())
	}
}

// mayRetry reports whether the request may be tried elsewhere after failed did not
// begin to answer it. The budget guards a fleet that struggles. A worker that is
// gone takes no more load, and all its requests come back at once.
func (x *exchange) mayRetry(failed *placement, cause error) bool {
	most := x.g.c.Limits.Retries
	if !x.refused && !failed.worker.Ready() {
		x.lost++
		x.suspect(failed, cause)
		return x.lost <= max(most, x.g.c.Limits.Migrations) && x.suspicion <= mostSuspicion
	}
	x.retries++
	return x.retries <= most && x.g.budget.spend()
}

// ended says why the context is over, as the error to answer.
func (x *exchange) ended() *Error {
	switch cause := context.Cause(x.ctx); cause {
	case errTooLong, errSilent, errDeadline:
		return fail(CodeDeadlineExceeded, "", "%v", cause)
	default:
		return fail(CodeClientClosed, "", "the client closed the connection").because(cause)
	}
}

// setHeaders tells what was decided, on answers and errors alike.
func (x *exchange) setHeaders() {
	if x.placed == nil {
		return
	}
	h := x.w.Header()
	c := x.entry.chosen()
	h.Set(headerWorker, string(c.Worker))
	if first := c.Prefill(); first != "" {
		h.Set(headerPrefillWorker, string(first))
	}
	h.Set(headerCachedTokens, itoa(c.CachedTokens))
	h.Set(headerPredictedTTFT, formatMS(c.TTFTMS))
}

// finish answers an error if there is one to answer, and closes the books.
func (x *exchange) finish(err error) {
	status, outcome := http.StatusOK, outcomeOK
	if err != nil {
		e := asError(err)
		status, outcome = e.Status(), string(e.Code)
		x.answerError(e)
	}
	if x.silence != nil {
		x.silence.Stop()
	}
	x.cancel(nil)
	if !x.writeBy.IsZero() {
		_ = x.rc.SetWriteDeadline(time.Time{}) // the connection may serve more requests
	}
	now := x.g.c.Now()
	x.answer.end()
	x.entry.update(func(r *Record) {
		r.Done, r.Status, r.Outcome, r.Finish, r.Usage = true, status, outcome, x.answer.finish, x.answer.usage
		r.DurationMS = milliseconds(now.Sub(x.began))
		if ms, ok := x.observedTTFT(now); ok {
			r.ObservedTTFTMS = &ms
		}
	})
	x.g.records.end(x.entry)
	r := x.entry.snapshot()
	x.g.learn(x, &r)
	x.g.metrics.request(&r, x)
	if x.span.IsRecording() {
		x.span.SetAttributes(recordAttributes(&r)...)
	}
	x.span.End()
	x.access(&r, err)
	x.g.c.OnRequest(r)
}

// answerError sends e in the form that what was sent before allows.
func (x *exchange) answerError(e *Error) {
	switch {
	case e.Code == CodeClientClosed, e.Code == CodeClientStalled:
		return
	case e.sent:
		return
	case !x.sent:
		x.setHeaders()
		e.write(x.w)
	case x.streaming:
		_, _ = x.w.Write(e.event())
	}
	_ = x.rc.Flush() // the answer is complete: don't let the rest of finish delay it
}

// observedTTFT is the time from dispatch to the first token, if that was seen:
// in a stream, or as the whole of an answer of one token.
func (x *exchange) observedTTFT(now time.Time) (float64, bool) {
	switch {
	case !x.firstToken.IsZero():
		return milliseconds(x.firstToken.Sub(x.dispatched)), true
	case x.answer.done && x.answer.usage != nil && x.answer.usage.CompletionTokens == 1 && !x.q.stream:
		return milliseconds(now.Sub(x.dispatched)), true
	}
	return 0, false
}

// log is for what happens to the request, besides its end.
func (x *exchange) log() *slog.Logger { return x.g.c.Log.With("request_id", x.id) }

// access is the request's line in the log. It holds no prompt text.
func (x *exchange) access(r *Record, err error) {
	level := slog.LevelInfo
	if err != nil && r.Status >= 500 {
		level = slog.LevelWarn
	}
	if !x.g.c.Access.Enabled(x.ctx, level) {
		return
	}
	attrs := make([]slog.Attr, 0, 13)
	attrs = append(attrs,
		slog.String("request_id", x.id), slog.String("endpoint", r.Endpoint), slog.String("model", r.Model), slog.Int("status", r.Status),
		slog.String("outcome", r.Outcome), slog.Bool("stream", r.Stream), slog.Int("tokens", r.Tokens),
		slog.String("worker", string(r.Chosen)), slog.Float64("duration_ms", r.DurationMS),
	)
	if c := r.winner(); c != nil {
		attrs = append(attrs, slog.Int("cached_tokens", c.CachedTokens), slog.Float64("predicted_ttft_ms", c.TTFTMS))
	}
	if r.ObservedTTFTMS != nil {
		attrs = append(attrs, slog.Float64("ttft_ms", *r.ObservedTTFTMS))
	}
	if err != nil {
		attrs = append(attrs, slog.String("error", asError(err).forLog()))
	}
	x.g.c.Access.LogAttrs(x.ctx, level, "request", attrs...)
}
