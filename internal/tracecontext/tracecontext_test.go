package tracecontext_test

import (
	"testing"

	"go.opentelemetry.io/otel/trace"

	"github.com/freshet/freshet/internal/tracecontext"
)

const good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

func TestTextsAndBack(t *testing.T) {
	sc, ok := tracecontext.Parse(good, "a=b")
	if !ok || !sc.IsRemote() || !sc.IsSampled() || sc.TraceState().String() != "a=b" {
		t.Fatalf("%v, %v", sc, ok)
	}
	if parent, state := tracecontext.Texts(trace.ContextWithSpanContext(t.Context(), sc)); parent != good || state != "a=b" {
		t.Errorf("%s, %s", parent, state)
	}
	off, ok := tracecontext.Parse(good[:54]+"0", "")
	if parent, _ := tracecontext.Texts(trace.ContextWithSpanContext(t.Context(), off)); !ok || parent != "" {
		t.Errorf("a trace that is not recorded is carried: %s", parent)
	}
	if id := tracecontext.ID(good); id != "0af7651916cd43dd8448eb211c80319c" || tracecontext.ID(good[1:]) != "" {
		t.Errorf("the id of the trace is %q", id)
	}
	if _, ok := tracecontext.Parse(good, "no state"); !ok {
		t.Error("a broken state ends the trace")
	}
}

func TestWhatIsNoParent(t *testing.T) {
	for _, parent := range []string{
		"", "00", good[:54], good + "-x", "ff" + good[2:], good[:3] + "00000000000000000000000000000000" + good[35:], good[:36] + "0000000000000000" + good[52:],
		good[:53] + "zz", "00_" + good[3:], good[:3] + "0AF7651916CD43DD8448EB211C80319C" + good[35:],
	} {
		if _, ok := tracecontext.Parse(parent, ""); ok {
			t.Errorf("%q is taken", parent)
		}
	}
	if _, ok := tracecontext.Parse("01"+good[2:]+"-later", ""); !ok {
		t.Error("a later version is refused, whose first fields are the same")
	}
}

func TestSampled(t *testing.T) {
	for parent, want := range map[string]bool{good: true, good[:54] + "0": false, good[:53] + "03": true, "": false, good[:50]: false} {
		if got := tracecontext.Sampled(parent); got != want {
			t.Errorf("%q: %v", parent, got)
		}
	}
	if n := testing.AllocsPerRun(10, func() {
		if !tracecontext.Sampled(good) {
			t.Error("not sampled")
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
