package prometheus_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// Each query of the dashboard uses metrics that exist and what rules.yml records, and Prometheus can parse it.
func TestDashboardUsesListedMetrics(t *testing.T) {
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal([]byte(read(t, "../grafana/dashboard.json")), &dashboard); err != nil {
		t.Fatal(err)
	}
	known := knownMetrics(t)
	_, records := rules(t)
	for _, r := range records {
		known[r.Record] = true
	}
	var parsed []map[string]string
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			for _, name := range unknownMetrics(known, target.Expr) {
				t.Errorf("panel %s uses %s, which docs/metrics.md does not list", p.Title, name)
			}
			parsed = append(parsed, map[string]string{"record": fmt.Sprintf("panel%d", len(parsed)), "expr": strings.ReplaceAll(target.Expr, "$__rate_interval", "1m")})
		}
	}
	if len(parsed) < 40 {
		t.Fatalf("the dashboard has %d queries", len(parsed))
	}
	text, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "panels", "rules": parsed}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "panels.yml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}
