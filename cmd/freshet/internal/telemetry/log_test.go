package telemetry_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/cmd/freshet/internal/telemetry"
)

// Durations in logs have a unit that people can read: seconds in JSON, a unit of its own in text.
func TestDurationsInLogs(t *testing.T) {
	var out strings.Builder
	log := telemetry.NewLogger(&out, "info", "json").With("wait", 1500*time.Millisecond)
	log.WithGroup("g").Info("m", "took", 2*time.Second, "n", 7)
	var line struct {
		Wait float64 `json:"wait"`
		G    struct {
			Took float64 `json:"took"`
			N    int     `json:"n"`
		} `json:"g"`
	}
	if err := json.Unmarshal([]byte(out.String()), &line); err != nil {
		t.Fatal(err)
	}
	if line.Wait != 1.5 || line.G.Took != 2 || line.G.N != 7 {
		t.Errorf("logged %s", out.String())
	}
	out.Reset()
	telemetry.NewLogger(&out, "info", "text").Info("m", "took", 2*time.Second)
	if !strings.Contains(out.String(), "took=2s") {
		t.Errorf("logged %s", out.String())
	}
}
