package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kvasir-ai/kvasir/internal/kv"
)

// split is one attempt to have two workers serve a request: the first computes the
// prompt, the second takes its KV over and answers. Whatever goes wrong with that
// before the answer began leaves a request that any worker can serve: it is placed
// again.
type split struct {
	x      *exchange
	first  *placement // its estimate is the first leg's
	booked *booking   // of the first leg
	by     handover

	// fault is what the attempt failed of, if it is the split's: then the second
	// worker is not to blame.
	fault fault
	// The first leg where both run at once: ended when it did, err being why it
	// failed, which also ends the second.
	ended  chan struct{}
	err    atomic.Pointer[firstLegError]
	cancel context.CancelFunc
	across atomic.Bool // the KV: the second leg brought its first token

	details atomic.Pointer[[]byte] // the first leg's prompt_tokens_details, as it is in JSON
	sent    time.Time              // the second leg
}

type fault uint8

const (
	noFault       fault = iota
	faultFirst          // the prefill worker's
	faultHandover       // the KV did not get across
)

// firstLegError is a first leg that failed. worker says that its worker has.
type firstLegError struct {
	error
	worker bool
}

func (e *firstLegError) Unwrap() error { return e.error }

// unsplittable says why the request cannot be served by two workers, "" if it can.
func (x *exchange) unsplittable() string {
	f := &x.q.fields
	switch {
	case x.whole != "":
		return x.whole
	case x.prompt.tokens == nil || x.prompt.batch:
		return "its exact tokens are not known"
	case f.above(fieldN, 1), f.above(fieldBestOf, 1), string(f[fieldUseBeamSearch]) == "true":
		return "it has several answers"
	case string(f[fieldEcho]) == "true", f.has(fieldPromptLogprobs):
		return "it echoes its prompt, which only who computes it can"
	case f.has(fieldKVTransferParams):
		return "it has kv_transfer_params of its own"
	case f.has(fieldToolChoice) && string(f[fieldToolChoice]) != `"auto"` && string(f[fieldToolChoice]) != `"none"`:
		return "it must call a tool, and a first leg's one token calls none"
	}
	return ""
}

// begin has the first leg compute the prompt, or start to, and returns what the
// second is sent. ctx is the attempt's, which abandon ends.
func (s *split) begin(ctx context.Context, abandon context.CancelCauseFunc, path string, body []byte) ([]byte, error) {
	first, err := s.by.prefill(body)
	if err != nil {
		return nil, s.broken(faultHandover, err)
	}
	if s.by.atOnce() {
		second, err := s.by.decode(body, nil)
		if err != nil {
			return nil, s.broken(faultHandover, err)
		}
		s.beside(ctx, abandon, path, first)
		return second, nil
	}
	answer, err := s.prefill(ctx, path, first)
	if err != nil {
		return nil, s.broken(faultFirst, err)
	}
	second, err := s.by.decode(body, answer)
	if err != nil {
		s.x.legs(s.first.worker.ID(), kv.Prefill, legEmpty, 0, err)
		return nil, s.broken(faultHandover, err)
	}
	return second, nil
}

// broken notes what the attempt fails of.
func (s *split) broken(f fault, err error) error {
	s.fault = f
	return err
}

// beside runs the first leg beside the second. When it fails the second has
// nothing to wait for, and when the second has ended nobody needs the first: one
// whose twin is gone would wait for ever.
func (s *split) beside(ctx context.Context, abandon context.CancelCauseFunc, path string, body []byte) {
	ctx, cancel := context.WithCancel(ctx)
	s.cancel, s.ended = cancel, make(chan struct{})
	go func() {
		defer close(s.ended)
		if _, err := s.prefill(ctx, path, body); err != nil && ctx.Err() == nil && !s.across.Load() {
			var failed *firstLegError
			errors.As(err, &failed)
			s.err.Store(failed)
			abandon(failed)
		}
	}()
}

// end ends what is left of the attempt.
func (s *split) end() {
	if s.cancel != nil {
		s.cancel()
		<-s.ended
	}
	s.booked.release()
}

