package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/freshet/freshet/admin/api"
)

// Each reason of each node is printed, and the nodes that may be in a wrong namespace.
func TestNodesPrintWhyTheyDoNotCache(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string][]api.Node{
			"nodes": {
				{ID: "n1", Lanes: []api.NodeLane{{Fresh: true}}, NotReady: []string{"dataset users is not cached: it differs", "the loader returns no version"}},
				{ID: "n2", Lanes: []api.NodeLane{{Fresh: true}}},
			},
			"strays": {{ID: "n3", Namespace: "elsewhere"}},
		})
	}))
	defer srv.Close()
	out, errOut, code := freshet(t, nil, "nodes", "--client-url", srv.URL)
	if code != exitDone {
		t.Fatalf("exit code %d, %s", code, errOut)
	}
	for _, want := range []string{"serves in part", "n1 does not cache: dataset users is not cached", "n1 does not cache: the loader", "n3", "namespace elsewhere"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	if strings.Contains(out, "n2 does not cache") {
		t.Errorf("n2 caches:\n%s", out)
	}
}
