package invalidation_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

func TestGetAtLeast(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	n := r.join(invalidation.Config{})
	r.current(n)
	c := r.cache(n)
	want := func(version int64, value string, loads, primary int64) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // for hangs only
		defer cancel()
		v, err := c.GetAtLeast(ctx, "1", version)
		if err != nil || v != value {
			t.Errorf("version %d: %q, %v, want %q", version, v, err, value)
		}
		filled(t, c)
		if s := c.Stats(); s.Loads != loads || s.PrimaryLoads != primary {
			t.Errorf("version %d: %d loads, %d of the primary, want %d and %d", version, s.Loads, s.PrimaryLoads, loads, primary)
		}
	}
	want(1, "1@1", 1, 0) // under a lease
	want(1, "1@1", 1, 0) // local
	r.db.lag(true)
	v := r.db.change("1", false) // committed; no worker has told yet
	want(2, "1@2", 2, 1)
	wantGet(t, c, "1", "1@1") // what is cached still is what was announced
	r.emit([]lane.Item{{Key: "user:1", Version: v.version}})
	r.current(n)
	want(2, "1@2", 4, 2) // the secondary lags, then the primary, which is kept
	want(2, "1@2", 4, 2)
	wantGet(t, c, "1", "1@2")

	r.db.change("1", true)
	if _, err := c.GetAtLeast(t.Context(), "1", 3); !errors.Is(err, invalidation.ErrNotFound) {
		t.Errorf("a deletion of that version: %v", err)
	}
}

func TestGetAtLeastFromSharedTier(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	wantGet(t, r.cache(r.join(invalidation.Config{})), "1", "1@1")
	c := r.cache(r.join(invalidation.Config{}))
	if v, err := c.GetAtLeast(t.Context(), "1", 1); err != nil || v != "1@1" || c.Stats().Loads != 0 {
		t.Errorf("%q, %v, %d loads", v, err, c.Stats().Loads)
	}
}

func TestGetAtLeastWaits(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	n := r.join(invalidation.Config{PollInterval: time.Minute, MaxStaleness: time.Hour})
	c := r.cache(n)
	type answer struct {
		v   string
		err error
	}
	const readers = 3
	got := make(chan answer)
	for range readers {
		go func() {
			v, err := c.GetAtLeast(t.Context(), "1", 2)
			got <- answer{v, err}
		}()
	}
	eventually(t, "looked a few times", func() bool { return c.Stats().PrimaryLoads > 6 })
	r.change("1")
	for range readers {
		if a := <-got; a.err != nil || a.v != "1@2" {
			t.Errorf("%q, %v", a.v, a.err)
		}
	}
}

func TestGetAtLeastGivesUp(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	n := r.join(invalidation.Config{})
	c := r.cache(n)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if _, err := c.GetAtLeast(ctx, "1", 2); !errors.Is(err, invalidation.ErrNotYetVisible) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a version that never comes: %v", err)
	}
	if _, err := c.GetAtLeast(ctx, "2", 1); errors.Is(err, invalidation.ErrNotYetVisible) || !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a context that had ended: %v", err)
	}
	for _, v := range []int64{0, -1, schemas.MaxVersion + 1} {
		if _, err := c.GetAtLeast(t.Context(), "1", v); !errors.Is(err, schemas.ErrInvalid) {
			t.Errorf("version %d: %v", v, err)
		}
	}
	lookups := r.cacheOf(n, invalidation.CacheConfig[string]{Derived: "user:name:{name}", Load: r.db.load})
	if _, err := lookups.GetAtLeast(t.Context(), "ada", 1); !errors.Is(err, invalidation.ErrNoVersions) {
		t.Errorf("a cache of lookups: %v", err)
	}
	waiting := make(chan error)
	go func() { _, err := c.GetAtLeast(t.Context(), "1", 2); waiting <- err }()
	before := c.Stats().PrimaryLoads
	eventually(t, "looked", func() bool { return c.Stats().PrimaryLoads > before+1 })
	check(t, n.Close())
	if err := testenv.Await(t, waiting); !errors.Is(err, invalidation.ErrClosed) {
		t.Errorf("the node was closed: %v", err)
	}
}

// A node that hears nothing does not know of a change yet; who wants to be sure asks for it.
func TestGetWithin(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	var cb cable
	n := r.joinBy(cb.client(t, r.server), invalidation.Config{PollInterval: time.Minute, MaxStaleness: time.Hour})
	c := r.cache(n)
	wantGet(t, c, "1", "1@1")
	within := func(d time.Duration, want string) {
		t.Helper()
		if v, err := c.GetWithin(t.Context(), "1", d); err != nil || v != want {
			t.Errorf("within %s: %q, %v, want %q", d, v, err, want)
		}
		filled(t, c)
	}
	cb.deaf.Store(true)
	r.change("1")
	eventually(t, "message lost", func() bool { return cb.swallowed.Load() > 0 })
	within(2*time.Hour, "1@1")
	within(time.Minute, "1@1")
	within(time.Nanosecond, "1@2")
	within(0, "1@2")
	within(-1, "1@2")
}
