package invalidation_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// withLanes makes a namespace of several lanes on the shared Redis.
func withLanes(t testing.TB, lanes int) *rig {
	t.Helper()
	server := testenv.Redis(t)
	r := newRigOn(t, server.Client(t), server.Namespace(t), lanes)
	r.server = server
	r.setRoot(nil)
	return r
}

// keysOfEachLane returns one user key per lane.
func (r *rig) keysOfEachLane() []string {
	keys := make([]string, r.lanes)
	for i, found := 0, 0; found < r.lanes; i++ {
		k := fmt.Sprint(i)
		if n := lane.Of("user:"+k, r.lanes); keys[n] == "" {
			keys[n] = k
			found++
		}
	}
	return keys
}

func TestLanesShareTheKeys(t *testing.T) {
	t.Parallel()
	r := withLanes(t, 4)
	n := r.join(invalidation.Config{})
	c := r.cache(n)
	keys := r.keysOfEachLane()
	for _, k := range keys {
		r.change(k)
	}
	r.current(n)
	for _, k := range keys {
		wantGet(t, c, k, k+"@1")
	}
	for i, k := range keys {
		r.change(k)
		r.current(n)
		for j, other := range keys {
			want := other + "@1"
			if j <= i {
				want = other + "@2"
			}
			if l, ok := c.Peek(other); ok && l.Value != want {
				t.Errorf("after a change in lane %d the entry of lane %d is %q, want %q or none", i, j, l.Value, want)
			} else if j > i && !ok {
				t.Errorf("a change in lane %d cost lane %d its entry", i, j)
			}
			wantGet(t, c, other, want)
		}
	}
	for i, l := range n.Stats().Lanes {
		// On a busy machine a node may catch up while the message is under way, and count an item twice.
		if l.Lane != i || l.Items < 2 || l.Items > 2+2*l.CaughtUp || !l.Live || !l.Fresh {
			t.Errorf("lane %d: %+v", i, l)
		}
	}
}

func TestTagsReachEveryLane(t *testing.T) {
	t.Parallel()
	r := withLanes(t, 3)
	n := r.join(invalidation.Config{})
	load := func(_ context.Context, key string, from invalidation.Source) (invalidation.Loaded[string], error) {
		l := r.db.read(key, from)
		l.Tags = []string{"org:7"}
		return l, nil
	}
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: load})
	keys := r.keysOfEachLane()
	for _, k := range keys {
		r.db.change(k, false)
		wantGet(t, c, k, k+"@1")
		r.db.change(k, false) // not told: only the tag is
	}
	r.emit(nil, "org:7")
	r.current(n)
	for _, k := range keys {
		wantGet(t, c, k, k+"@2")
	}
}

func TestWaitForWaitsForEveryLane(t *testing.T) {
	t.Parallel()
	r := withLanes(t, 3)
	n := r.join(invalidation.Config{PollInterval: 50 * time.Millisecond, MaxStaleness: 10 * time.Second})
	tok := schemas.NewToken(userSource, 0)
	r.mu.Lock()
	emitTo := func(lanes ...int) {
		for _, i := range lanes {
			if _, err := r.emitter.Emit(t.Context(), i, r.roots[i], 0, lane.Emission{Source: userSource, From: 0, To: 0}); err != nil {
				t.Error(err)
			}
		}
	}
	defer r.mu.Unlock()
	emitTo(0, 2)
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := n.WaitFor(ctx, tok); err == nil {
		t.Fatal("WaitFor returned although one lane has not seen the write")
	}
	emitTo(1)
	ctx, cancel = context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	check(t, n.WaitFor(ctx, tok))
}

func TestLostLaneLeavesTheOthersAlone(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"lane", "meta", "both"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			r := withLanes(t, 3)
			n := r.join(invalidation.Config{})
			c := r.cache(n)
			keys := r.keysOfEachLane()
			for _, k := range keys {
				r.change(k)
			}
			r.current(n)
			for _, k := range keys {
				wantGet(t, c, k, k+"@1")
			}
			names := map[string][]string{
				"lane": {lane.KeysOf(r.ns, 1).Stream}, "meta": {lane.KeysOf(r.ns, 1).Meta},
				"both": {lane.KeysOf(r.ns, 1).Stream, lane.KeysOf(r.ns, 1).Meta},
			}
			check(t, r.rdb.Del(t.Context(), names[lost]...).Err())
			r.db.change(keys[1], false)
			if lost == "lane" { // the meta hash is whole; the loss shows when an entry is missed
				r.mu.Lock()
				r.setRootOf(1, map[string]string{}, 0)
				r.mu.Unlock()
			}
			eventually(t, "loss noticed", func() bool {
				l := n.Stats().Lanes[1]
				return l.Flushes["lane_missing"]+l.Flushes["mismatch"]+l.Flushes["trimmed"]+l.Flushes["flag"] > 0
			})
			wantGet(t, c, keys[1], keys[1]+"@2")
			for _, i := range []int{0, 2} {
				if _, ok := c.Peek(keys[i]); !ok {
					t.Errorf("the loss of lane 1 cost lane %d its entry", i)
				}
			}
		})
	}
}

func TestJoinRefusesAnotherNumberOfLanes(t *testing.T) {
	t.Parallel()
	r := withLanes(t, 2)
	_, err := invalidation.Join(t.Context(), r.rdb, invalidation.Config{Namespace: r.ns, Datasets: r.datasets, Lanes: 1})
	if err == nil {
		t.Fatal("Join accepted 1 lane in a namespace of 2")
	}
	if _, err := invalidation.NewEmitter(r.rdb, invalidation.EmitterConfig{Namespace: r.ns, Lanes: lane.MaxLanes + 1}); err == nil {
		t.Error("NewEmitter accepted more than MaxLanes")
	}
}
