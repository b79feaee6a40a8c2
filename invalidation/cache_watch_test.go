package invalidation_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/invalidation"
)

// watched collects what OnLoad receives.
type watched struct {
	mu    sync.Mutex
	infos []invalidation.LoadInfo
}

func (w *watched) load(i invalidation.LoadInfo) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.infos = append(w.infos, i)
}

// take returns what was received since the last take, with Took made 1 if there was any.
func (w *watched) take() []invalidation.LoadInfo {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := w.infos
	w.infos = nil
	for i := range out {
		out[i].Took = min(out[i].Took, 1)
	}
	return out
}

func TestOnLoadIsToldOfEveryLoad(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	for _, k := range []string{"1", "2", "3", "4"} {
		r.change(k)
	}
	n := r.join(invalidation.Config{})
	r.current(n)
	f := &failing{db: r.db}
	var w watched
	c := r.cacheOf(n, invalidation.CacheConfig[string]{
		OnLoad: w.load,
		Load: func(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
			if key == "13" {
				panic("unlucky")
			}
			return f.load(ctx, key, from)
		},
		LoadMany: func(ctx context.Context, keys []string, from invalidation.Source) (map[string]invalidation.Loaded[string], error) {
			out := map[string]invalidation.Loaded[string]{}
			for _, k := range keys {
				l, err := f.load(ctx, k, from)
				if err != nil {
					return nil, err
				}
				out[k] = l
			}
			return out, nil
		},
	})
	want := func(what string, infos ...invalidation.LoadInfo) {
		t.Helper()
		for i := range infos {
			infos[i].Dataset, infos[i].Took = "users", 1
		}
		same := cmp.Comparer(func(a, b error) bool { return errors.Is(a, b) || errors.Is(b, a) })
		if d := cmp.Diff(infos, w.take(), same); d != "" {
			t.Errorf("%s (-want +got):\n%s", what, d)
		}
	}
	wantGet(t, c, "1", "1@1")
	want("a load", invalidation.LoadInfo{Keys: 1})
	wantGet(t, c, "1", "1@1")
	want("a local hit")
	if _, err := c.GetMany(t.Context(), []string{"2", "3", "4"}); err != nil {
		t.Fatal(err)
	}
	want("many at once", invalidation.LoadInfo{Keys: 3})
	f.down.Store(true)
	wantDown(t, c, "5")
	want("a load that fails", invalidation.LoadInfo{Keys: 1, Err: errDown})
	if _, err := c.GetMany(t.Context(), []string{"6", "7"}); !errors.Is(err, errDown) {
		t.Errorf("GetMany: %v", err)
	}
	want("many that fail", invalidation.LoadInfo{Keys: 2, Err: errDown})
	func() {
		defer func() { _ = recover() }() // it goes to the reader
		_, _ = c.Get(t.Context(), "13")
	}()
	want("a load that panics", invalidation.LoadInfo{Keys: 1, Panicked: true})
	f.down.Store(false)
	soon, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // it waits for the version, and its last load may outlast it
	defer cancel()
	if _, err := c.GetAtLeast(soon, "1", 7); err == nil {
		t.Error("GetAtLeast found a version that is not there")
	}
	if infos := w.take(); len(infos) == 0 || infos[0].From != invalidation.Primary {
		t.Errorf("GetAtLeast: %+v, want a load from the primary", infos)
	}
}

// OnLoad may use the cache: no lock is held.
func TestOnLoadMayUseTheCache(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	for _, k := range []string{"1", "2", "3", "4"} {
		r.change(k)
	}
	n := r.join(invalidation.Config{})
	r.current(n)
	var c *invalidation.Cache[string]
	c = r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, OnLoad: func(invalidation.LoadInfo) { c.Stats(); _, _ = c.Peek("1") }})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second) // for hangs only
	defer cancel()
	if _, err := c.Get(ctx, "1"); err != nil {
		t.Error(err)
	}
}
