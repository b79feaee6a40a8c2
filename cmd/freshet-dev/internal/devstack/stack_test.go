package devstack_test

import (
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
	"github.com/freshet/freshet/internal/testenv"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func start(t *testing.T, cfg devstack.Config) *devstack.Stack {
	t.Helper()
	s, err := devstack.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

// Open connections do not keep Close from ending, and no goroutine outlives it (TestMain).
func TestCloseWithOpenConnections(t *testing.T) {
	s := start(t, devstack.Config{})
	db := openDB(t, s)
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	rdb := redis.NewClient(&redis.Options{Addr: s.Redis, DisableIdentity: true})
	defer func() { _ = rdb.Close() }()
	if err := rdb.Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := db.ExecContext(t.Context(), "CREATE TABLE w (id INT NOT NULL PRIMARY KEY)")
		waiting <- err
	}()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := testenv.Await(t, waiting); err == nil {
		t.Error("a writer got the lock of an open transaction")
	}
	if err := tx.Commit(); err == nil {
		t.Error("commit on a closed server succeeded")
	}
	if err := s.Close(); err != nil {
		t.Errorf("close again: %v", err)
	}
}

func TestRedisExpiryFollowsTheClock(t *testing.T) {
	s := start(t, devstack.Config{})
	rdb := redis.NewClient(&redis.Options{Addr: s.Redis, DisableIdentity: true})
	defer func() { _ = rdb.Close() }()
	ctx := t.Context()
	if err := rdb.Set(ctx, "k", "v", 80*time.Millisecond).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := rdb.Get(ctx, "k").Result(); err != nil || got != "v" {
		t.Fatalf("before expiry: %q, %v", got, err)
	}
	waitFor(t, func() bool { return rdb.Exists(ctx, "k").Val() == 0 })
	if err := rdb.Set(ctx, "k", "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.FlushRedis()
	if n := rdb.DBSize(ctx).Val(); n != 0 {
		t.Errorf("keys after flush: %d", n)
	}
}

// waitFor polls until ok, at most ten seconds.
func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(10 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatal("condition did not come true within 10 s")
		case <-tick.C:
		}
	}
}
