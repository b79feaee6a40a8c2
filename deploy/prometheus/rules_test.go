// Package prometheus_test runs Prometheus' own programs over what this folder has, and compares it with the docs.
package prometheus_test

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/freshet/freshet/internal/testenv"
)

// rule is an alert or a recording rule.
type rule struct {
	Alert, Record, Expr string
	Labels, Annotations map[string]string
}

// rules returns the rules of rules.yml.
func rules(t *testing.T) (alerts, records []rule) {
	t.Helper()
	var file struct{ Groups []struct{ Rules []rule } }
	decode(t, "rules.yml", &file)
	for _, g := range file.Groups {
		for _, r := range g.Rules {
			if r.Alert != "" {
				alerts = append(alerts, r)
			} else {
				records = append(records, r)
			}
		}
	}
	if len(alerts) < 20 || len(records) < 4 {
		t.Fatalf("%d alerts and %d recording rules", len(alerts), len(records))
	}
	return alerts, records
}

func decode(t *testing.T, name string, v any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, name)), v); err != nil {
		t.Fatalf("decode %s: %v", name, err)
	}
}

func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// promtool runs it in this folder.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	path, err := exec.LookPath("promtool")
	if err != nil {
		testenv.Skip(t, "promtool is not installed (Debian: prometheus)")
	}
	if out, err := exec.CommandContext(t.Context(), path, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %v: %v\n%s", args, err, bytes.TrimSpace(out))
	}
}

func TestRulesAreAccepted(t *testing.T) { promtool(t, "check", "rules", "rules.yml") }

// Each alert is quiet, fires and is quiet again, as rules_test.yml states.
func TestAlertsFireAndClear(t *testing.T) { promtool(t, "test", "rules", "rules_test.yml") }

func TestConfigurationIsAccepted(t *testing.T) {
	dir := t.TempDir()
	token := filepath.Join(dir, "token")
	for name, text := range map[string]string{
		"token": "secret", "rules.yml": read(t, "rules.yml"),
		"prometheus.yml": strings.ReplaceAll(read(t, "prometheus.yml"), "/etc/prometheus/freshet-token", token),
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	promtool(t, "check", "config", filepath.Join(dir, "prometheus.yml"))
}

// An alert states what it means, has a runbook, and has a case in which it is quiet, one in which it fires and a later one in which
// it is quiet again.
func TestAlertsAreComplete(t *testing.T) {
	alerts, _ := rules(t)
	page := read(t, "../../docs/runbooks.md")
	cases := alertCases(t)
	for _, a := range alerts {
		for _, name := range []string{"summary", "description", "runbook_url"} {
			if a.Annotations[name] == "" {
				t.Errorf("%s has no %s", a.Alert, name)
			}
		}
		if s := a.Labels["severity"]; s != "critical" && s != "warning" {
			t.Errorf("%s: severity %q", a.Alert, s)
		}
		if want := "https://github.com/freshet/freshet/blob/main/docs/runbooks.md#" + strings.ToLower(a.Alert); a.Annotations["runbook_url"] != want {
			t.Errorf("%s: runbook_url %s, want %s", a.Alert, a.Annotations["runbook_url"], want)
		}
		if strings.Count(page, "\n### "+a.Alert+"\n") != 1 {
			t.Errorf("docs/runbooks.md has no section %s", a.Alert)
		}
		if got := cases[a.Alert]; !slices.Equal(got, []bool{false, true, false}) {
			t.Errorf("rules_test.yml: %s fires at its times: %v; want quiet, firing, quiet", a.Alert, got)
		}
		delete(cases, a.Alert)
	}
	for name := range cases {
		t.Errorf("rules_test.yml has %s, which is not an alert", name)
	}
	for _, m := range regexp.MustCompile(`(?m)^### (Freshet\w+)$`).FindAllStringSubmatch(page, -1) {
		if !slices.ContainsFunc(alerts, func(a rule) bool { return a.Alert == m[1] }) {
			t.Errorf("docs/runbooks.md has %s, which is not an alert", m[1])
		}
	}
}

// alertCases returns, for each alert of rules_test.yml in the order of time, whether it is expected to fire.
func alertCases(t *testing.T) map[string][]bool {
	t.Helper()
	var file struct {
		Tests []struct {
			Name  string
			Cases []struct {
				Expr    string
				At      string `yaml:"eval_time"`
				Samples []any  `yaml:"exp_samples"`
			} `yaml:"promql_expr_test"`
		}
	}
	decode(t, "rules_test.yml", &file)
	out := map[string][]bool{}
	for _, one := range file.Tests {
		last := time.Duration(-1)
		for _, c := range one.Cases {
			if c.Expr != `ALERTS{alertname="`+one.Name+`",alertstate="firing"}` {
				t.Errorf("%s: asks for %s", one.Name, c.Expr)
			}
			at, err := time.ParseDuration(c.At)
			if err != nil || at <= last {
				t.Errorf("%s: times out of order: %s, %v", one.Name, c.At, err)
			}
			last = at
			out[one.Name] = append(out[one.Name], len(c.Samples) > 0)
		}
	}
	return out
}

// Rules use only metrics that exist, and what is recorded here.
func TestRulesUseListedMetrics(t *testing.T) {
	alerts, records := rules(t)
	known := knownMetrics(t)
	for _, r := range records {
		known[r.Record] = true
	}
	for _, r := range slices.Concat(alerts, records) {
		for _, name := range unknownMetrics(known, r.Expr) {
			t.Errorf("%s%s uses %s, which docs/metrics.md does not list", r.Alert, r.Record, name)
		}
	}
}

// knownMetrics returns the metrics of docs/metrics.md, with the series of their histograms.
func knownMetrics(t *testing.T) map[string]bool {
	t.Helper()
	known := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `(freshet_\\w+)` \\| (\\w+) \\|").FindAllStringSubmatch(read(t, "../../docs/metrics.md"), -1) {
		known[m[1]] = true
		if m[2] == "histogram" {
			known[m[1]+"_bucket"], known[m[1]+"_sum"], known[m[1]+"_count"] = true, true, true
		}
	}
	if len(known) < 100 {
		t.Fatalf("docs/metrics.md lists %d metrics", len(known))
	}
	return known
}

// unknownMetrics returns the names in a query that are metrics of Freshet and not known.
func unknownMetrics(known map[string]bool, query string) []string {
	unknown := map[string]bool{}
	query = regexp.MustCompile(`"[^"]*"`).ReplaceAllString(query, `""`)
	for _, name := range regexp.MustCompile(`[a-zA-Z_:][\w:]*`).FindAllString(query, -1) {
		if strings.Contains(name, "freshet_") && !known[name] {
			unknown[name] = true
		}
	}
	return slices.Sorted(maps.Keys(unknown))
}
