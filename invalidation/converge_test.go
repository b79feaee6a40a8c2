package invalidation_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// Readers, writers, links that lose messages, a source that lags, roots that change: a reader that waits for a write
// never sees less, and when writes stop every node returns the last version of everything.
func TestNodesConverge(t *testing.T) {
	t.Parallel()
	server := testenv.StartRedis(t, testenv.RedisOptions{})
	r := newRigOn(t, server.Client(t), server.Namespace(t), 3)
	r.server = server
	r.setRoot(nil)
	const records, readers, writes = 40, 3, 1500
	cables := make([]cable, 3)
	var nodes []*invalidation.Node
	var caches []*invalidation.Cache[string]
	for i := range cables {
		n := r.joinBy(cables[i].client(t, server), invalidation.Config{})
		nodes = append(nodes, n)
		caches = append(caches, r.cacheOf(n, invalidation.CacheConfig[string]{Load: r.db.load, MaxEntries: 30, BusyWait: time.Millisecond}))
	}
	key := func() string { return strconv.Itoa(rand.N(records)) }
	ctx, stop := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	for i := range caches {
		for range readers {
			wg.Go(func() {
				for ctx.Err() == nil {
					if _, err := caches[i].Get(ctx, key()); err != nil && !errors.Is(err, invalidation.ErrNotFound) && ctx.Err() == nil {
						t.Errorf("Get: %v", err)
					}
				}
			})
		}
	}
	for i := range writes {
		if i%50 == 0 {
			r.db.lag(i%100 == 0)
		}
		k := key()
		v := r.change(k)
		switch i % 100 {
		case 20:
			cables[rand.N(len(cables))].deaf.Store(true)
		case 60:
			for c := range cables {
				cables[c].deaf.Store(false)
			}
		case 80:
			check(t, r.rdb.Do(t.Context(), "client", "kill", "type", "pubsub").Err())
		case 99:
			r.setRoot(nil)
			r.reemit()
		}
		if i%10 == 0 {
			r.readOwnWrite(nodes[i%3], caches[i%3], k, v)
		}
	}
	stop()
	wg.Wait()
	for c := range cables {
		cables[c].deaf.Store(false)
	}
	for i, n := range nodes {
		r.current(n)
		for k := range records {
			want := r.db.read(strconv.Itoa(k), invalidation.Primary)
			if want.Found {
				wantGet(t, caches[i], strconv.Itoa(k), want.Value)
			}
		}
		t.Logf("node %d: %+v\n%+v", i, n.Stats().Lanes, caches[i].Stats())
	}
}

func (r *rig) readOwnWrite(n *invalidation.Node, c *invalidation.Cache[string], key string, v row) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 10*time.Second)
	defer cancel()
	r.mu.Lock()
	off := r.offset - 1
	r.mu.Unlock()
	if err := n.WaitFor(ctx, schemas.NewToken(userSource, off)); err != nil {
		r.t.Error(err)
		return
	}
	got, err := c.Get(ctx, key)
	if want := fmt.Sprintf("%s@%d", key, v.version); err != nil || got != want {
		r.t.Errorf("after WaitFor: %q, %v, want %q", got, err, want)
	}
}
