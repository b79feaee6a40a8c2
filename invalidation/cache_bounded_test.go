package invalidation_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// bounds are intervals under which no test ends before an entry's bound.
var bounds = invalidation.Config{MaxStaleness: time.Hour, PollInterval: 20 * time.Millisecond}

// readAll reads 20 records a hundred times, by Get and by GetMany.
func readAll(t *testing.T, c *invalidation.Cache[string]) {
	t.Helper()
	keys := make([]string, 20)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	for i := range 100 {
		if i%2 == 0 {
			for _, k := range keys {
				wantGet(t, c, k, k+"@1")
			}
			continue
		}
		got, err := c.GetMany(t.Context(), keys)
		check(t, err)
		if len(got) != len(keys) {
			t.Fatalf("GetMany returned %d records, want %d", len(got), len(keys))
		}
	}
}

// Redis being away or full costs one load per record and MaxStaleness, whatever the number of reads.
func TestRedisTroubleCostsOneLoadPerKeyAndBound(t *testing.T) {
	t.Parallel()
	for name, trouble := range map[string]func(t *testing.T, s *testenv.RedisServer, n *invalidation.Node){
		"killed": func(t *testing.T, s *testenv.RedisServer, n *invalidation.Node) {
			s.Kill(t)
			eventually(t, "a sync failed", func() bool { return n.Stats().SyncErrors > 0 })
		},
		"full": func(t *testing.T, s *testenv.RedisServer, _ *invalidation.Node) {
			check(t, s.Client(t).ConfigSet(t.Context(), "maxmemory", "1mb").Err())
		},
		"emptied": func(t *testing.T, s *testenv.RedisServer, n *invalidation.Node) {
			check(t, s.Client(t).FlushAll(t.Context()).Err())
			eventually(t, "lane is missing", func() bool { return !n.Stats().Lanes[0].Exists })
		},
	} {
		for _, local := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " local only ", local), func(t *testing.T) {
				t.Parallel()
				server := testenv.StartRedis(t, testenv.RedisOptions{})
				r := newRig(t, server)
				r.setRoot(nil)
				for i := range 20 {
					r.db.change(fmt.Sprint(i), false)
				}
				n := r.join(bounds)
				r.current(n)
				c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LocalOnly: local, RefreshAhead: time.Minute})
				trouble(t, server, n)
				readAll(t, c)
				want := int64(20)
				if name == "full" && !local { // what is loaded until the first fill was refused is loaded once more
					want = 40
				}
				if got := r.db.loads.Load(); got < 20 || got > want {
					t.Errorf("100 reads of 20 records cost %d loads, want 20 to %d; %+v", got, want, c.Stats())
				}
			})
		}
	}
}

// What was loaded while Redis was away is served no longer than MaxStaleness after the load began.
func TestBoundedEntryEnds(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.RedisOptions{})
	r := newRig(t, server)
	r.setRoot(nil)
	r.db.change("1", false)
	n := r.join(invalidation.Config{MaxStaleness: 300 * time.Millisecond, PollInterval: 50 * time.Millisecond})
	r.current(n)
	c := r.cache(n)
	server.Kill(t)
	eventually(t, "node is not fresh", func() bool { return !n.Stats().Lanes[0].Fresh })
	wantGet(t, c, "1", "1@1")
	r.db.change("1", false)
	changed := time.Now()
	for {
		asked := time.Now() // the bound counts from before the read
		if get(t, c, "1") == "1@2" {
			return
		}
		if asked.Sub(changed) > 300*time.Millisecond {
			t.Fatalf("served a value that was changed %s before", asked.Sub(changed))
		}
	}
}

// What the node received makes such an entry stale at once.
func TestBoundedEntryIsInvalidated(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	n := r.join(bounds)
	r.current(n)
	s, err := lane.New(r.rdb, lane.Config{Namespace: r.ns})
	check(t, err)
	_, err = s.Get(t.Context(), "user:1", "another process") // its lease makes every read bypass the shared tier
	check(t, err)
	c := r.cacheOf(n, invalidation.CacheConfig[string]{
		BusyWait: -1,
		Load: func(_ context.Context, key string, _ invalidation.Source) (invalidation.Loaded[string], error) {
			return r.db.read(key, invalidation.Primary), nil
		},
	})
	wantGet(t, c, "1", "1@1")
	wantGet(t, c, "1", "1@1")
	if s := c.Stats(); s.LocalHits != 1 || s.KeptBounded != 1 {
		t.Errorf("local hits %d, kept %d, want 1 and 1", s.LocalHits, s.KeptBounded)
	}
	r.change("1")
	r.current(n)
	wantGet(t, c, "1", "1@2")
}
