package telemetry_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
)

// Durations in logs are seconds, in both formats.
func TestDurationsInLogs(t *testing.T) {
	var out strings.Builder
	log := telemetry.NewLogger(&out, "info", "json").With("wait_seconds", 1500*time.Millisecond)
	log.WithGroup("g").Info("m", "duration_seconds", 2*time.Second, "n", 7)
	var line struct {
		Wait float64 `json:"wait_seconds"`
		G    struct {
			Duration float64 `json:"duration_seconds"`
			N        int     `json:"n"`
		} `json:"g"`
	}
	if err := json.Unmarshal([]byte(out.String()), &line); err != nil {
		t.Fatal(err)
	}
	if line.Wait != 1.5 || line.G.Duration != 2 || line.G.N != 7 {
		t.Errorf("logged %s", out.String())
	}
	out.Reset()
	telemetry.NewLogger(&out, "info", "text").Info("m", "duration_seconds", 2*time.Second)
	if !strings.Contains(out.String(), "duration_seconds=2\n") {
		t.Errorf("logged %s", out.String())
	}
}

// What repeats is written once a minute, with the number of lines that were left out.
func TestRepeatedLinesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out strings.Builder
		log := telemetry.NewLogger(&out, "info", "text").With("component", "worker")
		lines := func() []string {
			got := strings.Split(strings.TrimSpace(out.String()), "\n")
			out.Reset()
			return got
		}
		for p := range 64 {
			log.Warn("fetching a partition failed", "topic", "users", "partition", p, "error", errors.New("away"))
		}
		if got := lines(); len(got) != 1 || strings.Contains(got[0], "suppressed") {
			t.Errorf("64 partitions: %q", got)
		}
		log.Warn("fetching a partition failed", "topic", "orders", "partition", 0)
		log.With("component", "relay").Warn("fetching a partition failed", "topic", "users")
		if got := lines(); len(got) != 2 {
			t.Errorf("other subjects: %q", got)
		}
		for p := range 2 {
			log.Error("partition stopped", "topic", "users", "partition", p)
		}
		if got := lines(); len(got) != 2 {
			t.Errorf("errors of two partitions: %q", got)
		}
		<-time.After(59 * time.Second)
		log.Warn("fetching a partition failed", "topic", "users", "partition", 3)
		if got := lines(); got[0] != "" {
			t.Errorf("within the minute: %q", got)
		}
		<-time.After(2 * time.Second)
		log.Warn("fetching a partition failed", "topic", "users", "partition", 3)
		if got := lines(); len(got) != 1 || !strings.Contains(got[0], "suppressed=64") {
			t.Errorf("after a minute: %q", got)
		}
		for range 3 {
			log.Info("dataset is resumed", "dataset", "users")
		}
		if got := lines(); len(got) != 3 {
			t.Errorf("events are limited: %q", got)
		}
		for i := range 3000 {
			log.Warn("many", "dataset", i)
		}
		if got := lines(); len(got) != 3000 {
			t.Errorf("%d different lines of 3000", len(got))
		}
	})
}
