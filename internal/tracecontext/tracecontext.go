// Package tracecontext converts between the texts that events carry (W3C Trace Context) and OpenTelemetry's span contexts. Whatever is
// not sampled costs one comparison: Freshet carries trace contexts only where a trace is recorded.
package tracecontext

import (
	"context"
	"encoding/hex"

	"go.opentelemetry.io/otel/trace"
)

// Name is the instrumentation scope of Freshet's spans.
const Name = "github.com/freshet/freshet"

const (
	length  = 55 // 00-<32 hex>-<16 hex>-<2 hex>
	flagsAt = 53

	maxState = 512
	// maxTraced is the greatest record that a trace is added to: beyond it, it could be what makes the record too large.
	maxTraced = 990_000
)

// Sampled reports whether a traceparent says that its trace is recorded. It allocates nothing.
func Sampled(parent string) bool {
	if len(parent) < length {
		return false
	}
	switch parent[flagsAt+1] { // the lowest bit of the last digit
	case '1', '3', '5', '7', '9', 'b', 'd', 'f':
		return true
	}
	return false
}

// Parse reads a traceparent with its tracestate, as a parent that is elsewhere. ok is false for one that is not valid.
func Parse(parent, state string) (sc trace.SpanContext, ok bool) {
	if len(parent) < length || parent[2] != '-' || parent[35] != '-' || parent[52] != '-' || parent[:2] == "ff" || len(parent) > length && (parent[:2] == "00" || parent[length] != '-') {
		return sc, false
	}
	var flags [1]byte
	id, err1 := trace.TraceIDFromHex(parent[3:35])
	span, err2 := trace.SpanIDFromHex(parent[36:52])
	if _, err3 := hex.Decode(flags[:], []byte(parent[flagsAt:length])); err1 != nil || err2 != nil || err3 != nil {
		return sc, false
	}
	ts, err := trace.ParseTraceState(state)
	if err != nil {
		ts = trace.TraceState{} // the trace continues without it
	}
	return trace.NewSpanContext(trace.SpanContextConfig{TraceID: id, SpanID: span, TraceFlags: trace.TraceFlags(flags[0]), TraceState: ts, Remote: true}), true
}

// Texts are the traceparent and the tracestate of the span that ctx carries; both are "" unless it is sampled.
func Texts(ctx context.Context) (parent, state string) {
	sc := trace.SpanContextFromContext(ctx)
	if !sc.IsValid() || !sc.IsSampled() {
		return "", ""
	}
	if state = sc.TraceState().String(); len(state) > maxState {
		state = "" // the specification allows it, and clients choose how long it is
	}
	return "00-" + sc.TraceID().String() + "-" + sc.SpanID().String() + "-" + sc.TraceFlags().String(), state
}

// ID returns the id of a trace as log lines have it, "" for a traceparent that is not valid.
func ID(parent string) string {
	sc, ok := Parse(parent, "")
	if !ok {
		return ""
	}
	return sc.TraceID().String()
}

// Fits reports whether a trace may be added to an event with data of that size.
func Fits(size int) bool { return size <= maxTraced }

// With returns a context whose parent span is the one that the texts name; ctx itself if they name none.
func With(ctx context.Context, parent, state string) context.Context {
	sc, ok := Parse(parent, state)
	if !ok {
		return ctx
	}
	return trace.ContextWithRemoteSpanContext(ctx, sc)
}

// Tracer is the tracer of a provider; nil for none.
func Tracer(p trace.TracerProvider) trace.Tracer {
	if p == nil {
		return nil
	}
	return p.Tracer(Name)
}
