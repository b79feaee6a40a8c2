package main

import (
	"bytes"
	"os"
	"os/exec"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/common/expfmt"
)

// docs/metrics.md is what the collectors show.
func TestPage(t *testing.T) {
	want, err := render(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/metrics.md is not what go generate ./cmd/freshet/internal/telemetry writes")
	}
}

// Names, units and help follow the conventions of Prometheus, by its own linter and by promtool where that is installed.
func TestConventions(t *testing.T) {
	all, err := exporters(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	promtool, missing := exec.LookPath("promtool")
	for _, e := range all {
		reg := prometheus.NewPedanticRegistry()
		reg.MustRegister(e.collectors...)
		problems, err := testutil.GatherAndLint(reg)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range problems {
			t.Errorf("%s: %s: %s", e.title, p.Metric, p.Text)
		}
		if missing != nil {
			continue
		}
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var text bytes.Buffer
		for _, f := range families {
			if _, err := expfmt.MetricFamilyToText(&text, f); err != nil {
				t.Fatal(err)
			}
		}
		check := exec.CommandContext(t.Context(), promtool, "check", "metrics")
		check.Stdin = &text
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: promtool: %v\n%s", e.title, err, out)
		}
	}
	if missing != nil {
		t.Skip("promtool is not installed (Debian: prometheus); the linter of client_golang found nothing")
	}
}
