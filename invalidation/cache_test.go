package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

func TestCacheTiers(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("42")
	a, b := r.cache(r.join(invalidation.Config{})), r.cache(r.join(invalidation.Config{}))
	if l, ok := a.Peek("42"); ok {
		t.Errorf("Peek before any Get gave %+v", l)
	}
	wantGet(t, a, "42", "42@1")
	wantGet(t, a, "42", "42@1")
	wantGet(t, b, "42", "42@1")
	wantGet(t, b, "42", "42@1")
	if l, ok := a.Peek("42"); !ok || l.Value != "42@1" || l.Version != 1 || !l.Found {
		t.Errorf("Peek gave %+v, %t", l, ok)
	}
	if got := r.db.loads.Load(); got != 1 {
		t.Errorf("%d loads for two nodes, want 1", got)
	}
	if s := a.Stats(); s.Loads != 1 || s.LocalHits != 1 || s.SharedHits != 0 || s.Entries != 1 {
		t.Errorf("first node: %+v", s)
	}
	if s := b.Stats(); s.Loads != 0 || s.LocalHits != 1 || s.SharedHits != 1 {
		t.Errorf("second node: %+v", s)
	}
	r.change("42")
	for _, c := range []*invalidation.Cache[string]{a, b} {
		eventually(t, "new version", func() bool { return get(t, c, "42") == "42@2" })
		if s := c.Stats(); s.Dropped != 1 {
			t.Errorf("dropped %d entries, want 1", s.Dropped)
		}
	}
}

// A load that began before a change must not be kept by any tier, however late it ends.
func TestCacheRefusesLoadThatBeganBeforeTheChange(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("42")
	began, goOn := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	n := r.join(invalidation.Config{})
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
		l := r.db.read(key, from)
		if first.CompareAndSwap(false, true) {
			close(began)
			<-goOn
		}
		return l, nil
	}})
	got := make(chan string)
	go func() { got <- get(t, c, "42") }()
	testenv.Await(t, began)
	r.change("42")
	r.current(n)
	wantGet(t, c, "42", "42@2") // does not share the older load
	close(goOn)
	if v := testenv.Await(t, got); v != "42@1" {
		t.Errorf("the slow reader got %q, want what it had read", v)
	}
	wantGet(t, c, "42", "42@2")
	wantGet(t, r.cache(r.join(invalidation.Config{})), "42", "42@2")
	if s := c.Stats(); s.Refusals["lost"]+s.Refusals["guard"] != 1 {
		t.Errorf("refusals: %v, want one", s.Refusals)
	}
}

func TestCacheReadsPrimaryWhenSecondaryLags(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{})
	c := r.cache(n)
	r.change("42")
	r.db.lag(true)
	r.change("42")
	r.current(n)
	wantGet(t, c, "42", "42@2")
	if s := c.Stats(); s.PrimaryLoads != 1 || s.Refusals["stale"] != 1 {
		t.Errorf("stats: %+v, want one stale load and one of the primary", s)
	}
	wantGet(t, c, "42", "42@2")
	if s := c.Stats(); s.LocalHits != 1 {
		t.Errorf("the primary's value was not kept: %+v", s)
	}
}

func TestCacheWithoutVersions(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.db.noVersions = true
	n := r.join(invalidation.Config{})
	c := r.cache(n)
	r.db.change("7", false)
	wantGet(t, c, "7", "7@1") // never invalidated: may be kept
	wantGet(t, c, "7", "7@1")
	if s := c.Stats(); s.LocalHits != 1 {
		t.Errorf("value without version was not kept: %+v", s)
	}
	r.db.lag(true)
	r.change("7")
	r.current(n)
	for range 2 {
		wantGet(t, c, "7", "7@2") // within the hold: the primary, and never kept
	}
	if s := c.Stats(); s.LocalHits != 1 || s.PrimaryLoads != 2 {
		t.Errorf("stats: %+v, want two loads of the primary and no further hit", s)
	}
}

