package invalidation_test

import (
	"context"
	"math"
	"testing"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// A lease whose load was not shared is used by the next fill of this process: until it ends by itself, it would make each further read wait
// for a fill that never comes.
func TestUnusedLeaseIsUsedAgain(t *testing.T) {
	t.Parallel()
	panics := false
	for _, tc := range []struct {
		name string
		load func(from invalidation.Source, l invalidation.Loaded[string]) invalidation.Loaded[string]
	}{
		{"load has no version", func(_ invalidation.Source, l invalidation.Loaded[string]) invalidation.Loaded[string] {
			l.Version, l.From = 0, invalidation.Primary
			return l
		}},
		{"load never reads the primary", func(_ invalidation.Source, l invalidation.Loaded[string]) invalidation.Loaded[string] {
			l.From = invalidation.Any
			return l
		}},
		{"load has a version that is out of range", func(_ invalidation.Source, l invalidation.Loaded[string]) invalidation.Loaded[string] {
			l.Version = math.MaxInt64
			return l
		}},
		{"loader panics once", func(_ invalidation.Source, l invalidation.Loaded[string]) invalidation.Loaded[string] {
			if !panics {
				panics = true
				panic("once")
			}
			return l
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			r := withLane(t)
			n := r.join(invalidation.Config{})
			c := r.cacheOf(n, invalidation.CacheConfig[string]{
				Load: func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
					return tc.load(from, r.db.read(key, from)), nil
				},
			})
			r.change("42")
			if tc.name == "load never reads the primary" {
				r.emit([]lane.Item{{Key: "user:42"}}) // only the primary may fill now
			}
			r.current(n)
			for range 3 {
				func() {
					defer func() { _ = recover() }()
					wantGet(t, c, "42", "42@1")
				}()
			}
			if s := c.Stats(); s.Bypasses["busy"] != 0 {
				t.Errorf("%d of 3 reads waited for a lease of this process; refusals %v", s.Bypasses["busy"], s.Refusals)
			}
		})
	}
}
