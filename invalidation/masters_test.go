package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// failoverLimit is for hangs: a fail-over takes some seconds.
const failoverLimit = 60 * time.Second

// again repairs every lane as a worker does, in full: a lane that lost something gets a new root with everything that it
// could have lost behind it.
func (r *rig) again(ctx context.Context) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	d, _ := r.datasets.Get("users")
	for n := range r.lanes {
		st, err := r.emitter.State(ctx, n, nil, nil)
		if err != nil {
			return fmt.Errorf("lane %d: %w", n, err)
		}
		rep, err := r.emitter.Root(ctx, n, lane.RootRequest{
			Expected: st.Root, Group: "g", Hashes: map[string]string{"users": d.CacheHash()}, HoldMillis: time.Minute.Milliseconds(),
		})
		if err != nil {
			return fmt.Errorf("lane %d: %w", n, err)
		}
		if rep.Status != lane.OK {
			return errors.New("lane moved")
		}
		r.roots[n] = rep.Root
	}
	r.offset = 0
	return nil
}

// A node and a worker over a cluster: every lane on its master, tags in all, and a replica that takes over while it lacks
// the newest entries takes nothing stale with it.
func TestRedisCluster(t *testing.T) {
	t.Parallel()
	c := testenv.StartRedisCluster(t, testenv.RedisOptions{})
	r := newRigOn(t, c.Client(t), "cluster", 6)
	check(t, r.emitter.Check(t.Context()))
	r.setRoot(nil)
	n := r.join(invalidation.Config{})
	u := r.cache(n)
	keys := r.keysOfEachLane()
	owners := map[int]bool{}
	for i, k := range keys {
		owner, err := c.Owner(t.Context(), 0, lane.KeysOf(r.ns, i).Meta)
		if err != nil {
			t.Fatal(err)
		}
		owners[owner] = true
		r.change(k)
	}
	if len(owners) != 3 {
		t.Errorf("six lanes are on %d masters, want 3", len(owners))
	}
	r.current(n)
	for _, k := range keys {
		wantGet(t, u, k, k+"@1")
		wantGet(t, u, k, k+"@1")
	}
	if s := u.Stats(); s.LocalHits != int64(len(keys)) {
		t.Errorf("%d local hits, want %d", s.LocalHits, len(keys))
	}
	for _, k := range keys {
		r.change(k)
	}
	r.current(n)
	for _, k := range keys {
		wantGet(t, u, k, k+"@2")
	}

	// The master of lane 0 stands still with what it knows; its replica, which saw nothing since, takes over.
	owner, err := c.Owner(t.Context(), 0, lane.KeysOf(r.ns, 0).Meta)
	if err != nil {
		t.Fatal(err)
	}
	replica := c.Replica(owner)
	c.Nodes[replica].Stop(t)
	check(t, c.Nodes[owner].Client(t).Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
	for i, k := range keys {
		if o, err := c.Owner(t.Context(), owner, lane.KeysOf(r.ns, i).Meta); err == nil && o == owner {
			r.change(k)
		}
	}
	c.Nodes[owner].Kill(t)
	c.Nodes[replica].Cont(t)
	check(t, c.Takeover(t.Context(), replica))
	testenv.Eventually(t, failoverLimit, r.again)
	for _, k := range keys {
		r.db.change(k, false)
	}
	r.reemit()
	testenv.Eventually(t, failoverLimit, func(ctx context.Context) error {
		for i := range r.lanes {
			if l := n.Stats().Lanes[i]; !l.Fresh || !l.Live || l.ConfirmAge > 2*time.Second {
				return fmt.Errorf("lane %d: %+v", i, l)
			}
		}
		return nil
	})
	r.current(n)
	for _, k := range keys {
		want := r.db.read(k, invalidation.Primary)
		wantGet(t, u, k, want.Value)
	}
}

// The Sentinels replace a master that died; node, worker and caches go on with the new one.
func TestRedisSentinel(t *testing.T) {
	t.Parallel()
	s := testenv.StartSentinel(t, testenv.RedisOptions{})
	r := newRigOn(t, s.Client(t), "sentinel", 2)
	r.setRoot(nil)
	n := r.join(invalidation.Config{})
	u := r.cache(n)
	keys := r.keysOfEachLane()
	for _, k := range keys {
		r.change(k)
	}
	r.current(n)
	for _, k := range keys {
		wantGet(t, u, k, k+"@1")
	}
	before, err := s.MasterAddr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s.Master.Kill(t)
	testenv.Eventually(t, failoverLimit, func(ctx context.Context) error {
		now, err := s.MasterAddr(ctx)
		if err == nil && now == before {
			return errors.New("still the old master")
		}
		return err
	})
	testenv.Eventually(t, failoverLimit, r.again)
	for _, k := range keys {
		r.db.change(k, false)
	}
	r.reemit()
	testenv.Eventually(t, failoverLimit, func(context.Context) error {
		for _, l := range n.Stats().Lanes {
			if !l.Fresh || !l.Live {
				return fmt.Errorf("lane %d: %+v", l.Lane, l)
			}
		}
		return nil
	})
	r.current(n)
	for _, k := range keys {
		wantGet(t, u, k, k+"@2")
	}

	// The old master comes back as it was; nobody believes it.
	s.Master.Restart(t)
	r.change(keys[0])
	r.current(n)
	wantGet(t, u, keys[0], keys[0]+"@3")
}

// A replica confirms nothing: a node that is led to one stops serving what it holds, and asks the shared tier for nothing.
func TestReplicaIsNotBelieved(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, testenv.RedisOptions{})
	r := newRigOn(t, master.Client(t), "alone", 1)
	r.setRoot(nil)
	n := r.join(invalidation.Config{PollInterval: 20 * time.Millisecond, MaxStaleness: 200 * time.Millisecond})
	u := r.cache(n)
	r.change("1")
	r.current(n)
	wantGet(t, u, "1", "1@1")
	if err := r.rdb.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	r.db.change("1", false) // told to the new master, of which this one knows nothing
	eventually(t, "not fresh", func() bool { return !n.Stats().Lanes[0].Fresh })
	wantGet(t, u, "1", "1@2")
	if l := n.Stats(); l.SyncErrors == 0 {
		t.Error("syncs with a replica succeeded")
	}
}

