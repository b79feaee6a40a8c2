package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// A node whose subscription brings nothing finds what it missed in the lane's stream.
func TestNodeCatchesUp(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	r.change("2")
	var c cable
	n := r.joinBy(c.client(t, r.server), invalidation.Config{})
	cache := r.cache(n)
	wantGet(t, cache, "1", "1@1")
	wantGet(t, cache, "2", "2@1")
	c.deaf.Store(true)
	const missed = 300 // several pages
	for range missed - 1 {
		r.emit([]lane.Item{{Key: "user:3", Version: 1}})
	}
	r.change("1")
	r.current(n)
	wantGet(t, cache, "1", "1@2")
	wantGet(t, cache, "2", "2@1")
	l := n.Stats().Lanes[0]
	if l.CaughtUp != missed || l.Flushes["mismatch"]+l.Flushes["trimmed"] != 0 {
		t.Errorf("lane: %+v, want %d entries read and no flush", l, missed)
	}
	if s := cache.Stats(); s.LocalHits != 1 || s.Dropped != 1 {
		t.Errorf("cache: %+v, want the untouched entry served", s)
	}
}

func TestNodeFindsGapByMessage(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	var c cable
	n := r.joinBy(c.client(t, r.server), invalidation.Config{PollInterval: time.Hour, MaxStaleness: 100 * time.Hour})
	cache := r.cache(n)
	r.change("1")
	r.current(n)
	wantGet(t, cache, "1", "1@1")
	c.deaf.Store(true)
	r.change("1")
	// The swallowing read must have taken the message before the next one may pass.
	eventually(t, "message swallowed", func() bool { return c.swallowed.Load() > 0 })
	c.deaf.Store(false)
	r.change("2")
	r.current(n)
	wantGet(t, cache, "1", "1@2")
	if l := n.Stats().Lanes[0]; l.Gaps == 0 || l.CaughtUp == 0 {
		t.Errorf("lane: %+v, want a gap that was caught up with", l)
	}
}

func TestNodeResubscribes(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.RedisOptions{})
	r := newRig(t, server)
	r.setRoot(nil)
	n := r.join(invalidation.Config{PollInterval: time.Hour, MaxStaleness: 100 * time.Hour})
	cache := r.cache(n)
	r.change("1")
	r.current(n)
	wantGet(t, cache, "1", "1@1")
	if err := r.rdb.Do(t.Context(), "client", "kill", "type", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	r.change("1") // most likely before the new subscription; the sync that follows it finds it
	r.current(n)
	wantGet(t, cache, "1", "1@2")
	if s := n.Stats(); s.Subscriptions < 2 {
		t.Errorf("stats: %+v, want a second subscription", s)
	}
}

func TestNodeWithoutLane(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.db.change("1", false)
	n := r.join(invalidation.Config{}) // returns although there is nothing to follow
	cache := r.cache(n)
	for range 2 {
		wantGet(t, cache, "1", "1@1")
	}
	if s := cache.Stats(); s.Loads != 1 || s.PrimaryLoads != 1 || s.Bypasses["no_lane"] != 1 || s.KeptBounded != 1 {
		t.Errorf("cache: %+v, want one load from the primary, kept for MaxStaleness", s)
	}
	if l := n.Stats().Lanes[0]; l.Exists || l.Fresh || l.ConfirmAge != -1 {
		t.Errorf("lane: %+v, want none", l)
	}
	if why := n.NotReady(); len(why) != 1 || !strings.Contains(why[0], "does not exist") {
		t.Errorf("not ready: %q", why)
	}
	r.setRoot(nil)
	r.current(n)
	if why := n.NotReady(); len(why) != 0 {
		t.Errorf("not ready with a lane: %q", why)
	}
	wantGet(t, cache, "1", "1@1")
	wantGet(t, cache, "1", "1@1")
	if s := cache.Stats(); s.LocalHits != 2 {
		t.Errorf("cache: %+v, want a hit once the lane is there too", s)
	}
	if err := n.Close(); err != nil {
		t.Fatal(err)
	}
	if why := n.NotReady(); len(why) != 1 || !strings.Contains(why[0], "closed") {
		t.Errorf("not ready after its end: %q", why)
	}
}

