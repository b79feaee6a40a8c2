package producer

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/tracecontext"
	"github.com/freshet/freshet/schemas"
)

// traced lets an event carry a trace on: its own, that of a new span for its publication, or that of the span in ctx. end finishes the span;
// it is nil without one.
func (p *Producer) traced(ctx context.Context, ev *schemas.Event) (end func(error)) {
	if p.tracer == nil {
		if ev.TraceParent == "" && tracecontext.Fits(len(ev.Data)) {
			ev.TraceParent, ev.TraceState = tracecontext.Texts(ctx)
		}
		return nil
	}
	if ev.TraceParent != "" {
		ctx = tracecontext.With(ctx, ev.TraceParent, ev.TraceState)
	}
	ctx, span := p.tracer.Start(ctx, "freshet publish", trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.String("messaging.system", "kafka"), attribute.String("freshet.dataset", ev.Dataset)))
	if parent, state := tracecontext.Texts(ctx); parent != "" && (ev.TraceParent != "" || tracecontext.Fits(len(ev.Data))) {
		ev.TraceParent, ev.TraceState = parent, state
	}
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

// tracedAll is traced for events of the caller, which are copied where something changes.
func (p *Producer) tracedAll(ctx context.Context, events []schemas.Event) (out []schemas.Event, end func(error)) {
	if parent, _ := tracecontext.Texts(ctx); p.tracer == nil && parent == "" {
		return events, nil
	}
	out = append([]schemas.Event(nil), events...)
	ends := make([]func(error), 0, len(out))
	for i := range out {
		if one := p.traced(ctx, &out[i]); one != nil {
			ends = append(ends, one)
		}
	}
	return out, func(err error) {
		for _, one := range ends {
			one(err)
		}
	}
}
