package invalidation_test

import (
	"errors"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
)

func TestLocalOnlyLeavesRedisAlone(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	n := r.join(invalidation.Config{})
	r.current(n)
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LocalOnly: true})
	wantGet(t, c, "1", "1@1")
	wantGet(t, c, "1", "1@1")
	r.change("1")
	r.current(n)
	wantGet(t, c, "1", "1@2")
	if got, err := c.GetMany(t.Context(), []string{"1", "2"}); err != nil || got["1"] != "1@2" || len(got) != 1 {
		t.Errorf("GetMany gave %v, %v", got, err)
	}
	if s := c.Stats(); s.LocalHits != 2 || s.Loads != 3 || s.SharedHits != 0 || s.Dropped != 1 {
		t.Errorf("stats: %+v", s)
	}
	keys, err := r.rdb.Keys(t.Context(), "*"+r.ns+"*").Result()
	if err != nil || len(keys) == 0 {
		t.Fatalf("list keys: %d, %v", len(keys), err)
	}
	for _, k := range keys {
		if strings.Contains(k, "user:") {
			t.Errorf("Redis has %s", k)
		}
	}
}

// Within the hold after an invalidation a source that lags is not asked, and after it, it is again.
func TestLocalOnlyReadsThePrimaryWithinTheHold(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.db.primary["tagged"] = row{tags: []string{"org:1"}}
	for _, k := range []string{"1", "2", "tagged"} {
		r.change(k)
	}
	n := r.join(invalidation.Config{Hold: time.Millisecond, LeaseTTL: 400 * time.Millisecond})
	r.current(n)
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LocalOnly: true})
	primary := func(key, want string, loads int64) {
		t.Helper()
		before := c.Stats().PrimaryLoads
		wantGet(t, c, key, want)
		if got := c.Stats().PrimaryLoads - before; got != loads {
			t.Errorf("%s: %d loads of the primary, want %d", key, got, loads)
		}
	}
	primary("1", "1@1", 1) // the node has just begun
	tries := 0
	eventually(t, "old enough for any source", func() bool {
		before := c.Stats().PrimaryLoads
		tries++
		if _, err := c.Get(t.Context(), "nobody"+strconv.Itoa(tries)); !errors.Is(err, invalidation.ErrNotFound) {
			t.Errorf("Get: %v", err)
		}
		return c.Stats().PrimaryLoads == before
	})
	primary("2", "2@1", 0)
	r.db.lag(true)
	r.change("2")
	r.current(n)
	primary("2", "2@2", 1)
	primary("2", "2@2", 0) // kept
	primary("tagged", "tagged@1", 0)
	r.db.change("tagged", false)
	r.emit(nil, "org:1")
	r.current(n)
	primary("tagged", "tagged@2", 1)
	primary("tagged", "tagged@2", 0)
	r.db.change("1", false)
	r.setRoot(nil)
	r.current(n)
	eventually(t, "agreement about the new root", func() bool { return len(n.Stats().Disagreeing) == 0 })
	primary("1", "1@2", 1)
}
