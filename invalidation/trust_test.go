package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// After a failover behind one address, connections to the previous master may live on. It is a replica now, which answers reads: what it holds
// must enter neither an answer nor the local tier, although the lane is confirmed at the new master.
func TestHitsOfDemotedMasterAreRefused(t *testing.T) {
	t.Parallel()
	a, b := testenv.StartRedis(t, testenv.RedisOptions{}), testenv.StartRedis(t, testenv.RedisOptions{})
	b.Follow(t, a)
	r := newRigOn(t, a.Client(t), "demoted", 1)
	r.setRoot(nil)
	var addr atomic.Value
	addr.Store(a.Addr)
	rdb := redis.NewClient(&redis.Options{Addr: "endpoint:6379", Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "tcp", addr.Load().(string))
	}})
	t.Cleanup(func() { check(t, rdb.Close()) })
	n := r.joinBy(rdb, invalidation.Config{})
	other, c := r.cache(r.join(invalidation.Config{})), r.cache(n)
	keys := []string{"1", "2", "3", "4", "5"}
	for _, k := range keys {
		r.change(k)
	}
	r.current(n)
	for _, k := range keys {
		wantGet(t, other, k, k+"@1") // shared
		wantGet(t, c, k, k+"@1")
	}
	b.InSync(t)
	testenv.Eventually(t, failoverLimit, func(ctx context.Context) error {
		name := lane.KeysOf(r.ns, 0).Value("user:5")
		if have, err := b.Client(t).Exists(ctx, name).Result(); err != nil || have == 0 {
			return fmt.Errorf("the replica lacks an entry: %w", err)
		}
		return nil
	})
	check(t, b.Client(t).Do(t.Context(), "REPLICAOF", "NO", "ONE").Err())
	addr.Store(b.Addr)
	check(t, a.Client(t).Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err())
	promoted := newRigOn(t, b.Client(t), r.ns, 1)
	promoted.roots, promoted.offset, promoted.db = r.roots, r.offset, r.db
	for _, k := range keys {
		promoted.change(k)
	}
	promoted.current(n)
	for range 3 {
		for _, k := range keys {
			wantGet(t, c, k, k+"@2")
		}
	}
}

// A master that lost its replicas takes no writes and may have been replaced. Once its lane is not confirmed any more, nothing that it
// holds is served, however many readers ask for it at the same time.
func TestIsolatedMasterIsNotBelievedUnderLoad(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.RedisOptions{})
	r := newRig(t, server)
	r.setRoot(nil)
	n := r.join(invalidation.Config{MaxStaleness: 200 * time.Millisecond, PollInterval: 50 * time.Millisecond})
	c := r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, LocalTTL: 20 * time.Millisecond})
	const keys = 64
	for i := range keys {
		r.change(strconv.Itoa(i))
	}
	r.current(n)
	for i := range keys {
		get(t, c, strconv.Itoa(i))
	}
	busy, rest := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	defer readers.Wait()
	defer rest()
	for g := range 8 {
		readers.Go(func() {
			for i := g; busy.Err() == nil; i++ {
				_, _ = c.Get(busy, strconv.Itoa(i%keys))
			}
		})
	}
	check(t, server.Client(t).ConfigSet(t.Context(), "min-replicas-to-write", "1").Err())
	for i := range keys {
		r.db.change(strconv.Itoa(i), false) // emitted at the new master, which this node does not reach
	}
	eventually(t, "lane not fresh", func() bool { return !n.Stats().Lanes[0].Fresh })
	stale := 0
	for i := range 50 * keys {
		if strings.HasSuffix(get(t, c, strconv.Itoa(i%keys)), "@1") {
			stale++
		}
	}
	if stale > 0 {
		t.Errorf("%d of %d reads gave what was replaced", stale, 50*keys)
	}
}

