package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
)

// A loader that does not heed its context blocks neither its readers nor Close for longer than LoadTimeout.
func TestLoaderThatIgnoresItsContext(t *testing.T) {
	t.Parallel()
	stop := make(chan struct{})
	defer close(stop)
	block := func(context.Context, string, invalidation.Source) (invalidation.Loaded[string], error) {
		<-stop
		return invalidation.Loaded[string]{}, nil
	}
	many := func(context.Context, []string, invalidation.Source) (map[string]invalidation.Loaded[string], error) {
		<-stop
		return nil, nil
	}
	for name, cfg := range map[string]invalidation.CacheConfig[string]{
		"Load":     {Load: block},
		"LoadMany": {Load: block, LoadMany: many},
	} {
		r := withLane(t)
		r.change("42")
		n := r.join(invalidation.Config{})
		r.current(n)
		cfg.LoadTimeout = 20 * time.Millisecond
		c := r.cacheOf(n, cfg)
		ctx, cancel := context.WithTimeout(t.Context(), patience) // for hangs only
		defer cancel()
		if _, err := c.Get(ctx, "42"); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			t.Errorf("%s: Get returned %v, want that the loader was too slow", name, err)
		}
		if _, err := c.GetMany(ctx, []string{"42", "43"}); !errors.Is(err, context.DeadlineExceeded) || ctx.Err() != nil {
			t.Errorf("%s: GetMany returned %v, want that the loader was too slow", name, err)
		}
		if s := c.Stats(); s.LoadsAbandoned != 2 {
			t.Errorf("%s: %d abandoned loads, want 2", name, s.LoadsAbandoned)
		}
		go func() { _, _ = c.Get(ctx, "44") }()
		closed := make(chan error, 1)
		go func() { closed <- n.Close() }()
		select {
		case err := <-closed:
			check(t, err)
		case <-ctx.Done():
			t.Errorf("%s: Close waits for the loader", name)
		}
	}
}

// An old entry is served once StaleAfter is over, while the load continues; what it brings is kept.
func TestStaleAfterServesWhileLoading(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	r.change("2")
	n := r.join(invalidation.Config{})
	r.current(n)
	slow := make(chan struct{})
	began := make(chan struct{}, 10)
	first := true
	c := r.cacheOf(n, invalidation.CacheConfig[string]{
		LocalTTL: time.Millisecond, TTL: time.Millisecond, Jitter: -1, StaleIfError: time.Hour, StaleAfter: 20 * time.Millisecond, BusyWait: -1,
		Load: func(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
			if !first {
				began <- struct{}{}
				select {
				case <-slow:
				case <-ctx.Done():
					return invalidation.Loaded[string]{}, fmt.Errorf("database: %w", ctx.Err())
				}
			}
			return r.db.load(ctx, key, from)
		},
	})
	wantGet(t, c, "1", "1@1")
	first = false
	r.gone("1")
	wantGet(t, c, "1", "1@1")
	<-began
	got, err := c.GetMany(t.Context(), []string{"1"})
	if err != nil || got["1"] != "1@1" {
		t.Errorf("GetMany returned %v, %v, want the old value", got, err)
	}
	if s := c.Stats(); s.StaleServed != 2 || s.Loads != 2 || s.LoadErrors != 0 {
		t.Errorf("served stale %d, loads %d, errors %d, want 2, 2 and 0: the load continues and is shared", s.StaleServed, s.Loads, s.LoadErrors)
	}
	close(slow)
	wantGet(t, c, "2", "2@1") // there is nothing old of it: it is waited for
	eventually(t, "both loads were made", func() bool { return r.db.loads.Load() >= 3 })
}