func TestCacheRemembersAbsence(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{})
	a, b := r.cache(n), r.cache(r.join(invalidation.Config{}))
	absent := func(c *invalidation.Cache[string]) {
		t.Helper()
		if v, err := c.Get(t.Context(), "42"); !errors.Is(err, invalidation.ErrNotFound) || v != "" {
			t.Errorf("Get gave %q, %v, want ErrNotFound", v, err)
		}
	}
	absent(a)
	absent(a)
	absent(b)
	if got := r.db.loads.Load(); got != 1 {
		t.Errorf("%d loads of an absent record, want 1", got)
	}
	r.change("42")
	r.current(n)
	wantGet(t, a, "42", "42@1")
	v := r.db.change("42", true)
	r.emit([]lane.Item{{Key: "user:42", Version: v.version}})
	r.current(n)
	absent(a)
	absent(a)
	if got := r.db.loads.Load(); got != 3 {
		t.Errorf("%d loads, want 3: the deletion is remembered with its version", got)
	}
}

func TestCacheTags(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.db.primary["42"] = row{tags: []string{"org:1", "team:2"}}
	r.db.change("42", false)
	n := r.join(invalidation.Config{})
	a, b := r.cache(n), r.cache(r.join(invalidation.Config{}))
	wantGet(t, a, "42", "42@1")
	wantGet(t, b, "42", "42@1")
	r.db.change("42", false)
	wantGet(t, a, "42", "42@1") // no one told
	r.emit(nil, "team:2")
	r.current(n)
	wantGet(t, a, "42", "42@2")
	eventually(t, "new version", func() bool { return get(t, b, "42") == "42@2" })
	if s := a.Stats(); s.Loads != 3 || s.PrimaryLoads != 1 || s.Refusals["primary"] != 1 {
		t.Errorf("stats: %+v, want the load after the invalidation again from the primary", s)
	}
}

func TestCacheSharesOneLoad(t *testing.T) {
	t.Parallel()
	t.Run("with a lane", func(t *testing.T) { t.Parallel(); sharesOneLoad(t, withLane(t)) })
	t.Run("without", func(t *testing.T) { t.Parallel(); sharesOneLoad(t, newRig(t, nil)) })
}

func sharesOneLoad(t *testing.T, r *rig) {
	t.Helper()
	r.db.change("42", false)
	goOn := make(chan struct{})
	var loads atomic.Int64
	long := invalidation.Config{PollInterval: time.Minute, MaxStaleness: time.Hour}
	c := r.cacheOf(r.join(long), invalidation.CacheConfig[string]{Load: func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
		loads.Add(1)
		<-goOn
		return r.db.read(key, from), nil
	}})
	const readers = 20
	impatient, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() { _, err := c.Get(impatient, "42"); first <- err }()
	eventually(t, "load begun", func() bool { return loads.Load() == 1 })
	var wg sync.WaitGroup
	for range readers {
		wg.Go(func() { wantGet(t, c, "42", "42@1") })
	}
	eventually(t, "readers joined", func() bool { return c.Stats().Joined == readers })
	cancel()
	if err := testenv.Await(t, first); !errors.Is(err, context.Canceled) {
		t.Errorf("the reader that gave up got %v", err)
	}
	close(goOn)
	wg.Wait()
	if loads.Load() != 1 {
		t.Errorf("%d loads, want 1", loads.Load())
	}
}

// Another node holds the lease: wait a little for its value, but not permanently.
func TestCacheBusy(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name string
		wait time.Duration
		want int64 // loads of the second node
	}{
		{"value comes in time", time.Minute, 0},
		{"value comes too late", -1, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := withLane(t)
			r.change("42")
			goOn := make(chan struct{})
			began := make(chan struct{})
			a := r.cacheOf(r.join(invalidation.Config{}), invalidation.CacheConfig[string]{Load: func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
				close(began)
				<-goOn
				return r.db.read(key, from), nil
			}})
			b := r.cacheOf(r.join(invalidation.Config{}), invalidation.CacheConfig[string]{Load: r.db.load, BusyWait: tc.wait})
			var wg sync.WaitGroup
			wg.Go(func() { wantGet(t, a, "42", "42@1") })
			testenv.Await(t, began)
			var second sync.WaitGroup
			second.Go(func() { wantGet(t, b, "42", "42@1") })
			if tc.want > 0 {
				second.Wait() // without the first's value
			}
			close(goOn)
			wg.Wait()
			second.Wait()
			if s := b.Stats(); s.Loads != tc.want || s.Bypasses["busy"] != tc.want || s.SharedHits != 1-tc.want {
				t.Errorf("second node: %+v, want %d loads", s, tc.want)
			}
		})
	}
}