// A hit under another root than the node last saw may have been stored by a node with another cache section: under other templates the same
// cache key is another record's.
func TestHitOfAnotherRootIsNotUsed(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	var cut cut
	n := r.joinBy(cut.client(t, r.server.Addr), invalidation.Config{MaxStaleness: time.Hour})
	c, many := r.cache(n), r.cacheOf(r.joinBy(cut.client(t, r.server.Addr), invalidation.Config{MaxStaleness: time.Hour}), invalidation.CacheConfig[string]{Load: r.db.load})
	r.change("42")
	r.current(n)
	cut.on.Store(true)
	r.setRoot(map[string]string{"users": "another"})
	s, err := lane.New(r.rdb.(*redis.Client), lane.Config{Namespace: r.ns})
	check(t, err)
	g, err := s.Get(t.Context(), "user:42", "tok")
	check(t, err)
	if g.Status != lane.GetLease {
		t.Fatalf("got %+v, want a lease", g)
	}
	_, err = s.Fill(t.Context(), lane.FillRequest{Key: "user:42", Token: "tok", Version: 9, Value: []byte(`"another record"`), Primary: true})
	check(t, err)
	wantGet(t, c, "42", "42@1")
	if got, err := many.GetMany(t.Context(), []string{"42"}); err != nil || got["42"] != "42@1" {
		t.Errorf("GetMany gave %v, %v", got, err)
	}
	if s := c.Stats(); s.SharedHits != 0 || s.Bypasses["new_root"] == 0 {
		t.Errorf("%d shared hits, bypasses %v", s.SharedHits, s.Bypasses)
	}
}

// While a lane is not confirmed, the shared tier is left alone: nothing proves then that its answers are bounded.
func TestUnconfirmedLaneIsNotAsked(t *testing.T) {
	t.Parallel()
	r := withLane(t)
	var cut cut
	n := r.joinBy(cut.client(t, r.server.Addr), invalidation.Config{MaxStaleness: 400 * time.Millisecond})
	c, other := r.cache(n), r.cache(r.join(invalidation.Config{}))
	r.change("42")
	r.current(n)
	wantGet(t, other, "42", "42@1")
	cut.on.Store(true)
	eventually(t, "lane not fresh", func() bool { return !n.Stats().Lanes[0].Fresh })
	r.db.change("42", false)
	wantGet(t, c, "42", "42@2")
	if got, err := c.GetMany(t.Context(), []string{"42"}); err != nil || got["42"] != "42@2" {
		t.Errorf("GetMany gave %v, %v", got, err)
	}
	if s := c.Stats(); s.SharedHits != 0 || s.Bypasses["unconfirmed"] == 0 {
		t.Errorf("%d shared hits, bypasses %v", s.SharedHits, s.Bypasses)
	}
	cut.on.Store(false)
	eventually(t, "lane fresh", func() bool { return n.Stats().Lanes[0].Fresh })
	wantGet(t, c, "42", "42@1") // the shared entry: nothing was emitted
}

// cut swallows what arrives on the connections by which a node follows its lanes, and leaves those of its caches alone.
type cut struct{ on atomic.Bool }

func (x *cut) client(t testing.TB, addr string) *redis.Client {
	t.Helper()
	rdb := redis.NewClient(&redis.Options{Dialer: func(ctx context.Context, _, _ string) (net.Conn, error) {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", addr)
		if err != nil {
			return nil, fmt.Errorf("dial: %w", err)
		}
		return &cutConn{Conn: conn, cut: x}, nil
	}})
	t.Cleanup(func() {
		if err := rdb.Close(); err != nil && !errors.Is(err, redis.ErrClosed) {
			t.Error(err)
		}
	})
	return rdb
}

type cutConn struct {
	net.Conn
	cut     *cut
	control atomic.Bool
}

// Write learns from the connection's name what it is for.
func (c *cutConn) Write(p []byte) (int, error) {
	if strings.Contains(string(p), "freshet-node") {
		c.control.Store(true)
	}
	return c.Conn.Write(p)
}

func (c *cutConn) Read(p []byte) (int, error) {
	for {
		n, err := c.Conn.Read(p)
		if err != nil || !c.cut.on.Load() || !c.control.Load() {
			return n, err
		}
	}
}