// What a node holds does not outlive the loss of the lane: it is not known what happened since.
func TestNodeLosesLane(t *testing.T) {
	t.Parallel()
	for name, lose := range map[string]func(ctx context.Context, r *rig) error{
		"lane deleted": func(ctx context.Context, r *rig) error {
			k := lane.KeysOf(r.ns, 0)
			return r.rdb.Del(ctx, k.Stream, k.Meta).Err()
		},
		"everything deleted": func(ctx context.Context, r *rig) error { return r.rdb.FlushAll(ctx).Err() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, testenv.StartRedis(t, testenv.RedisOptions{}))
			r.setRoot(nil)
			r.change("1")
			n := r.join(invalidation.Config{})
			cache := r.cache(n)
			wantGet(t, cache, "1", "1@1")
			if err := lose(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			eventually(t, "loss noticed", func() bool { return !n.Stats().Lanes[0].Exists })
			r.db.change("1", false) // nothing can report it
			wantGet(t, cache, "1", "1@2")
			r.db.change("1", false)
			r.setRoot(nil)
			r.current(n)
			wantGet(t, cache, "1", "1@3")
			wantGet(t, cache, "1", "1@3")
			if s := cache.Stats(); s.LocalHits != 1 || s.Bypasses["no_lane"] != 1 {
				t.Errorf("cache: %+v", s)
			}
			if l := n.Stats().Lanes[0]; l.Flushes["lane_missing"] == 0 {
				t.Errorf("lane: %+v", l)
			}
		})
	}
}

func TestNodeRootChanges(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	n := r.join(invalidation.Config{PollInterval: time.Hour, MaxStaleness: 100 * time.Hour})
	cache := r.cache(n)
	wantGet(t, cache, "1", "1@1")
	r.db.change("1", false)
	r.setRoot(nil)
	r.current(n)
	wantGet(t, cache, "1", "1@2")
	if l := n.Stats().Lanes[0]; l.Flushes["flag"] != 1 || l.Flushes["mismatch"] != 0 {
		t.Errorf("lane: %+v, want one flush by flag", l)
	}
}

func TestNodeFlushesWhenItCannotProve(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, reason string
		disturb      func(t *testing.T, r *rig)
	}{
		{"stream trimmed", "trimmed", func(t *testing.T, r *rig) {
			r.change("1")
			r.change("2")
			check(t, r.rdb.XTrimMaxLen(context.Background(), lane.KeysOf(r.ns, 0).Stream, 1).Err())
		}},
		{"lane recreated", "mismatch", func(t *testing.T, r *rig) {
			k := lane.KeysOf(r.ns, 0)
			check(t, r.rdb.Del(context.Background(), k.Stream, k.Meta).Err())
			r.db.change("1", false)
			r.setRoot(nil)
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := withLane(t)
			r.change("1")
			var c cable
			// The poll is slow enough that what the test does in between looks like one step.
			n := r.joinBy(c.client(t, r.server), invalidation.Config{PollInterval: time.Second})
			cache := r.cache(n)
			wantGet(t, cache, "1", "1@1")
			c.deaf.Store(true)
			synced := n.Stats().Syncs
			eventually(t, "sync", func() bool { return n.Stats().Syncs > synced })
			tc.disturb(t, r)
			r.current(n)
			wantGet(t, cache, "1", "1@2")
			if l := n.Stats().Lanes[0]; l.Flushes[tc.reason] != 1 {
				t.Errorf("lane: %+v, want a flush: %s", l, tc.reason)
			}
		})
	}
}

