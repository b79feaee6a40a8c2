package invalidation_test

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
)

// Options that exclude each other are refused by an error that names both, and docs/caches.md has them all.
func TestOptionsThatExcludeEachOther(t *testing.T) {
	t.Parallel()
	docs, err := os.ReadFile("../docs/caches.md")
	if err != nil {
		t.Fatal(err)
	}
	n := withLane(t).join(invalidation.Config{LeaseTTL: 3 * time.Second})
	load := (&database{}).load
	type config = invalidation.CacheConfig[string]
	size := func(_, v string) int64 { return int64(len(v)) }
	for _, tc := range []struct {
		field, other string
		cfg          config
		fixed        config
	}{
		{"Cost", "MaxCost", config{Cost: size}, config{Cost: size, MaxCost: 1 << 20}},
		{"MaxCost", "Cost", config{MaxCost: 1 << 20}, config{MaxEntries: 1 << 10}},
		{"MaxEntries", "MaxCost", config{Cost: size, MaxCost: 10, MaxEntries: 11}, config{Cost: size, MaxCost: 10, MaxEntries: 10}},
		{"TTL", "LocalOnly", config{LocalOnly: true, TTL: time.Minute}, config{LocalOnly: true, LocalTTL: time.Minute}},
		{"Codec", "LocalOnly", config{LocalOnly: true, Codec: invalidation.JSON[string]{}}, config{LocalOnly: true}},
		{"BusyWait", "LocalOnly", config{LocalOnly: true, BusyWait: time.Second}, config{BusyWait: time.Second}},
		{"RefreshReads", "RefreshAhead", config{RefreshReads: 2}, config{RefreshReads: 2, RefreshAhead: time.Second}},
		{"MaxRefreshes", "RefreshAhead", config{MaxRefreshes: 2}, config{MaxRefreshes: 2, RefreshAhead: time.Second}},
		{
			"RefreshAhead", "LocalTTL",
			config{RefreshAhead: 9 * time.Second, LocalTTL: 10 * time.Second},
			config{RefreshAhead: 9*time.Second - 1, LocalTTL: 10 * time.Second},
		},
		{"RefreshAhead", "Jitter", config{RefreshAhead: time.Minute, TTL: 100 * time.Second, Jitter: 0.5}, config{RefreshAhead: time.Minute, TTL: 100 * time.Second, Jitter: 0.3}},
		{"LoadTimeout", "LeaseTTL", config{LoadTimeout: 4 * time.Second}, config{LoadTimeout: 3 * time.Second}},
	} {
		row := "| `" + tc.field + "` | `" + tc.other + "` |"
		if !strings.Contains(string(docs), row) {
			t.Errorf("docs/caches.md lacks the row %s", row)
		}
		tc.cfg.Dataset, tc.cfg.Load = "users", load
		_, err := invalidation.NewCache(n, tc.cfg)
		if !errors.Is(err, invalidation.ErrConfig) || !strings.Contains(err.Error(), tc.field+" of the cache of dataset users is") ||
			!strings.Contains(err.Error(), tc.other) {
			t.Errorf("%s and %s: %v, want an error that names both", tc.field, tc.other, err)
		}
		// The fixed one must do. A node has one cache of each, so each try has its own.
		one := withLane(t).join(invalidation.Config{LeaseTTL: 3 * time.Second})
		tc.fixed.Dataset, tc.fixed.Load = "users", load
		if _, err := invalidation.NewCache(one, tc.fixed); err != nil {
			t.Errorf("%s and %s, fixed: %v", tc.field, tc.other, err)
		}
	}
}

func TestNegativeOptionsAreRefused(t *testing.T) {
	t.Parallel()
	n := withLane(t).join(invalidation.Config{})
	type config = invalidation.CacheConfig[string]
	for field, cfg := range map[string]config{
		"MaxEntries": {MaxEntries: -1}, "MaxCost": {MaxCost: -1}, "RefreshAhead": {RefreshAhead: -1}, "RefreshReads": {RefreshReads: -1},
		"MaxRefreshes": {MaxRefreshes: -1}, "StaleIfError": {StaleIfError: -1}, "LoadTimeout": {LoadTimeout: -1}, "LocalTTL": {LocalTTL: -1},
	} {
		cfg.Dataset, cfg.Load = "users", (&database{}).load
		if _, err := invalidation.NewCache(n, cfg); !errors.Is(err, invalidation.ErrConfig) || !strings.Contains(err.Error(), field+" of the cache") {
			t.Errorf("%s: %v", field, err)
		}
	}
}
