package invalidation

import (
	"testing"

	"github.com/redis/go-redis/v9"
)

// What a service adds to the clients of a cluster's masters is in the node's own as well.
func TestDedicatedClusterKeepsNewClient(t *testing.T) {
	t.Parallel()
	calls := 0
	rdb := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, NewClient: func(o *redis.Options) *redis.Client {
		calls++
		return redis.NewClient(o)
	}})
	own := dedicated(rdb, clientRole{name: "test", timeout: cacheTimeout, pool: 1})
	for _, c := range []interface{ Close() error }{
		own.(*redis.ClusterClient).Options().NewClient(&redis.Options{Addr: "127.0.0.1:1"}), own, rdb,
	} {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	}
	if calls != 1 {
		t.Errorf("NewClient of the given client was called %d times, want once", calls)
	}
}
