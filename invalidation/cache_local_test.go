package invalidation_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// Whatever a key looks like, it finds its own record and an invalidation finds it.
func TestKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	keys := []string{
		"42", "a:b", "100%", "{x}", "é", "user:a%3Ab", "a%3Ab", "user:42", "user:", "%", strings.Repeat("x", 64),
		strings.Repeat("%", 64), strings.Repeat(" ", 60) + "x",
	}
	n := r.join(invalidation.Config{})
	c := r.cache(n)
	users, _ := r.datasets.Get("users")
	change := func(key string) {
		t.Helper()
		name, err := users.CacheKey(key)
		if err != nil {
			t.Fatalf("%q: %v", key, err)
		}
		v := r.db.change(key, false)
		r.emit([]lane.Item{{Key: name, Version: v.version}})
	}
	for version := 1; version <= 3; version++ {
		for _, k := range keys {
			change(k)
		}
		r.current(n)
		hits := c.Stats().LocalHits
		for range 2 {
			for _, k := range keys {
				wantGet(t, c, k, k+"@"+strconv.Itoa(version))
				if v, ok := c.Peek(k); !ok || v.Version != int64(version) {
					t.Errorf("Peek of %q: %+v, %t", k, v, ok)
				}
			}
		}
		if got := c.Stats().LocalHits - hits; got != int64(len(keys)) {
			t.Errorf("version %d: %d local hits, want %d: the second read of each", version, got, len(keys))
		}
	}
	if got, err := c.GetMany(t.Context(), keys); err != nil || len(got) != len(keys) || got["a:b"] != "a:b@3" {
		t.Errorf("GetMany gave %d records, %v", len(got), err)
	}
	for _, bad := range []string{"", "\xff", strings.Repeat("x", schemas.MaxKeyBytes+1)} {
		if v, err := c.Get(t.Context(), bad); err == nil {
			t.Errorf("Get of an impossible key gave %q", v)
		}
	}
}

func TestCostBoundsTheLocalTier(t *testing.T) {
	t.Parallel()
	cost := func(_, v string) int64 { return int64(len(v)) }
	for _, tc := range []struct {
		name                string
		maxCost             int64
		maxEntries, records int
		most                int // entries
	}{
		{"by cost", 400, 0, 200, 100}, // at least four bytes each
		{"by entries too", 1 << 20, 50, 200, 50},
		{"nothing is that small", 3, 0, 200, 0},
	} {
		r := withLane(t)
		n := r.join(invalidation.Config{})
		c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, MaxCost: tc.maxCost, MaxEntries: tc.maxEntries, Cost: cost})
		for i := range tc.records {
			k := strconv.Itoa(10 + i)
			r.db.change(k, false)
			wantGet(t, c, k, k+"@1")
		}
		eventually(t, tc.name, func() bool {
			s := c.Stats()
			return s.Entries <= tc.most && s.Cost <= tc.maxCost
		})
		s := c.Stats()
		if tc.most > 0 && (s.Entries == 0 || s.Cost == 0) {
			t.Errorf("%s: %d entries that cost %d", tc.name, s.Entries, s.Cost)
		}
	}
}
