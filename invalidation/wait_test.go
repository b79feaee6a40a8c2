package invalidation_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

func TestWaitFor(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	n := r.join(invalidation.Config{PollInterval: time.Minute, MaxStaleness: time.Hour})
	cache := r.cache(n)
	wantGet(t, cache, "1", "1@1")

	waiting := make(chan error)
	go func() { waiting <- n.WaitFor(t.Context(), schemas.NewToken(userSource, 1)) }()
	eventually(t, "waiting", func() bool { return n.Stats().Waiting == 1 })
	select {
	case err := <-waiting:
		t.Fatalf("WaitFor returned %v before the write was announced", err)
	default:
	}
	r.change("1")
	if err := testenv.Await(t, waiting); err != nil {
		t.Fatal(err)
	}
	wantGet(t, cache, "1", "1@2")

	// Offsets without items move the lane's watermark only; no message reports them.
	go func() {
		waiting <- n.WaitFor(t.Context(), schemas.NewToken(userSource, 2).Merge(schemas.NewToken(userSource, 0)))
	}()
	eventually(t, "waiting", func() bool { return n.Stats().Waiting == 1 })
	r.emit(nil)
	if err := testenv.Await(t, waiting); err != nil {
		t.Fatal(err)
	}
	eventually(t, "no one waits", func() bool { return n.Stats().Waiting == 0 })
	check(t, n.WaitFor(t.Context(), schemas.Token{}))
	// The syncs were for the waiters; with no one waiting there are none.
	if s := n.Stats().Syncs; s > 500 {
		t.Errorf("%d syncs for two waits", s)
	}
}

func TestWaitForGivesUp(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	r.change("1")
	n := r.join(invalidation.Config{})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	other := "freshet.users/b3RoZXI/0"
	if err := n.WaitFor(ctx, schemas.NewToken(userSource, 99)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write that never comes: %v", err)
	}
	if err := n.WaitFor(t.Context(), schemas.NewToken("freshet.logs/b3RoZXI/0", 0)); !errors.Is(err, invalidation.ErrNoCache) {
		t.Errorf("a dataset without cache section: %v", err)
	}
	if err := n.WaitFor(t.Context(), schemas.NewToken("freshet.nothing/b3RoZXI/0", 0)); !errors.Is(err, invalidation.ErrNoCache) {
		t.Errorf("a topic of no dataset: %v", err)
	}
	if err := n.WaitFor(t.Context(), schemas.NewToken(other, 0)); !errors.Is(err, invalidation.ErrTokenGone) {
		t.Errorf("a topic that was recreated: %v", err)
	}
	quiet := "freshet.users/dG9waWMtb25l/7"
	ctx, cancel = context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	if err := n.WaitFor(ctx, schemas.NewToken(quiet, 0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a quiet partition of the same topic: %v", err)
	}
	own := "freshet.invalidations." + r.ns + "/dG9waWMtb25l/0"
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := n.WaitFor(ctx, schemas.NewToken(own, 0)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("an invalidation of this namespace that never comes: %v", err)
	}
}

// After WaitFor no read may give what was true before the write, also not by a load that no floor guards.
func TestWaitForBindsLoads(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{})
	r.change("1")
	r.db.lag(true)
	r.change("1")
	busy := func(token string) {
		t.Helper()
		s, err := lane.New(r.rdb, lane.Config{Namespace: r.ns})
		if err != nil {
			t.Fatal(err)
		}
		if rep, err := s.Get(t.Context(), "user:2", token); err != nil || rep.Status != lane.GetLease {
			t.Fatalf("lease: %+v, %v", rep, err)
		}
	}
	busy("another process") // before the write: without a floor
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, BusyWait: -1})
	if _, err := c.Get(t.Context(), "2"); !errors.Is(err, invalidation.ErrNotFound) {
		t.Errorf("Get gave %v, want ErrNotFound", err)
	}
	v := r.db.change("2", false)
	off := r.emit([]lane.Item{{Key: "user:3", Version: v.version}}) // the write that is waited for concerns another key
	if _, err := c.Get(t.Context(), "2"); !errors.Is(err, invalidation.ErrNotFound) {
		t.Errorf("Get gave %v, want what the lagging source has", err)
	}
	check(t, n.WaitFor(t.Context(), schemas.NewToken(userSource, off)))
	wantGet(t, c, "2", "2@1")
	wantGet(t, c, "1", "1@2")
}