// A link that brings nothing and does not break: the subscription is given up after three seconds, and entries are not
// served for longer than MaxStaleness.
func TestNodeLinkStalls(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	var c cable
	n := r.joinBy(c.client(t, r.server), invalidation.Config{MaxStaleness: 600 * time.Millisecond})
	cache := r.cache(n)
	wantGet(t, cache, "1", "1@1")
	c.mute.Store(true)
	began := time.Now()
	r.change("1")
	testenv.Eventually(t, 30*time.Second, func(context.Context) error {
		v, err := cache.Get(t.Context(), "1")
		if err != nil {
			return err
		}
		if v != "1@2" {
			return fmt.Errorf("still %s", v)
		}
		return nil
	})
	// The bound, a sync that was answered just before, and the failing read of the shared tier (half a second, tried twice).
	if d := time.Since(began); d > 2500*time.Millisecond {
		t.Errorf("a stale entry was served for %s", d)
	}
	eventually(t, "dead subscription noticed", func() bool { return !n.Stats().Lanes[0].Live })
	if d := time.Since(began); d > 4*time.Second {
		t.Errorf("the dead subscription was noticed after %s", d)
	}
	c.mute.Store(false)
	r.current(n)
	eventually(t, "subscribed again", func() bool { return n.Stats().Lanes[0].Live })
	wantGet(t, cache, "1", "1@2")
}

func TestNodeStartsWithoutRedis(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.RedisOptions{})
	r := newRig(t, server)
	r.db.change("1", false)
	server.Kill(t)
	n := r.join(invalidation.Config{JoinWait: 50 * time.Millisecond})
	cache := r.cache(n)
	wantGet(t, cache, "1", "1@1")
	server.Restart(t)
	r.setRoot(nil)
	r.current(n)
	wantGet(t, cache, "1", "1@1")
	wantGet(t, cache, "1", "1@1")
	if s := cache.Stats(); s.LocalHits != 1 || s.Loads != 2 {
		t.Errorf("cache: %+v", s)
	}
	server.Kill(t)
	r.db.change("9", false)
	wantGet(t, cache, "9", "9@1")
	if s := cache.Stats(); s.Bypasses["redis"] == 0 {
		t.Errorf("cache: %+v, want reads without Redis", s)
	}
}

func TestNodeDisagreesWithLane(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	r.setRoot(map[string]string{"users": "another"})
	r.db.change("1", false)
	n := r.join(invalidation.Config{})
	cache := r.cache(n)
	wantGet(t, cache, "1", "1@1")
	wantGet(t, cache, "1", "1@1")
	if s := cache.Stats(); s.Bypasses["dataset"] != 2 || s.Entries != 0 {
		t.Errorf("cache: %+v, want both tiers passed by", s)
	}
	if d := n.Stats().Disagreeing; len(d) != 1 || d[0] != "users" {
		t.Errorf("disagreeing: %v", d)
	}
	r.setRoot(nil)
	eventually(t, "agreement", func() bool { return len(n.Stats().Disagreeing) == 0 })
	wantGet(t, cache, "1", "1@1")
	wantGet(t, cache, "1", "1@1")
	if s := cache.Stats(); s.LocalHits != 1 {
		t.Errorf("cache: %+v, want a hit", s)
	}
	r.setRoot(map[string]string{"users": "a third"})
	eventually(t, "disagreement", func() bool { return len(n.Stats().Disagreeing) == 1 })
}

