package telemetry_test

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
	"github.com/freshet/freshet/internal/admin"
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
		want := `# HELP freshet_log_suppressed_total Lines of the log that were left out because an equal one had been written within a minute.
# TYPE freshet_log_suppressed_total counter
freshet_log_suppressed_total{level="error"} 0
freshet_log_suppressed_total{level="warn"} 64
`
		if err := testutil.CollectAndCompare(telemetry.NewLogCollector(log.With("worker", "w1")), strings.NewReader(want)); err != nil {
			t.Error(err)
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

// The API's counts of nodes and workers are no series before the first count: 0 would say that no worker is alive.
func TestMembersBeforeTheFirstCount(t *testing.T) {
	for counted, want := range map[bool]int{false: 1, true: 9} {
		got := 0
		for _, name := range []string{
			"freshet_members_failures_total", "freshet_nodes", "freshet_workers", "freshet_nodes_suspect", "freshet_nodes_stray", "freshet_nodes_oldest_proof_seconds",
			"freshet_nodes_slowest_freshness_seconds",
		} {
			got += testutil.CollectAndCount(telemetry.NewAdminCollector(members{counted}), name)
		}
		if got != want {
			t.Errorf("counted %t: %d series, want %d", counted, got, want)
		}
	}
}

type members struct{ counted bool }

func (members) Stats() admin.Stats { return admin.Stats{} }

func (m members) Members(context.Context) admin.Members { return admin.Members{Counted: m.counted} }
