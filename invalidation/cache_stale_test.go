package invalidation_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

var errDown = errors.New("database is down")

// failing is a loader that can be made to fail.
type failing struct {
	db   *database
	down atomic.Bool
}

func (f *failing) load(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
	if f.down.Load() {
		return invalidation.Loaded[string]{}, errDown
	}
	return f.db.load(ctx, key, from)
}

func wantDown(t *testing.T, c *invalidation.Cache[string], key string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // for hangs only
	defer cancel()
	if v, err := c.Get(ctx, key); !errors.Is(err, errDown) {
		t.Errorf("Get gave %q, %v, want the loader's error", v, err)
	}
}

// gone waits until an entry that was stored with a TTL of a millisecond has ended in both tiers. Redis ends its own by its
// own clock, which may be before the node does.
func (r *rig) gone(key string) {
	r.t.Helper()
	began := time.Now()
	eventually(r.t, "entry ended in both tiers", func() bool {
		n, err := r.rdb.Exists(r.t.Context(), lane.KeysOf(r.ns, lane.Of("user:"+key, r.lanes)).Value("user:"+key)).Result()
		return err == nil && n == 0 && time.Since(began) > 2*time.Millisecond
	})
}

func TestStaleIfErrorServesPastTTL(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	for _, k := range []string{"1", "2", "3"} {
		r.change(k)
	}
	n := r.join(invalidation.Config{})
	r.current(n)
	f := &failing{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: f.load, TTL: time.Millisecond, StaleIfError: time.Hour})
	wantGet(t, c, "1", "1@1")
	wantGet(t, c, "2", "2@1")
	r.gone("1")
	r.gone("2")
	f.down.Store(true)
	wantGet(t, c, "1", "1@1")
	if s := c.Stats(); s.StaleServed != 1 || s.LoadErrors != 1 {
		t.Errorf("served stale %d, load errors %d, want 1 and 1", s.StaleServed, s.LoadErrors)
	}
	got, err := c.GetMany(t.Context(), []string{"1", "2", "3"})
	if !errors.Is(err, errDown) || got["1"] != "1@1" || got["2"] != "2@1" || len(got) != 2 {
		t.Errorf("GetMany gave %v, %v, want what was held, and the error of the third", got, err)
	}
	for name, get := range map[string]func() (string, error){
		"GetAtLeast": func() (string, error) { return c.GetAtLeast(t.Context(), "1", 1) },
		"GetWithin":  func() (string, error) { return c.GetWithin(t.Context(), "1", time.Hour) },
	} {
		if v, err := get(); !errors.Is(err, errDown) {
			t.Errorf("%s gave %q, %v, although it asks for more than Get", name, v, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Get(ctx, "1"); !errors.Is(err, context.Canceled) {
		t.Errorf("a reader who gave up got %v", err)
	}

	r.emit([]lane.Item{{Key: "user:1", Version: r.db.change("1", false).version}})
	r.current(n)
	wantDown(t, c, "1") // it was invalidated
	wantGet(t, c, "2", "2@1")
	r.setRoot(nil)
	r.current(n)
	wantDown(t, c, "2") // all were
}

func TestStaleIfErrorHasABound(t *testing.T) {
	t.Parallel()
	for _, bound := range []time.Duration{0, time.Nanosecond} {
		r := withLane(t)
		r.change("1")
		n := r.join(invalidation.Config{})
		r.current(n)
		f := &failing{db: r.db}
		c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: f.load, TTL: time.Millisecond, StaleIfError: bound})
		wantGet(t, c, "1", "1@1")
		r.gone("1")
		f.down.Store(true)
		wantDown(t, c, "1")
		if s := c.Stats(); s.StaleServed != 0 {
			t.Errorf("bound %s: served stale %d times", bound, s.StaleServed)
		}
	}
}

// The bound also counts from the entry's end, however well the node can prove that nothing made the entry stale.
func TestStaleIfErrorHasABoundPastTTL(t *testing.T) {
	t.Parallel()
	const bound = time.Second
	r := withLane(t)
	r.change("1")
	n := r.join(invalidation.Config{PollInterval: 10 * time.Millisecond})
	r.current(n)
	f := &failing{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: f.load, TTL: time.Millisecond, StaleIfError: bound})
	wantGet(t, c, "1", "1@1")
	r.gone("1")
	f.down.Store(true)
	refused := 0
	eventually(t, "an entry long past its end is refused while its lane is proved", func() bool {
		_, err := c.Get(t.Context(), "1")
		if errors.Is(err, errDown) && n.Stats().Lanes[0].ConfirmAge < bound/2 {
			refused++ // one refusal alone could come of a proof that was late just then
		} else {
			refused = 0
		}
		return refused == 20
	})
}

// A node that Redis does not answer cannot prove that it saw everything; the bound counts from its last proof.
func TestStaleIfErrorWithoutProof(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name  string
		bound time.Duration
		want  bool
	}{{"within the bound", time.Hour, true}, {"beyond", time.Millisecond, false}} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			r := withLane(t)
			r.change("1")
			var cb cable
			n := r.joinBy(cb.client(t, r.server), invalidation.Config{PollInterval: 20 * time.Millisecond, MaxStaleness: 200 * time.Millisecond})
			r.current(n)
			f := &failing{db: r.db}
			c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: f.load, StaleIfError: tc.bound})
			wantGet(t, c, "1", "1@1")
			cb.mute.Store(true)
			eventually(t, "node is not fresh", func() bool { return !n.Stats().Lanes[0].Fresh })
			if why := n.NotReady(); len(why) != 1 || !strings.Contains(why[0], "it saw everything") {
				t.Errorf("not ready: %q", why)
			}
			f.down.Store(true)
			if tc.want {
				wantGet(t, c, "1", "1@1")
			} else {
				wantDown(t, c, "1")
			}
			f.down.Store(false)
			r.db.change("1", false)
			wantGet(t, c, "1", "1@2") // a loader that works is asked
		})
	}
}

// What the node did not hear, the shared tier may tell: a floor above the entry means that it is stale.
func TestStaleIfErrorHeedsTheFloor(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	var cb cable
	n := r.joinBy(cb.client(t, r.server), invalidation.Config{PollInterval: time.Minute, MaxStaleness: time.Hour})
	r.current(n)
	f := &failing{db: r.db}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: f.load, LocalTTL: time.Nanosecond, StaleIfError: time.Hour})
	wantGet(t, c, "1", "1@1")
	cb.deaf.Store(true)
	r.change("1")
	eventually(t, "message lost", func() bool { return cb.swallowed.Load() > 0 })
	f.down.Store(true)
	wantDown(t, c, "1")
}
