package main

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/demo"
	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// freshetDev runs the program in process.
func freshetDev(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	var out, errOut bytes.Buffer
	code = run(t.Context(), args, &program{in: strings.NewReader(""), out: &out, err: &errOut})
	return out.String(), errOut.String(), code
}

// The promise of the first screen: one process, traffic through every part, and all copies agree.
func TestDevEndsWithOneJSONObject(t *testing.T) {
	out, errOut, code := freshetDev(t, "--duration", "4s", "--json", "--rate", "40", "--records", "40")
	if code != exitDone {
		t.Fatalf("exit code %d\n%s\n%s", code, out, errOut)
	}
	var r map[string]any
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		t.Fatalf("%v in %q", err, out)
	}
	for _, name := range []string{"published", "applied", "reads", "hits", "events_per_second", "nodes"} {
		if n, ok := r[name].(float64); !ok || n <= 0 {
			t.Errorf("%s is %v", name, r[name])
		}
	}
	if r["published"] != r["applied"] || r["converged"] != true || r["stale_beyond_bound"] != 0.0 || r["dead_lettered"] != 0.0 {
		t.Errorf("got %v", r)
	}
	v, _ := r["publish_to_visible_ms"].(map[string]any)
	p50, _ := v["p50"].(float64)
	p99, _ := v["p99"].(float64)
	if n, _ := v["samples"].(float64); p50 <= 0 || p99 < p50 || n < 1 {
		t.Errorf("publish_to_visible_ms is %v", v)
	}
}

// Where nothing was measured there are no percentiles, rather than zeros.
func TestDevReportWithoutSamples(t *testing.T) {
	text, err := json.Marshal(newReport(demo.Snapshot{}, demo.Convergence{}, nil).PublishToVisible)
	if err != nil || string(text) != `{"p50":null,"p99":null,"samples":0}` {
		t.Errorf("%s, %v", text, err)
	}
}

func TestDevFlags(t *testing.T) {
	for _, tc := range []struct {
		args    []string
		code    int
		out, in string // texts of stdout and stderr
	}{
		{[]string{"--help"}, exitDone, "changes per second", ""},
		{[]string{"--fly"}, exitUsage, "", "freshet-dev --help"},
		{[]string{"now"}, exitUsage, "", `"now" is not a flag`},
		{[]string{"--nodes", "0"}, exitUsage, "", "at least 1"},
		{[]string{"--log-level", "loud"}, exitUsage, "", "log-level"},
	} {
		out, errOut, code := freshetDev(t, tc.args...)
		if code != tc.code || !strings.Contains(out, tc.out) || !strings.Contains(errOut, tc.in) {
			t.Errorf("%q: exit code %d, %q, %q; want %+v", tc.args, code, out, errOut, tc)
		}
	}
}
