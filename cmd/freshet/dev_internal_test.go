//go:build !nodev

package main

import (
	"encoding/json"
	"testing"
)

// The promise of the first screen: one process, traffic through every part, and all copies agree.
func TestDevEndsWithOneJSONObject(t *testing.T) {
	out, errOut, code := freshet(t, nil, "dev", "--duration", "4s", "--json", "--rate", "40", "--records", "40")
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
	if v, ok := r["publish_to_visible_ms"].(map[string]any); !ok || v["p50"] == nil || v["p99"] == nil {
		t.Errorf("publish_to_visible_ms is %v", r["publish_to_visible_ms"])
	}
}
