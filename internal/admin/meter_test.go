package admin_test

import (
	"testing"

	"github.com/freshet/freshet/internal/admin"
)

// Requests are counted under their route's pattern and the class of their answer, and who is not let in by reason. Every route is counted
// from the beginning.
func TestRequestsAreCounted(t *testing.T) {
	r := newRig(t, nil)
	of := func(route string) admin.RouteStats {
		t.Helper()
		for _, s := range r.server.Stats().Routes {
			if s.Route == route {
				return s
			}
		}
		t.Fatalf("route %s is not counted", route)
		return admin.RouteStats{}
	}
	if s := of("/v1/replays/{id}"); len(s.Codes) != 4 || s.Codes["2xx"]+s.Codes["4xx"]+s.Duration.Count != 0 {
		t.Errorf("before any request: %+v", s)
	}
	r.want(200, "viewer", "GET", "/v1/datasets", nil)
	r.want(404, "viewer", "GET", "/v1/replays/none", nil)
	r.want(404, "viewer", "GET", "/v1/nowhere", nil)
	r.want(403, "viewer", "POST", "/v1/datasets/items/pause", map[string]string{"reason": "because"})
	r.want(401, "", "GET", "/v1/datasets", nil)
	if s := of("/v1/datasets"); s.Method != "GET" || s.Codes["2xx"] != 1 || s.Codes["4xx"] != 1 || s.Duration.Count != 2 || s.Duration.Sum <= 0 {
		t.Errorf("datasets: %+v", s)
	}
	if s := of("/v1/replays/{id}"); s.Codes["4xx"] != 1 {
		t.Errorf("one replay: %+v", s)
	}
	if s := of("other"); s.Codes["4xx"] != 1 {
		t.Errorf("no route: %+v", s)
	}
	if got := r.server.Stats().RefusedLogins; got["missing"] != 1 || got["unknown"] != 0 || got["forbidden"] != 1 || got["throttled"] != 0 {
		t.Errorf("refused logins: %v", got)
	}
}
