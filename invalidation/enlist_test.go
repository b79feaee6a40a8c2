package invalidation_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/registry/etcd"
)

// A node is listed while it lives: with a warning while it is cut off from Redis, and not at all once it is closed.
func TestNodeIsListed(t *testing.T) {
	t.Parallel()
	server := testenv.StartEtcd(t)
	r := newRig(t, nil)
	r.setRoot(r.hashes())
	list, err := etcd.New(etcd.Config{Endpoints: []string{server.Endpoint}, TTL: 3 * time.Second, Client: &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}})
	check(t, err)
	link := testenv.NewProxy(t, r.server.Addr)
	rdb := r.clientOf(&redis.Options{Addr: link.Addr})
	cfg := invalidation.Config{Namespace: r.ns, Datasets: r.datasets, PollInterval: pollInterval, ID: "n-1", Registry: list}
	if _, err := invalidation.Join(t.Context(), rdb, cfg); !errors.Is(err, invalidation.ErrConfig) {
		t.Errorf("without an address: %v", err)
	}
	cfg.Address = "n1.internal:9100"
	node, err := invalidation.Join(t.Context(), rdb, cfg)
	check(t, err)
	key := "freshet/" + r.ns + "/node/n-1"
	server.AwaitKey(t, key, `"address":"n1.internal:9100","status":"passing"`)
	if s := node.Registered(); !s.Listed || s.Err != nil {
		t.Errorf("stats: %+v", s)
	}
	link.Hold()
	server.AwaitKey(t, key, `"status":"warning"`)
	link.Release()
	server.AwaitKey(t, key, `"status":"passing"`)
	check(t, node.Close())
	server.AwaitKey(t, key, "")
}