// prefill sends the first leg and returns its answer. Its load is in the books
// until it has answered.
func (s *split) prefill(ctx context.Context, path string, body []byte) (answer []byte, err error) {
	x, w := s.x, s.first.worker
	ctx, span := x.g.span(ctx, "kvasir.prefill", trace.SpanKindClient)
	if span.IsRecording() {
		span.SetAttributes(attribute.String("kvasir.worker", string(w.ID())))
	}
	defer span.End()
	defer s.booked.release()
	ctx, abandon := context.WithCancelCause(ctx)
	defer abandon(nil)
	silence := time.AfterFunc(x.g.c.Limits.FirstByte, func() { abandon(errSilent) })
	defer silence.Stop()

	began := x.g.c.Now()
	answer, outcome, err := s.ask(ctx, path, body)
	took := milliseconds(x.g.c.Now().Sub(began))
	if err != nil {
		if ctx.Err() != nil && !errors.Is(context.Cause(ctx), errSilent) {
			outcome = legCancelled
		}
		err = silenced(ctx, err)
		x.legs(w.ID(), kv.Prefill, outcome, took, err)
		span.RecordError(err)
		if outcome == legFailed {
			w.ReportFailure(err)
			x.g.metrics.upstreamErrors.WithLabelValues(x.q.model, string(w.ID())).Inc()
		}
		return nil, &firstLegError{fmt.Errorf("the prefill worker %s: %w", w.ID(), err), outcome == legFailed || outcome == legRefused}
	}
	w.ReportSuccess()
	if raw := usageDetails(answer); raw != nil {
		s.details.Store(&raw)
	}
	s.booked.firstToken()
	s.learnPrefill(answer, took)
	x.legs(w.ID(), kv.Prefill, legOK, took, nil)
	return answer, nil
}

// ask is one call of the prefill worker.
func (s *split) ask(ctx context.Context, path string, body []byte) (answer []byte, outcome string, err error) {
	x := s.x
	resp, err := x.post(ctx, s.first, path, body)
	if err != nil {
		return nil, legFailed, err
	}
	defer resp.Body.Close()
	limit := x.g.c.Limits.Answer
	answer, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	switch {
	case err != nil:
		return nil, legFailed, err
	case resp.StatusCode == http.StatusBadGateway, resp.StatusCode == http.StatusServiceUnavailable, resp.StatusCode == http.StatusTooManyRequests:
		return nil, legRefused, errors.New(resp.Status)
	case resp.StatusCode >= 500:
		return nil, legFailed, fmt.Errorf("%s: %s", resp.Status, errorMessage(answer))
	case resp.StatusCode != http.StatusOK:
		return nil, legEmpty, fmt.Errorf("%s: %s", resp.Status, errorMessage(answer)) // the second leg's to judge
	case int64(len(answer)) > limit:
		return nil, legFailed, fmt.Errorf("more than the %d bytes that this gateway takes", limit)
	}
	return answer, legOK, nil
}

// learnPrefill feeds what the first leg showed back into the calibration.
func (s *split) learnPrefill(answer []byte, took float64) {
	x, p := s.x, s.first
	cached := p.estimate.CachedTokens
	if u := usageOf(answer); u != nil && u.CachedTokens >= 0 {
		cached = u.CachedTokens
	}
	tokens := x.prompt.total
	g := x.g
	g.placing.Lock()
	defer g.placing.Unlock()
	g.c.Calibration.ObserveTTFT(p.worker.ID(), p.estimate.TTFTMS, took)
	if p.idle && p.estimate.RestoreMS == 0 && !s.by.atOnce() { // else it also waited for its twin
		g.c.Calibration.ObservePrefill(p.worker.ID(), tokens-max(0, min(cached, tokens-1)), tokens, took, p.behindMS)
	}
}