func TestWaitForPartsFromLoadsUnderWay(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{})
	began, goOn := make(chan struct{}), make(chan struct{})
	var first atomic.Bool
	c := r.cacheOf(n, invalidation.CacheConfig[string]{BusyWait: -1, Load: func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
		l := r.db.read(key, from)
		if first.CompareAndSwap(false, true) {
			close(began)
			<-goOn
		}
		return l, nil
	}})
	got := make(chan error)
	go func() { _, err := c.Get(t.Context(), "1"); got <- err }()
	testenv.Await(t, began)
	r.db.change("1", false)
	off := r.emit(nil) // this key is not named: a joined record, for instance
	check(t, n.WaitFor(t.Context(), schemas.NewToken(userSource, off)))
	wantGet(t, c, "1", "1@1")
	close(goOn)
	if err := testenv.Await(t, got); !errors.Is(err, invalidation.ErrNotFound) {
		t.Errorf("the slow reader got %v", err)
	}
}

type publisher func(ns string, names, tags []string) (schemas.Token, error)

func (p publisher) Invalidate(_ context.Context, ns string, names, tags []string) (schemas.Token, error) {
	return p(ns, names, tags)
}

func TestInvalidate(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	if _, err := r.join(invalidation.Config{}).Invalidate(t.Context(), []string{"user:1"}, nil); !errors.Is(err, invalidation.ErrNoPublisher) {
		t.Errorf("without publisher: %v", err)
	}
	n := r.join(invalidation.Config{Publisher: publisher(func(ns string, names, tags []string) (schemas.Token, error) {
		if ns != r.ns {
			t.Errorf("namespace %q", ns)
		}
		var items []lane.Item
		for _, name := range names {
			items = append(items, lane.Item{Key: name})
		}
		return schemas.NewToken(userSource, r.emit(items, tags...)), nil
	})})
	c := r.cache(n)
	r.change("1")
	r.current(n)
	wantGet(t, c, "1", "1@1")
	r.db.change("1", false)
	tok, err := c.Invalidate(t.Context(), "1", "1", "2")
	if err != nil {
		t.Fatal(err)
	}
	check(t, n.WaitFor(t.Context(), tok))
	wantGet(t, c, "1", "1@2")
	if _, err := c.Invalidate(t.Context(), ""); !errors.Is(err, schemas.ErrInvalid) {
		t.Errorf("impossible key: %v", err)
	}
}

// A log that was cut gives its offsets out again: once the lanes' watermark moved back, a token of the next write is not met by what the node saw
// of the one before.
func TestWaitForAfterALogWasCut(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{})
	for range 10 {
		r.change("42")
	}
	r.current(n)
	check(t, n.WaitFor(t.Context(), schemas.NewToken(userSource, 9)))
	r.mu.Lock()
	rep, err := r.emitter.Root(t.Context(), 0, lane.RootRequest{Expected: r.roots[0], Group: "g", Hashes: r.hashes(), Source: userSource, Watermark: 4, Back: true})
	r.roots[0], r.offset = rep.Root, 5
	r.mu.Unlock()
	check(t, err)
	r.current(n)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.WaitFor(ctx, schemas.NewToken(userSource, 5)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a write that was not emitted: %v", err)
	}
	r.change("42")
	check(t, n.WaitFor(t.Context(), schemas.NewToken(userSource, 5)))
}