// An emit over a cluster is sent once: a client that repeats it by itself could write the same entry into two histories.
func TestClusterSendsOnce(t *testing.T) {
	t.Parallel()
	c := testenv.StartRedisCluster(t, testenv.RedisOptions{})
	r := newRigOn(t, c.Client(t), "once", 1)
	r.setRoot(nil)
	owner, err := c.Owner(t.Context(), 0, lane.KeysOf(r.ns, 0).Meta)
	if err != nil {
		t.Fatal(err)
	}
	before := r.emitter.Stats()
	c.Nodes[owner].Stop(t)
	began := time.Now()
	_, err = r.emitter.Emit(t.Context(), 0, r.roots[0], 0, lane.Emission{Source: userSource, Items: []lane.Item{{Key: "user:1", Version: 1}}})
	took := time.Since(began)
	c.Nodes[owner].Cont(t)
	if err == nil || took > 3500*time.Millisecond {
		t.Errorf("emit to a master that stands still: %v after %s; want one try of two seconds", err, took)
	}
	if got := r.emitter.Stats(); got.Errors != before.Errors+1 {
		t.Errorf("%d errors, want one", got.Errors-before.Errors)
	}
	rdb := redis.NewClient(&redis.Options{Addr: c.Nodes[owner].Addr})
	defer rdb.Close()
	entries, err := rdb.XRange(t.Context(), lane.KeysOf(r.ns, 0).Stream, "-", "+").Result()
	if err != nil || len(entries) > 2 {
		t.Errorf("%d entries, %v; want the root and at most one emit", len(entries), err)
	}
}
