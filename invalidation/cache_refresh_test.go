package invalidation_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
)

// openWindow is a cache whose entries may be refreshed from the beginning.
func openWindow(cfg invalidation.CacheConfig[string]) invalidation.CacheConfig[string] {
	cfg.Jitter, cfg.LocalTTL, cfg.RefreshAhead = -1, time.Hour, time.Hour-time.Nanosecond
	return cfg
}

func TestRefreshAheadOfTheEnd(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	n := r.join(invalidation.Config{})
	r.current(n)
	c := r.cacheOf(n, openWindow(invalidation.CacheConfig[string]{Load: r.db.load, TTL: time.Millisecond}))
	wantGet(t, c, "1", "1@1")
	r.gone("1")
	wantGet(t, c, "1", "1@1")
	wantGet(t, c, "1", "1@1")
	if s := c.Stats(); s.Refreshes != 0 || s.Loads != 1 {
		t.Errorf("read rarely: %d refreshes, %d loads, want none and one", s.Refreshes, s.Loads)
	}
	wantGet(t, c, "1", "1@1") // the third
	eventually(t, "refreshed", func() bool { return c.Stats().Loads == 2 })
	if s := c.Stats(); s.Refreshes != 1 || s.LocalHits != 3 {
		t.Errorf("%d refreshes, %d local hits, want 1 and 3: no one waits", s.Refreshes, s.LocalHits)
	}
}

// gate is a loader that has read and does not return until it is let.
type gate struct {
	db       *database
	shut     atomic.Bool
	read, on chan struct{}
}

func (g *gate) load(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
	l := g.db.read(key, from)
	if g.shut.Load() {
		g.read <- struct{}{}
		<-g.on
	}
	return l, nil
}

func TestRefreshesAreFewAndPutNothingStaleBack(t *testing.T) {
	t.Parallel()
	for _, localOnly := range []bool{false, true} {
		r := withLane(t)
		r.change("1")
		r.change("2")
		n := r.join(invalidation.Config{})
		r.current(n)
		g := &gate{db: r.db, read: make(chan struct{}), on: make(chan struct{})}
		cfg := openWindow(invalidation.CacheConfig[string]{Load: g.load, TTL: time.Millisecond, MaxRefreshes: 1, RefreshReads: 1, LocalOnly: localOnly})
		if localOnly {
			cfg.TTL = 0
		}
		c := r.cacheOf(n, cfg)
		// A first read of each, before anything can be refreshed.
		wantGet(t, c, "1", "1@1")
		wantGet(t, c, "2", "2@1")
		r.gone("1")
		r.gone("2")
		g.shut.Store(true)
		for range 100 {
			wantGet(t, c, "1", "1@1")
		}
		<-g.read // version 1, and now it is stopped
		wantGet(t, c, "2", "2@1")
		if s := c.Stats(); s.Refreshes != 1 || s.RefreshesSkipped != 1 {
			t.Errorf("%d refreshes, %d skipped, want one of each", s.Refreshes, s.RefreshesSkipped)
		}
		r.change("1")
		r.current(n)
		g.shut.Store(false) // the one load under way has looked already
		g.on <- struct{}{}
		eventually(t, "refresh was refused", func() bool {
			s := c.Stats()
			return s.Refusals["guard"]+s.Refusals["lost"]+s.Refusals["stale"] > 0
		})
		wantGet(t, c, "1", "1@2")
	}
}

func TestRefreshThatFailsIsCounted(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"error", "panic"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			r := withLane(t)
			r.change("1")
			n := r.join(invalidation.Config{})
			r.current(n)
			var bad atomic.Bool
			c := r.cacheOf(n, openWindow(invalidation.CacheConfig[string]{
				TTL: time.Millisecond, RefreshReads: 2,
				Load: func(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
					switch {
					case bad.Load() && kind == "panic":
						panic("no")
					case bad.Load():
						return invalidation.Loaded[string]{}, errDown
					}
					return r.db.load(ctx, key, from)
				},
			}))
			wantGet(t, c, "1", "1@1")
			r.gone("1")
			bad.Store(true)
			wantGet(t, c, "1", "1@1")
			wantGet(t, c, "1", "1@1")
			eventually(t, "failure counted", func() bool { return c.Stats().RefreshErrors == 1 })
			for range 100 {
				wantGet(t, c, "1", "1@1") // the entry serves on, and half of what is left passes before the next try
			}
			if s := c.Stats(); s.Refreshes != 1 || s.LocalHits != 102 {
				t.Errorf("%d refreshes, %d local hits, want 1 and 102", s.Refreshes, s.LocalHits)
			}
		})
	}
}
