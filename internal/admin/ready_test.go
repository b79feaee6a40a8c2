package admin_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/admin"
)

// TestProblemsNameTheServerThatIsAway: a server that hangs is the only one that is named, and does not make the probe wait for its
// client's own timeouts.
func TestProblemsNameTheServerThatIsAway(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0") // connections are accepted by the kernel and never answered
	must(t, err)
	defer silent.Close()
	rdb := redis.NewClient(&redis.Options{Addr: silent.Addr().String()})
	defer rdb.Close()
	r := newRig(t, func(c *admin.Config) { c.Redis = rdb })
	began := time.Now()
	if got := string(r.want(200, "viewer", "GET", "/readyz?role=admin", nil).body); !strings.Contains(got, `"degraded","why":["Redis does not answer"]`) {
		t.Errorf("readiness: %s", got)
	}
	if took := time.Since(began); took > 6*time.Second {
		t.Errorf("readiness took %v", took)
	}
	if got := string(r.want(503, "viewer", "GET", "/v1/nodes", nil).body); !strings.Contains(got, "read nodes: ") || !strings.Contains(got, "Redis does not answer;") {
		t.Errorf("nodes: %s", got)
	}
}
