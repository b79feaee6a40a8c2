package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// byName looks users up by name in a primary and in a secondary that lags.
type byName struct {
	mu                 sync.Mutex
	primary, secondary map[string]int // name → id
	asked              []invalidation.Source
}

func (b *byName) load(_ context.Context, name string, from invalidation.Source) (invalidation.Loaded[string], error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.asked = append(b.asked, from)
	rows := b.secondary
	if from == invalidation.Primary {
		rows = b.primary
	}
	id, ok := rows[name]
	return invalidation.Loaded[string]{Value: fmt.Sprintf("user %d", id), Version: int64(100 * id), Found: ok, From: from}, nil
}

const nameTemplate = "user:name:{name}"

func TestDerivedCache(t *testing.T) {
	t.Parallel()
	r := withLanes(t, 3)
	a, b := r.join(invalidation.Config{}), r.join(invalidation.Config{})
	db := &byName{primary: map[string]int{"ada:x": 1}, secondary: map[string]int{"ada:x": 1}}
	r.cache(a) // a node has a cache of the records beside those of lookups
	ca := r.cacheOf(a, invalidation.CacheConfig[string]{Derived: nameTemplate, Load: db.load})
	cb := r.cacheOf(b, invalidation.CacheConfig[string]{Derived: nameTemplate, Load: db.load})
	wantGet(t, ca, "ada:x", "user 1")
	wantGet(t, cb, "ada:x", "user 1")
	if len(db.asked) != 1 || db.asked[0] != invalidation.Any {
		t.Errorf("loads for two nodes: %v, want one from anywhere", db.asked)
	}
	if l, ok := ca.Peek("ada:x"); !ok || l.Version != 0 {
		t.Errorf("lookup has version %d, %t; want none", l.Version, ok)
	}

	// The user gets another name; the secondary does not know it yet.
	db.mu.Lock()
	db.primary = map[string]int{"lovelace": 1}
	db.asked = nil
	db.mu.Unlock()
	r.emit([]lane.Item{{Key: "user:1", Version: 2}, {Key: "user:name:ada%3Ax"}, {Key: "user:name:lovelace"}})
	r.current(a)
	r.current(b)
	for _, c := range []*invalidation.Cache[string]{ca, cb} {
		if v, err := c.Get(t.Context(), "ada:x"); !errors.Is(err, invalidation.ErrNotFound) {
			t.Errorf("old name: %q, %v; want ErrNotFound", v, err)
		}
		wantGet(t, c, "lovelace", "user 1")
	}
	for _, from := range db.asked {
		if from != invalidation.Primary {
			t.Errorf("loads within the hold: %v, want the primary only", db.asked)
			break
		}
	}
	if len(db.asked) != 2 {
		t.Errorf("%d loads of two names on two nodes, want 2", len(db.asked))
	}
	if _, ok := ca.Peek("lovelace"); !ok {
		t.Error("a lookup loaded from the primary is not kept")
	}
}

func TestDerivedCacheRefuses(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	n := r.join(invalidation.Config{})
	load := (&byName{}).load
	r.cacheOf(n, invalidation.CacheConfig[string]{Derived: nameTemplate, Load: load})
	for name, template := range map[string]string{"a second one": nameTemplate, "not declared": "user:mail:{name}", "the record's own": "user:{id}"} {
		_, err := invalidation.NewCache(n, invalidation.CacheConfig[string]{Dataset: "users", Derived: template, Load: load})
		if !errors.Is(err, invalidation.ErrConfig) {
			t.Errorf("%s: %v, want ErrConfig", name, err)
		}
	}
}

// Where every load reads the primary, nothing is delayed after an invalidation, and nothing but the primary is asked.
func TestNoHold(t *testing.T) {
	t.Parallel()
	r := newRig(t, nil)
	e, err := invalidation.NewEmitter(r.rdb, invalidation.EmitterConfig{Namespace: r.ns, Hold: -1})
	if err != nil {
		t.Fatal(err)
	}
	old := r.emitter
	t.Cleanup(func() { check(t, e.Close()) })
	r.emitter = e
	r.setRoot(nil)
	if err := old.Check(t.Context()); !errors.Is(err, invalidation.ErrUnfit) {
		t.Errorf("an emitter with a hold: %v, want ErrUnfit", err)
	}
	if _, err := invalidation.Join(t.Context(), r.rdb, invalidation.Config{Namespace: r.ns, Datasets: r.datasets}); !errors.Is(err, invalidation.ErrLoads) {
		t.Errorf("a node with a hold: %v, want ErrLoads", err)
	}
	n := r.join(invalidation.Config{Hold: -1})
	var asked []invalidation.Source
	lie := false
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
		asked = append(asked, from)
		l := r.db.read(key, from)
		l.Version = 0
		if lie {
			l.From = invalidation.Any
		}
		return l, nil
	}})
	for v := range 3 {
		r.change("1")
		r.current(n)
		wantGet(t, c, "1", fmt.Sprintf("1@%d", v+1))
		if _, ok := c.Peek("1"); !ok {
			t.Error("what was loaded right after an invalidation is not kept")
		}
	}
	for _, from := range asked {
		if from != invalidation.Primary {
			t.Errorf("asked %v, want the primary only", asked)
		}
	}
	if n, err := r.rdb.Exists(t.Context(), lane.KeysOf(r.ns, 0).Floors0, lane.KeysOf(r.ns, 0).Floors1).Result(); err != nil || n != 0 {
		t.Errorf("%d floors, %v; want none", n, err)
	}
	lie = true
	r.change("1")
	r.current(n)
	wantGet(t, c, "1", "1@4")
	if _, ok := c.Peek("1"); ok {
		t.Error("what was not read from the primary is kept")
	}
}

func TestForeign(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	f, err := invalidation.NewForeign(r.rdb, invalidation.ForeignConfig{Again: 20 * time.Millisecond, Queue: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { check(t, f.Close()) })
	key := func(i int) string { return fmt.Sprintf("%s:legacy:{%d} x", r.ns, i) }
	set := func(i int) { check(t, r.rdb.Set(t.Context(), key(i), "old", time.Minute).Err()) }
	there := func(i int) bool {
		n, err := r.rdb.Exists(t.Context(), key(i)).Result()
		check(t, err)
		return n == 1
	}
	for i := range 4 {
		set(i)
	}
	check(t, f.Unlink(t.Context(), []string{key(0), key(1), key(2), key(3), key(9)}))
	for i := range 4 {
		if there(i) {
			t.Errorf("key %d is still there", i)
		}
		set(i) // a reader that was on its way
	}
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { check(t, f.Run(ctx)) })
	eventually(t, "second pass", func() bool { return !there(0) && !there(1) && !there(2) })
	stop()
	wg.Wait()
	if !there(3) {
		t.Error("a key that the queue had no room for is gone")
	}
	if s := f.Stats(); s.First != 5 || s.Second != 3 || s.Dropped != 2 || s.Waiting != 0 {
		t.Errorf("stats %+v", s)
	}
}
