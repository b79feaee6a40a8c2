package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
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

	for range 2 { // the second time the one that was master first takes over, lagging as well
		r.laggingReplicaTakesOver(c, keys)
		r.recovers(n, u, keys)
	}
	for i := range r.lanes {
		// An old master that starts empty owns its slots until it hears from the others. A node that asks it meanwhile finds no
		// lane, and starts again.
		if f := flushes(n, i); f["trimmed"] != 0 || f["start"] != 1+f["lane_missing"] {
			t.Errorf("lane %d was flushed because of %v", i, f)
		}
	}
}

// laggingReplicaTakesOver stops the replica of lane 0's master with what it knows while the master continues, and
// then take over. The old master comes back as its replica.
func (r *rig) laggingReplicaTakesOver(c *testenv.RedisCluster, keys []string) {
	t := r.t
	t.Helper()
	var owner int
	testenv.Eventually(t, failoverLimit, func(ctx context.Context) (err error) {
		owner, err = c.Owner(ctx, 1, lane.KeysOf(r.ns, 0).Meta)
		return err
	})
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
	c.Nodes[owner].Restart(t)
	c.Nodes[owner].InSync(t)
}

// recovers emits everything again, as a worker does that finds its lanes lost, and wants the node to be as before.
func (r *rig) recovers(n *invalidation.Node, u *invalidation.Cache[string], keys []string) {
	r.t.Helper()
	for _, k := range keys {
		r.db.change(k, false)
	}
	r.reemit()
	testenv.Eventually(r.t, failoverLimit, func(context.Context) error {
		for _, l := range n.Stats().Lanes {
			if !l.Fresh || !l.Live || l.ConfirmAge > 2*time.Second {
				return fmt.Errorf("lane %d: %+v", l.Lane, l)
			}
		}
		return nil
	})
	r.current(n)
	for _, k := range keys {
		wantGet(r.t, u, k, r.db.read(k, invalidation.Primary).Value)
	}
}

// A lane's slot moves to another master, key by key, while a worker emits and nodes read: emits wait, no read is older
// than the bound, and nodes continue without a flush.
func TestLaneMovesToAnotherMaster(t *testing.T) {
	t.Parallel()
	c := testenv.StartRedisCluster(t, testenv.RedisOptions{})
	r := newRigOn(t, c.Client(t), "moving", 1)
	r.setRoot(nil)
	pr := newProof(time.Second)
	n := r.join(invalidation.Config{MaxStaleness: pr.bound})
	u := r.cache(n)
	keys := []string{"1", "2", "3", "4", "5"}
	for _, k := range keys {
		pr.tell(r, k)
	}
	r.current(n)
	r.holds(u, keys...)
	stop := pr.readers(t, u, keys...)

	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	var waited atomic.Int64
	wg.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			k := keys[i%4] // the fifth never changes
			v := r.db.change(k, false)
			waited.Add(r.emitUntilDone(lane.Item{Key: "user:" + k, Version: v.version}))
			pr.say(k)
		}
	})
	meta := lane.KeysOf(r.ns, 0).Meta
	pace := time.NewTicker(50 * time.Millisecond)
	defer pace.Stop()
	for range 2 { // there, and on to the third master
		owner, err := c.Owner(t.Context(), 0, meta)
		if err != nil {
			t.Fatal(err)
		}
		check(t, c.Move(t.Context(), meta, owner, (owner+1)%3, 1, func() { <-pace.C }))
		at := n.Stats().Lanes[0].Entries
		testenv.Eventually(t, failoverLimit, func(context.Context) error {
			if l := n.Stats().Lanes[0]; l.Entries < at+20 || !l.Live || !l.Fresh {
				return fmt.Errorf("lane does not flow: %+v", l)
			}
			return nil
		})
	}
	cancel()
	wg.Wait()
	r.current(n)
	r.holds(u, keys...)
	stop()
	pr.holds(t)
	if diff := cmp.Diff(map[string]int64{"start": 1}, flushes(n, 0)); diff != "" {
		t.Errorf("flushes (-want +got):\n%s", diff)
	}
	if waited.Load() == 0 {
		t.Error("no emit met the move")
	}
	t.Logf("%d emits had to be sent again", waited.Load())
}

// emitUntilDone sends the same call until it is answered, as a worker does, and reports how often it was not.
func (r *rig) emitUntilDone(it lane.Item) (failed int64) {
	r.t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	testenv.Eventually(r.t, failoverLimit, func(context.Context) error {
		rep, err := r.emitter.Emit(context.Background(), 0, r.roots[0], 0, lane.Emission{Source: userSource, From: r.offset, To: r.offset, Items: []lane.Item{it}})
		if err == nil && rep.Status != lane.OK {
			err = fmt.Errorf("status %d", rep.Status)
		}
		if err != nil {
			failed++
		}
		return err
	})
	r.offset++
	return failed
}

// The Sentinels replace a master that died; node, worker and caches continue with the new one.
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
	servers := []*testenv.RedisServer{s.Master, s.Replica}
	for i := range 2 { // the second time the one that was master first takes over, lagging as well
		master, replica := servers[i], servers[1-i]
		before, err := s.MasterAddr(t.Context())
		if err != nil || before != master.Addr {
			t.Fatalf("the master is %s, %v", before, err)
		}
		replica.Stop(t)
		check(t, master.Client(t).Do(t.Context(), "CLIENT", "KILL", "TYPE", "replica").Err())
		for _, k := range keys {
			r.change(k) // of which the replica never hears
		}
		master.Kill(t)
		replica.Cont(t)
		testenv.Eventually(t, failoverLimit, func(ctx context.Context) error {
			now, err := s.MasterAddr(ctx)
			if err == nil && now == before {
				return errors.New("still the old master")
			}
			return err
		})
		testenv.Eventually(t, failoverLimit, r.again)
		r.recovers(n, u, keys)

		// The old master comes back as it was; no one believes it.
		master.Restart(t)
		r.change(keys[0])
		r.current(n)
		wantGet(t, u, keys[0], r.db.read(keys[0], invalidation.Primary).Value)
		if i == 0 { // as the Sentinels would do by themselves ten seconds later
			master.Follow(t, replica)
		}
	}
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
	if err == nil || took >= 4*time.Second { // two tries take at least that
		t.Errorf("emit to a master that is stopped: %v after %s; want one try of two seconds", err, took)
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