func TestJoinRefuses(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	ok := invalidation.Config{Namespace: r.ns, Datasets: r.datasets}
	with := func(change func(*invalidation.Config)) invalidation.Config {
		c := ok
		change(&c)
		return c
	}
	cluster := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{"127.0.0.1:1"}, ReadOnly: true})
	defer func() { check(t, cluster.Close()) }()
	for name, tc := range map[string]struct {
		rdb redis.UniversalClient
		cfg invalidation.Config
		err error
	}{
		"namespace":               {r.rdb, with(func(c *invalidation.Config) { c.Namespace = "No" }), lane.ErrNamespace},
		"no datasets":             {r.rdb, with(func(c *invalidation.Config) { c.Datasets = nil }), invalidation.ErrConfig},
		"too many lanes":          {r.rdb, with(func(c *invalidation.Config) { c.Lanes = lane.MaxLanes + 1 }), invalidation.ErrConfig},
		"two lanes of one":        {r.rdb, with(func(c *invalidation.Config) { c.Lanes = 2 }), invalidation.ErrLanes},
		"bound within polls":      {r.rdb, with(func(c *invalidation.Config) { c.MaxStaleness = 3 * time.Second }), invalidation.ErrConfig},
		"negative poll":           {r.rdb, with(func(c *invalidation.Config) { c.PollInterval = -1 }), invalidation.ErrConfig},
		"cluster, replicas":       {cluster, ok, invalidation.ErrUnfit},
		"no client":               {nil, ok, invalidation.ErrConfig},
		"client that is a nil":    {(*redis.Client)(nil), ok, invalidation.ErrConfig},
		"another number of lanes": {r.rdb, with(func(c *invalidation.Config) { c.Namespace = lanes(t, r, 4) }), invalidation.ErrLanes},
	} {
		n, err := invalidation.Join(t.Context(), tc.rdb, tc.cfg)
		if !errors.Is(err, tc.err) {
			t.Errorf("%s: %v, want %v", name, err, tc.err)
		}
		if n != nil {
			check(t, n.Close())
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := invalidation.Join(ctx, r.rdb, with(func(c *invalidation.Config) { c.Namespace = "nowhere" })); !errors.Is(err, context.Canceled) {
		t.Errorf("Join after its context ended: %v", err)
	}
}

// lanes makes a namespace with another number of lanes.
func lanes(t *testing.T, r *rig, number int) string {
	t.Helper()
	ns := r.server.Namespace(t)
	s, err := lane.New(r.rdb, lane.Config{Namespace: ns, Lanes: number})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Root(t.Context(), 0, lane.RootRequest{}); err != nil {
		t.Fatal(err)
	}
	return ns
}

func TestNodeCloses(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.db.change("1", false)
	n := r.join(invalidation.Config{})
	began := make(chan struct{})
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: func(ctx context.Context, _ string, _ invalidation.Source) (invalidation.Loaded[string], error) {
		close(began)
		<-ctx.Done()
		return invalidation.Loaded[string]{}, ctx.Err()
	}})
	result := make(chan error)
	go func() { _, err := c.Get(context.Background(), "1"); result <- err }()
	testenv.Await(t, began)
	closing := time.Now()
	closed := make(chan error, 2)
	for range 2 {
		go func() { closed <- n.Close() }()
	}
	if err := testenv.Await(t, result); !errors.Is(err, invalidation.ErrClosed) {
		t.Errorf("the load that ran gave %v, want ErrClosed", err)
	}
	for range 2 {
		check(t, testenv.Await(t, closed))
	}
	if d := time.Since(closing); d > 2*time.Second {
		t.Errorf("Close took %s", d)
	}
	if _, err := c.Get(t.Context(), "1"); !errors.Is(err, invalidation.ErrClosed) {
		t.Errorf("Get after Close gave %v", err)
	}
	if err := n.WaitFor(t.Context(), schemas.NewToken(userSource, 100)); !errors.Is(err, invalidation.ErrClosed) {
		t.Errorf("WaitFor after Close gave %v", err)
	}
	if _, err := invalidation.NewCache(n, invalidation.CacheConfig[string]{Dataset: "users", Load: r.db.load}); err == nil {
		t.Error("a closed node took a cache")
	}
}

// While a node and the lane disagree about a dataset, its keys may have other names: what was kept before is void.
func TestNodeForgetsDatasetOnDisagreement(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.db.change("1", false)
	n := r.join(invalidation.Config{})
	cache := r.cache(n)
	wantGet(t, cache, "1", "1@1")
	d, _ := r.datasets.Get("users")
	for _, hash := range []string{"another", d.CacheHash()} {
		check(t, r.rdb.HSet(t.Context(), lane.KeysOf(r.ns, 0).Meta, "d:users", hash).Err())
		eventually(t, "node sees the hash", func() bool { return (len(n.Stats().Disagreeing) == 0) == (hash == d.CacheHash()) })
	}
	wantGet(t, cache, "1", "1@1")
	if s := cache.Stats(); s.LocalHits != 0 || s.SharedHits != 1 {
		t.Errorf("cache: %+v, want the entry from before not served", s)
	}
}

// A flush may carry a change of templates: the node looks at once, not at the next poll.
func TestNodeLooksAfterFlush(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{PollInterval: time.Minute, MaxStaleness: time.Hour})
	r.setRoot(map[string]string{"users": "another"})
	eventually(t, "disagreement", func() bool { return len(n.Stats().Disagreeing) == 1 })
}
