package admin_test

import (
	"log/slog"
	"net/http"
	"testing"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/invalidation/lane"
)

// A copy that is ahead of its row is found when an operator asks, with its dataset and key.
func TestVerifyNow(t *testing.T) {
	r := newRig(t, func(c *admin.Config) { c.Logger = slog.New(slog.NewTextHandler(t.Output(), nil)) })
	body := map[string]any{"dataset": "items"}
	r.want(http.StatusForbidden, "viewer", http.MethodPost, "/v1/consistency/verify", body)
	r.want(http.StatusNotFound, "operator", http.MethodPost, "/v1/consistency/verify", map[string]any{"dataset": "none"})
	_, err := r.db.Exec("INSERT INTO items (id, n, _version, _deleted, _at) VALUES ('a', 1, 5, 0, 1), ('b', 1, 5, 0, 1)")
	must(t, err)
	var v api.Verification
	r.want(http.StatusOK, "operator", http.MethodPost, "/v1/consistency/verify", body).into(t, &v)
	if v.Records != 2 || v.Copies != 0 || len(v.Stale)+len(v.Ahead) != 0 {
		t.Errorf("nothing is cached: %+v", v)
	}
	scripts, err := lane.New(r.redis.Client(t), lane.Config{Namespace: r.cfg.Namespace})
	must(t, err)
	_, err = scripts.Root(t.Context(), 0, lane.RootRequest{})
	must(t, err)
	got, err := scripts.Get(t.Context(), "item:b", "lease")
	must(t, err)
	status, err := scripts.Fill(t.Context(), lane.FillRequest{Key: "item:b", Token: "lease", Version: 9, Value: []byte("x"), Primary: true})
	must(t, err)
	t.Logf("get %+v, fill %v", got, status)
	r.want(http.StatusOK, "operator", http.MethodPost, "/v1/consistency/verify", body).into(t, &v)
	if v.Copies != 1 || len(v.Ahead) != 1 || v.Ahead[0].Key != "b" || v.Ahead[0].Dataset != "items" || v.Ahead[0].Tier != "shared" {
		t.Errorf("a copy is ahead: %+v", v)
	}
	var history struct{ Items []api.ConsistencyPoint }
	r.want(http.StatusOK, "viewer", http.MethodGet, "/v1/consistency/history", nil).into(t, &history)
	if history.Items == nil {
		t.Error("the history is no list")
	}
}
