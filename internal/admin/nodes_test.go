package admin_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/admin/api"
	"github.com/freshet/freshet/internal/admin"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
)

// Nodes that do not cache are listed with the reason, those in a wrong namespace too.
func TestNodesSayWhyTheyDoNotCache(t *testing.T) {
	r := newRig(t, nil)
	ns := r.redis.Namespace(t)
	for _, cfg := range []invalidation.Config{{Namespace: r.cfg.Namespace, ID: "lonely-" + ns}, {Namespace: ns, ID: "stray-" + ns}} {
		cfg.Datasets, cfg.JoinWait = r.datasets, 1
		n, err := invalidation.Join(t.Context(), r.redis.Client(t), cfg)
		must(t, err)
		t.Cleanup(func() { must(t, n.Close()) })
	}
	testenv.Eventually(t, 30*time.Second, func(context.Context) error {
		var out struct{ Nodes, Strays []api.Node }
		r.want(http.StatusOK, "viewer", http.MethodGet, "/v1/nodes", nil).into(t, &out)
		if len(out.Nodes) != 1 || len(out.Nodes[0].NotReady) != 1 || !strings.Contains(out.Nodes[0].NotReady[0], "does not exist") {
			return fmt.Errorf("nodes: %+v", out.Nodes)
		}
		for _, n := range out.Strays { // other tests have some as well
			if n.ID == "stray-"+ns && n.Namespace == ns && len(n.NotReady) == 1 {
				return nil
			}
		}
		return fmt.Errorf("strays: %+v", out.Strays)
	})
}

// A Redis user that may read its own namespace alone sees the nodes of that.
func TestNodesOfAUserOfOneNamespace(t *testing.T) {
	r := newRig(t, func(c *admin.Config) {
		rdb := testenv.Redis(t).Client(t)
		must(t, rdb.Do(t.Context(), "ACL", "SETUSER", c.Namespace, "on", ">pw", "~{fr:"+c.Namespace+":*", "&*", "+@all").Err())
		t.Cleanup(func() { must(t, rdb.Do(context.Background(), "ACL", "DELUSER", c.Namespace).Err()) })
		o := *rdb.Options()
		o.Username, o.Password = c.Namespace, "pw"
		own := redis.NewClient(&o)
		t.Cleanup(func() { must(t, own.Close()) })
		c.Redis = own
	})
	var out struct{ Nodes []api.Node }
	if r.want(http.StatusOK, "viewer", http.MethodGet, "/v1/nodes", nil).into(t, &out); out.Nodes == nil {
		t.Error("no list of nodes")
	}
}
