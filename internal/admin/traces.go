package admin

import (
	"net/http"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/tracecontext"
)

// traced records a span for a request that was let in and whose caller's trace is recorded. What the request publishes continues that span; an
// event in the JSON format that states a trace of its own keeps it.
func traced(tracer trace.Tracer) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		r, _ := humago.Unwrap(hc)
		parent := r.Header.Get("Traceparent")
		if tracer == nil || !tracecontext.Sampled(parent) {
			next(hc)
			return
		}
		op := hc.Operation()
		ctx, span := tracer.Start(tracecontext.With(r.Context(), parent, r.Header.Get("Tracestate")), "freshet api", trace.WithSpanKind(trace.SpanKindServer),
			trace.WithAttributes(attribute.String("http.request.method", op.Method), attribute.String("http.route", op.Path)))
		defer span.End() // also when the handler aborts the answer
		if own, state := tracecontext.Texts(ctx); own != "" {
			r.Header.Set("Traceparent", own) // events in binary mode take theirs from here
			r.Header.Del("Tracestate")
			if state != "" {
				r.Header.Set("Tracestate", state)
			}
		}
		next(huma.WithContext(hc, ctx))
		if status := hc.Status(); status != 0 {
			span.SetAttributes(attribute.Int("http.response.status_code", status))
			if status >= http.StatusInternalServerError {
				span.SetStatus(otelcodes.Error, http.StatusText(status))
			}
		}
	}
}
