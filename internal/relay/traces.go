package relay

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/tracecontext"
	"github.com/freshet/freshet/schemas"
)

// traced lets the event of a row carry its trace on in a span of the relay: from the time at which the row was written until Kafka has the event.
// end finishes it. Rows whose trace is not recorded cost one comparison.
func (t *term) traced(ctx context.Context, x *row, ev *schemas.Event) (end func(error)) {
	if t.r.cfg.Tracer == nil || !tracecontext.Sampled(ev.TraceParent) {
		return func(error) {}
	}
	ctx, span := t.r.cfg.Tracer.Start(tracecontext.With(ctx, ev.TraceParent, ev.TraceState), "freshet relay",
		trace.WithTimestamp(time.UnixMilli(x.created)), trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(attribute.String("messaging.system", "kafka"), attribute.String("messaging.destination.name", x.dataset.Topic),
			attribute.String("freshet.dataset", ev.Dataset), attribute.Int64("freshet.outbox.row", x.id)))
	if parent, state := tracecontext.Texts(ctx); parent != "" {
		ev.TraceParent, ev.TraceState = parent, state
	}
	return func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}
