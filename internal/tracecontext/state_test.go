package tracecontext_test

import (
	"strings"
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/tracecontext"
)

// A client chooses how long its tracestate is: it must not be able to make an event fail.
func TestLongTraceStateIsDropped(t *testing.T) {
	var members []string
	for _, name := range []string{"a", "b", "c", "d", "e"} {
		members = append(members, name+"="+strings.Repeat("x", 250))
	}
	sc, ok := tracecontext.Parse("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", strings.Join(members, ","))
	if !ok || sc.TraceState().Len() != len(members) {
		t.Fatalf("%v, %v", sc, ok)
	}
	parent, state := tracecontext.Texts(trace.ContextWithSpanContext(t.Context(), sc))
	if parent == "" || state != "" {
		t.Errorf("%s, state of %d bytes", parent, len(state))
	}
}
