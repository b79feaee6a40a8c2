package invalidation_test

import (
	"errors"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
)

// A closed node follows nothing, so its caches serve nothing: what they hold may be stale soon.
func TestClosedCacheServesNothing(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]bool{"a lane that is confirmed": false, "an entry that its load alone bounds": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, nil)
			if !lose {
				r.setRoot(nil)
			}
			n := r.join(invalidation.Config{})
			c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, StaleIfError: time.Hour})
			if !lose {
				r.current(n)
			}
			r.db.change("1", false)
			wantGet(t, c, "1", "1@1")
			before := c.Stats().LocalHits
			wantGet(t, c, "1", "1@1")
			if c.Stats().LocalHits != before+1 {
				t.Fatal("it is not held")
			}
			check(t, n.Close())
			if v, err := c.Get(t.Context(), "1"); !errors.Is(err, invalidation.ErrClosed) {
				t.Errorf("Get returned %q, %v", v, err)
			}
			if v, err := c.GetMany(t.Context(), []string{"1"}); !errors.Is(err, invalidation.ErrClosed) {
				t.Errorf("GetMany returned %q, %v", v, err)
			}
			if v, err := c.GetWithin(t.Context(), "1", time.Hour); !errors.Is(err, invalidation.ErrClosed) {
				t.Errorf("GetWithin returned %q, %v", v, err)
			}
			if v, err := c.GetAtLeast(t.Context(), "1", 1); !errors.Is(err, invalidation.ErrClosed) {
				t.Errorf("GetAtLeast returned %q, %v", v, err)
			}
			if l, ok := c.Peek("1"); ok {
				t.Errorf("Peek returned %v", l)
			}
		})
	}
}