// The floor in a BUSY answer binds the load that is served without caching.
func TestCacheBusyHeedsFloor(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("42")
	r.db.lag(true)
	r.change("42")
	s, err := lane.New(r.rdb, lane.Config{Namespace: r.ns})
	if err != nil {
		t.Fatal(err)
	}
	if rep, err := s.Get(t.Context(), "user:42", "another process"); err != nil || rep.Status != lane.GetLease {
		t.Fatalf("lease: %+v, %v", rep, err)
	}
	c := r.cacheOf(r.join(invalidation.Config{}), invalidation.CacheConfig[string]{Load: r.db.load, BusyWait: -1})
	wantGet(t, c, "42", "42@2")
	if s := c.Stats(); s.KeptBounded != 1 || s.PrimaryLoads != 1 || s.Bypasses["busy"] != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestCacheLoaderFails(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	boom := errors.New("boom")
	fail := true
	c := r.cacheOf(r.join(invalidation.Config{}), invalidation.CacheConfig[string]{BusyWait: -1, Load: func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
		if fail {
			return invalidation.Loaded[string]{}, boom
		}
		return r.db.read(key, from), nil
	}})
	if _, err := c.Get(t.Context(), "42"); !errors.Is(err, boom) {
		t.Errorf("Get gave %v, want the loader's error", err)
	}
	fail = false
	r.db.change("42", false)
	wantGet(t, c, "42", "42@1")
	wantGet(t, c, "42", "42@1")
	if s := c.Stats(); s.LoadErrors != 1 || s.Loads != 2 || s.LocalHits != 1 || s.Bypasses["busy"] != 0 {
		t.Errorf("stats: %+v, want the lease of the failed load used again", s)
	}
}

// A Redis that does not answer costs a few reads their patience, not all.
func TestCachePassesSilentRedisBy(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	var cb cable
	c := r.cache(r.joinBy(cb.client(t, r.server), invalidation.Config{}))
	r.db.change("42", false)
	cb.mute.Store(true)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() { _, _ = c.Get(t.Context(), fmt.Sprint(i)) }) // absent records
	}
	wg.Wait()
	began := time.Now()
	for i := range 100 {
		_, _ = c.Get(t.Context(), fmt.Sprint(3+i)) // what was read once is kept for MaxStaleness
	}
	if d := time.Since(began); d > 400*time.Millisecond {
		t.Errorf("a hundred reads took %s", d)
	}
	if s := c.Stats(); s.Bypasses["redis"] != 103 || s.LoadErrors != 0 {
		t.Errorf("stats: %+v", s)
	}
	cb.mute.Store(false)
	eventually(t, "shared tier in use again", func() bool {
		wantGet(t, c, "42", "42@1")
		return c.Stats().LocalHits > 0
	})
}

func TestCacheLoaderPanics(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	c := r.cacheOf(r.join(invalidation.Config{}), invalidation.CacheConfig[string]{Load: func(context.Context, string, invalidation.Source) (invalidation.Loaded[string], error) {
		panic("at the loader")
	}})
	defer func() {
		if got := fmt.Sprint(recover()); !strings.Contains(got, "at the loader") {
			t.Errorf("the caller recovered %q", got)
		}
	}()
	_, err := c.Get(t.Context(), "42")
	t.Errorf("Get returned %v", err)
}

