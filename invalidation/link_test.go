package invalidation_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
)

// A node behind a link that is cut, lets nothing pass, or is slow, while others write: no read is ever older than the
// bound, entries are held again afterwards, and nothing is forgotten that could be caught up with.
func TestNodeBehindABadLink(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		disturb func(t *testing.T, r *rig, p *testenv.Proxy, write func())
		flushes map[string]int64
	}{
		{"subscription cut", func(t *testing.T, r *rig, _ *testenv.Proxy, write func()) {
			for range 5 {
				check(t, r.rdb.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Err())
				write()
			}
		}, map[string]int64{"start": 1}},
		{"every connection cut", func(_ *testing.T, _ *rig, p *testenv.Proxy, write func()) {
			for range 5 {
				p.Cut()
				write()
			}
		}, map[string]int64{"start": 1}},
		{"black hole", func(_ *testing.T, _ *rig, p *testenv.Proxy, write func()) {
			p.Hold()
			for range 15 { // longer than the bound
				write()
			}
			p.Release()
		}, map[string]int64{"start": 1}},
		{"black hole and a trimmed lane", func(t *testing.T, r *rig, p *testenv.Proxy, write func()) {
			p.Hold()
			for range 10 {
				write()
			}
			p.Cut() // what was on the way is lost too
			check(t, r.rdb.XTrimMaxLen(t.Context(), lane.KeysOf(r.ns, 0).Stream, 1).Err())
			p.Release()
		}, map[string]int64{"start": 1, "trimmed": 1}},
		{"slow", func(_ *testing.T, _ *rig, p *testenv.Proxy, write func()) {
			p.Delay(50 * time.Millisecond)
			for range 10 {
				write()
			}
			p.Delay(0)
		}, map[string]int64{"start": 1}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			server := testenv.StartRedis(t, testenv.RedisOptions{})
			r := newRig(t, server)
			r.setRoot(nil)
			p := testenv.NewProxy(t, server.Addr)
			rdb := redis.NewClient(&redis.Options{Addr: p.Addr})
			t.Cleanup(func() { check(t, rdb.Close()) })
			pr := newProof(600 * time.Millisecond)
			n := r.joinBy(rdb, invalidation.Config{MaxStaleness: pr.bound})
			c := r.cache(n)
			keys := []string{"1", "2", "3"}
			for _, k := range keys {
				pr.tell(r, k)
			}
			r.current(n)
			r.holds(c, keys...)
			stop := pr.readers(t, c, keys...)
			pace := time.NewTicker(100 * time.Millisecond)
			defer pace.Stop()
			tc.disturb(t, r, p, func() {
				<-pace.C
				for _, k := range keys[:2] { // the third never changes and may be held throughout
					pr.tell(r, k)
				}
			})
			r.current(n)
			r.holds(c, keys...)
			stop()
			pr.holds(t)
			if diff := cmp.Diff(tc.flushes, flushes(n, 0)); diff != "" {
				t.Errorf("flushes (-want +got):\n%s", diff)
			}
		})
	}
}

// holds waits until the newest versions are served from the local tier.
func (r *rig) holds(c *invalidation.Cache[string], keys ...string) {
	r.t.Helper()
	for _, k := range keys {
		want := r.db.read(k, invalidation.Primary).Value
		testenv.Eventually(r.t, failoverLimit, func(ctx context.Context) error {
			if v, err := c.Get(ctx, k); err != nil || v != want {
				return errors.Join(errors.New("not the newest version"), err)
			}
			if l, ok := c.Peek(k); !ok || l.Value != want {
				return errors.New("not held")
			}
			return nil
		})
	}
}