// arrived takes in that the second leg brought its first token: the KV is across.
func (s *split) arrived(p *placement) {
	x := s.x
	s.across.Store(true)
	now := x.g.c.Now()
	took := milliseconds(now.Sub(s.sent))
	x.legs(p.worker.ID(), kv.Decode, legOK, took, nil)
	e := p.estimate.Split
	x.g.placing.Lock()
	defer x.g.placing.Unlock()
	p.seat.handoff.failed = 0
	if s.by.atOnce() || e.WaitMS > 0 || !x.q.stream && x.q.maxTokens != 1 {
		return // there is more in it than the transfer
	}
	perBlock := p.seat.handoffBlockBytes(p.seat.speeds.Rates())
	p.seat.learnHandoffLocked(s.first, float64(e.TransferBlocks*perBlock), took-e.StepMS, now)
}

// blamed says that the second leg's failure, before any of its answer was sent, is
// the split's.
func (s *split) blamed(p *placement, cause error) error {
	x := s.x
	if failed := s.err.Load(); failed != nil {
		return s.broken(faultFirst, failed)
	}
	x.legs(p.worker.ID(), kv.Decode, legFailed, milliseconds(x.g.c.Now().Sub(s.sent)), cause)
	s.first.worker.CheckNow() // it may be dead
	x.g.placing.Lock()
	defer x.g.placing.Unlock()
	p.seat.handoffFailedLocked(x.g.c.Now())
	return s.broken(faultHandover, cause)
}

// mostSplits is how often a request's split may fail before one worker serves it.
const mostSplits = 2

// splitAgain prepares the request to be placed again after its split failed, and
// reports whether it may be.
func (x *exchange) splitAgain(p *placement, err error) bool {
	s := p.split
	delete(x.tried, p.worker.ID())
	first := s.first.worker
	x.entry.update(func(r *Record) {
		r.Failed = append(r.Failed[:len(r.Failed):len(r.Failed)], FailedAttempt{Worker: first.ID(), Why: asError(err).forLog()})
		r.Onboard = nil
	})
	x.log().Warn("a request in two legs is placed again", "prefill", first.ID(), "decode", p.worker.ID(), "error", asError(err).forLog())
	x.splits++
	x.g.metrics.retries.WithLabelValues(x.q.model).Inc()
	switch {
	case s.fault == faultHandover:
		x.whole = "its KV did not get across"
	case x.splits >= mostSplits:
		x.whole = "its first legs failed"
	}
	if s.fault == faultFirst {
		x.tried[first.ID()] = true
		switch failed := (*firstLegError)(nil); {
		case errors.As(err, &failed) && !failed.worker:
			x.whole = "its first leg was refused" // as the whole may be, and then for its own sake
		case !first.Ready():
			x.suspect(s.first, err)
		}
	}
	return x.suspicion <= mostSuspicion
}

// usageDetails is usage.prompt_tokens_details of an answer as it is in JSON; nil
// if there is no usage.
func usageDetails(answer []byte) []byte {
	usage := member(answer, "usage")
	if len(usage) == 0 || usage[0] != '{' {
		return nil
	}
	if details := member(usage, "prompt_tokens_details"); details != nil {
		return bytes.Clone(details)
	}
	return nil
}

var keyDetails = []byte(`"prompt_tokens_details":`)

// truthful appends an answer, or events, of the second leg with the first leg's
// account of the prompt: an engine does not count as cached what another computed,
// or counts all of it.
func (s *split) truthful(dst, b []byte) []byte {
	for {
		i := bytes.Index(b, keyDetails) // inside a JSON string its quotes would be escaped
		if i < 0 {
			return append(dst, b...)
		}
		details := s.told()
		v := scanner{b: b, i: i + len(keyDetails)}
		v.space()
		start := v.i
		if details == nil || v.value(0) != nil {
			return append(dst, b...)
		}
		dst = append(append(dst, b[:start]...), *details...)
		b = b[v.i:]
	}
}

// told is the first leg's account. Its answer may come a moment after the second's.
func (s *split) told() *[]byte {
	if s.ended != nil {
		select {
		case <-s.ended:
		case <-time.After(toldPatience):
		}
	}
	return s.details.Load()
}

const toldPatience = 250 * time.Millisecond