func TestCacheServesWhatItCannotKeep(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name   string
		loaded invalidation.Loaded[string]
		codec  invalidation.Codec[string]
		reason string
	}{
		{"version beyond the protocol", invalidation.Loaded[string]{Value: "x", Found: true, Version: schemas.MaxVersion + 1}, nil, "invalid"},
		{"negative version", invalidation.Loaded[string]{Value: "x", Found: true, Version: -1}, nil, "invalid"},
		{"tag with a line break", invalidation.Loaded[string]{Value: "x", Found: true, Version: 1, Tags: []string{"a\nb"}}, nil, "invalid"},
		{"found value of no bytes", invalidation.Loaded[string]{Value: "x", Found: true, Version: 1}, empty{}, "codec"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := withLane(t)
			tc.loaded.From = invalidation.Primary
			c := r.cacheOf(r.join(invalidation.Config{}), invalidation.CacheConfig[string]{
				Codec: tc.codec, BusyWait: -1,
				Load: func(context.Context, string, invalidation.Source) (invalidation.Loaded[string], error) {
					return tc.loaded, nil
				},
			})
			wantGet(t, c, "42", "x")
			if s := c.Stats(); s.Entries != 0 || s.Refusals[tc.reason] != 1 {
				t.Errorf("stats: %+v, want one refusal: %s", s, tc.reason)
			}
		})
	}
}

type empty struct{}

func (empty) Name() string                  { return "json" }
func (empty) Encode(string) ([]byte, error) { return nil, nil }
func (empty) Decode([]byte) (string, error) { return "", nil }

func TestCacheLocalTTL(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.db.change("42", false)
	c := r.cacheOf(r.join(invalidation.Config{}), invalidation.CacheConfig[string]{Load: r.db.load, LocalTTL: time.Nanosecond})
	wantGet(t, c, "42", "42@1")
	wantGet(t, c, "42", "42@1")
	if s := c.Stats(); s.LocalHits != 0 || s.SharedHits != 1 || s.Loads != 1 {
		t.Errorf("stats: %+v, want the second read from the shared tier", s)
	}
}

func TestNewCacheRefuses(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{})
	load := r.db.load
	for name, cfg := range map[string]invalidation.CacheConfig[string]{
		"no loader":              {Dataset: "users"},
		"unknown dataset":        {Dataset: "nobody", Load: load},
		"dataset without cache":  {Dataset: "logs", Load: load},
		"negative size":          {Dataset: "users", Load: load, MaxEntries: -1},
		"TTL too short":          {Dataset: "users", Load: load, TTL: time.Microsecond},
		"jitter of all":          {Dataset: "users", Load: load, Jitter: 1},
		"loads outlive leases":   {Dataset: "users", Load: load, LoadTimeout: time.Hour},
		"negative local TTL":     {Dataset: "users", Load: load, LocalTTL: -1},
		"negative load time-out": {Dataset: "users", Load: load, LoadTimeout: -1},
	} {
		if _, err := invalidation.NewCache(n, cfg); !errors.Is(err, invalidation.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
	if _, err := invalidation.NewCache(nil, invalidation.CacheConfig[string]{Dataset: "users", Load: load}); !errors.Is(err, invalidation.ErrConfig) {
		t.Errorf("nil node: %v, want ErrConfig", err)
	}
	r.cache(n)
	if _, err := invalidation.NewCache(n, invalidation.CacheConfig[string]{Dataset: "users", Load: load}); !errors.Is(err, invalidation.ErrConfig) {
		t.Errorf("second cache of a dataset: %v, want ErrConfig", err)
	}
	if _, err := r.cache(r.join(invalidation.Config{})).Get(t.Context(), ""); !errors.Is(err, schemas.ErrInvalid) {
		t.Errorf("Get of an impossible key: %v, want ErrInvalid", err)
	}
}

func TestCacheKeepsWhatIsNewer(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{})
	c := r.cache(n)
	r.change("42")
	r.change("42")
	r.current(n)
	wantGet(t, c, "42", "42@2")
	r.emit([]lane.Item{{Key: "user:42", Version: 1}}) // delivered again
	r.emit([]lane.Item{{Key: "user:42", Version: 2}})
	r.current(n)
	wantGet(t, c, "42", "42@2")
	if s := c.Stats(); s.LocalHits != 1 || s.Dropped != 0 {
		t.Errorf("stats: %+v, want the entry kept", s)
	}
	r.emit([]lane.Item{{Key: "user:42"}}) // nothing to compare with
	r.current(n)
	if s := c.Stats(); s.Dropped != 1 {
		t.Errorf("stats: %+v, want the entry dropped", s)
	}
}

