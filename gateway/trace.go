package gateway

import (
	"context"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/kvasir-ai/kvasir/router"
)

// Attributes of the spans: request -> tokenize, decide, onboard, upstream. They
// hold no prompt text.

// span begins one; without a tracer it is none, and free.
func (g *Gateway) span(ctx context.Context, name string, kind trace.SpanKind) (context.Context, trace.Span) {
	if g.c.Tracer == nil {
		return ctx, noSpan
	}
	return g.c.Tracer.Start(ctx, name, trace.WithSpanKind(kind))
}

var noSpan = trace.SpanFromContext(context.Background())

func decisionAttributes(policy string, candidates int, e *router.Estimate) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("kvasir.policy", policy),
		attribute.String("kvasir.worker", string(e.Worker)),
		attribute.Int("kvasir.candidates", candidates),
		attribute.Int("kvasir.cached_tokens", e.CachedTokens),
		attribute.Float64("kvasir.queue_ms", e.QueueMS),
		attribute.Float64("kvasir.restore_ms", e.RestoreMS),
		attribute.Float64("kvasir.prefill_ms", e.PrefillMS),
	}
}

func onboardAttributes(o *Onboarded) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.Int("kvasir.blocks.planned", o.Planned),
		attribute.Int("kvasir.blocks.restored", restored(o.Blocks)),
		attribute.Int("kvasir.blocks.missed", o.Missed),
		attribute.Int64("kvasir.bytes", o.Bytes),
	}
}

func recordAttributes(r *Record) []attribute.KeyValue {
	return []attribute.KeyValue{
		attribute.String("kvasir.request_id", r.RequestID),
		attribute.String("gen_ai.operation.name", r.Endpoint),
		attribute.String("gen_ai.request.model", r.Model),
		attribute.Int("kvasir.tokens", r.Tokens),
		attribute.Int("http.response.status_code", r.Status),
		attribute.String("kvasir.outcome", r.Outcome),
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// formatMS prints milliseconds as a header has them: to the microsecond, as
// records do.
func formatMS(ms float64) string { return strconv.FormatFloat(ms, 'f', 3, 64) }
