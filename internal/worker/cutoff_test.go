package worker_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
)

// A worker that alone is cut off from MySQL leaves its partitions to one that is not, and comes back.
func TestWorkerCutOffFromMySQLGivesItsPartitionsUp(t *testing.T) {
	b := newBed(t, servers{})
	proxy := testenv.NewProxy(t, b.mysql.Addr)
	edit := func(c *worker.Config, _ *replica.Config) { c.PauseAfter = 4 * time.Second }
	healthy := b.start(edit)
	cut := b.start(func(c *worker.Config, rc *replica.Config) {
		edit(c, rc)
		rc.MySQL.DSN = b.mysql.TCP(proxy.Addr, database(b, b.dsn))
	})
	shared := func(context.Context) error {
		if h, c := len(healthy.Stats().Consumer.Partitions), len(cut.Stats().Consumer.Partitions); h != 1 || c != 1 {
			return fmt.Errorf("partitions: %d and %d, want one each", h, c)
		}
		return nil
	}
	testenv.Eventually(t, patience, shared)
	proxy.Lead("127.0.0.1:1") // refuses
	version := int64(0)
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		version++
		b.put("items", "k", version)
		b.put("others", "k", version)
		for _, d := range []string{"items", "others"} {
			if v := b.version(ctx, d, "k"); v == 0 {
				return fmt.Errorf("%s has no row; cut worker: %q", d, whys(cut))
			}
		}
		return nil
	})
	if n := len(cut.Stats().Consumer.Partitions); n != 0 {
		t.Errorf("the worker that is cut off has %d partitions", n)
	}
	proxy.Lead(b.mysql.Addr)
	testenv.Eventually(t, patience, shared)
	b.awaitRow("items", "k", version)
	b.awaitRow("others", "k", version)
}