// The node has not learned of the change yet; that the shared tier refused the value is enough.
func TestCacheKeepsNothingThatWasRefused(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("42")
	var cb cable
	n := r.joinBy(cb.client(t, r.server), invalidation.Config{PollInterval: time.Minute, MaxStaleness: time.Hour})
	cb.deaf.Store(true)
	c := r.cacheOf(n, invalidation.CacheConfig[string]{BusyWait: -1, Load: func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
		l := r.db.read(key, from)
		if l.Version == 1 {
			r.change(key)
		}
		return l, nil
	}})
	wantGet(t, c, "42", "42@1")
	if l, held := c.Peek("42"); held || c.Stats().Refusals["lost"] != 1 {
		t.Errorf("%v is held, stats: %+v, want the value served and not kept", l, c.Stats())
	}
	wantGet(t, c, "42", "42@2")
}

// A worker gave the lane other cache sections, and the node has not learned of it: what it loads may bear another record's
// name by now, or lack a tag, and must not be shared under the new root.
func TestCacheSharesNothingUnderARootItDoesNotKnow(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("42")
	var cb cable
	n := r.joinBy(cb.client(t, r.server), invalidation.Config{PollInterval: time.Minute, MaxStaleness: time.Hour})
	c := r.cache(n)
	r.current(n)
	r.change("43")
	r.change("44")
	r.current(n)
	shared := func(key string) bool {
		b, err := r.rdb.Get(t.Context(), lane.KeysOf(r.ns, 0).Value("user:"+key)).Bytes()
		_, isValue := lane.ParseValue(b)
		return err == nil && isValue
	}
	cb.deaf.Store(true)
	r.setRoot(nil) // the same sections: the node looks, and then uses the lease that it has
	wantGet(t, c, "43", "43@1")
	eventually(t, "the record is shared again", func() bool { get(t, c, "43"); return shared("43") })
	r.setRoot(map[string]string{"users": "another"})
	for range 20 {
		wantGet(t, c, "44", "44@1")
	}
	if shared("44") {
		t.Error("the record was shared under a root whose cache sections the node does not have")
	}
	eventually(t, "the node looks", func() bool { return len(n.Stats().Disagreeing) == 1 })
	if s := c.Stats(); s.Bypasses["new_root"] < 2 {
		t.Errorf("stats: %+v", s)
	}
}

// A flush may be for other cache sections. Until the node has looked which, it keeps nothing, also where it needs no Redis
// for it: it would not learn of changes under the names that it has.
func TestCacheKeepsNothingAfterAFlushBeforeALook(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	var cb cable
	n := r.joinBy(cb.client(t, r.server), invalidation.Config{PollInterval: time.Minute, MaxStaleness: time.Hour})
	c := r.cacheOf(n, invalidation.CacheConfig[string]{LocalOnly: true, Load: r.db.load})
	r.change("42")
	r.current(n)
	wantGet(t, c, "42", "42@1")
	wantGet(t, c, "42", "42@1")
	if s := c.Stats(); s.LocalHits != 1 {
		t.Fatalf("stats: %+v, want a local hit", s)
	}
	cb.blind.Store(true)
	r.setRoot(map[string]string{"users": "another"})
	eventually(t, "the flush arrives", func() bool { return n.Stats().Lanes[0].Flushes["flag"] == 1 })
	wantGet(t, c, "42", "42@1")
	wantGet(t, c, "42", "42@1")
	if s := c.Stats(); s.LocalHits != 1 || s.Bypasses["dataset"] != 2 {
		t.Errorf("stats: %+v, want two loads that were not kept", s)
	}
}
