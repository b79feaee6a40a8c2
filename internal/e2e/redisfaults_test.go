package e2e_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/invalidation/lane"
)

// linked is a world whose Redis is reached by a link, with two workers, two nodes and readers that never stop.
func linked(t *testing.T, master *testenv.RedisServer) (*people, *testenv.Proxy, []*phone) {
	t.Helper()
	k := testenv.NewProxy(t, master.Addr)
	rdb := redis.NewClient(&redis.Options{Addr: k.Addr})
	t.Cleanup(func() { rdb.Close() })
	p := newPeopleOn(t, master, rdb, "FRESHET_REDIS__URL=redis://"+k.Addr+"/0")
	p.startWorker()
	p.startWorker()
	nodes := []*phone{p.phone("n1"), p.phone("n2")}
	p.readAlways(nodes)
	return p, k, nodes
}

func (p *people) readAlways(nodes []*phone) {
	ctx, stop := context.WithCancel(p.t.Context())
	var wg sync.WaitGroup
	for _, n := range nodes {
		wg.Go(func() {
			for ctx.Err() == nil {
				n.read(ctx)
			}
		})
	}
	p.t.Cleanup(func() {
		stop()
		wg.Wait()
	})
}

// bout makes changes and waits until the nodes have learned of them.
func (p *people) bout(nodes []*phone) {
	p.t.Helper()
	for range 100 {
		p.change()
	}
	for _, n := range nodes {
		p.wait(n)
	}
}

// replicaOf starts a replica and waits until it has everything.
func replicaOf(t *testing.T, master *testenv.RedisServer) *testenv.RedisServer {
	t.Helper()
	s := testenv.StartRedis(t, testenv.RedisOptions{})
	s.Follow(t, master)
	return s
}

// freeze makes a replica keep what it has.
func freeze(t *testing.T, s *testenv.RedisServer) {
	t.Helper()
	if err := s.Client(t).Do(t.Context(), "REPLICAOF", "NO", "ONE").Err(); err != nil {
		t.Fatal(err)
	}
}

// flushCounts are the nodes' flushes by reason, of all lanes.
func flushCounts(nodes []*phone) map[string]int64 {
	sum := map[string]int64{}
	for _, n := range nodes {
		for _, l := range n.Stats().Lanes {
			for reason, count := range l.Flushes {
				sum[reason] += count
			}
		}
	}
	return sum
}

// healed wants every copy right, in the eyes of freshet verify too, and reports how long that took.
func (p *people) healed(what string, nodes []*phone) {
	p.t.Helper()
	began := time.Now()
	p.same(nodes)
	if r := p.verify(); len(r.Stale)+r.Waiting > 0 || r.Records == 0 {
		p.t.Errorf("%s freshet verify finds %+v", what, r)
	}
	p.t.Logf("%s: every lookup tells the truth after %s", what, time.Since(began).Round(time.Millisecond))
}

// Replicas that lack the newest entries take over, twice in a row, the second with less than the first: what the workers
// had emitted is emitted again, and nodes forget what they cannot prove.
func TestLaggingReplicasTakeOver(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, testenv.RedisOptions{})
	p, k, nodes := linked(t, master)
	p.bout(nodes)
	newer, older := replicaOf(t, master), replicaOf(t, master)
	p.bout(nodes)
	freeze(t, older)
	p.bout(nodes)
	freeze(t, newer)
	p.bout(nodes)

	k.Lead(newer.Addr)
	p.healed("after the first take-over", nodes)
	k.Lead(older.Addr)
	p.healed("after the second take-over", nodes)
	p.bout(nodes)
	k.Lead(newer.Addr) // and back to a history that went its own way
	k.Lead(older.Addr)
	p.bout(nodes)
	p.healed("after more changes", nodes)
	p.plantedIsSeen(nodes)
}

// Parts of a lane, or all of Redis, vanish while changes continue.
func TestLanesAreLost(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, testenv.RedisOptions{})
	p, _, nodes := linked(t, master)
	rdb := master.Client(t)
	k := lane.KeysOf(p.ns, 1)
	for _, tc := range []struct {
		name string
		lose func(ctx context.Context) error
		// reasons are those for which nodes may forget what they hold of the lane: a worker makes a lost lane again or
		// emits again, and whether a node looks before, in between or afterwards is chance.
		reasons []string
		must    bool // there is one at each node
	}{
		{"stream", func(ctx context.Context) error { return rdb.Del(ctx, k.Stream).Err() }, []string{"trimmed", "mismatch"}, false},
		{"trimmed stream", func(ctx context.Context) error { return rdb.XTrimMaxLen(ctx, k.Stream, 0).Err() }, []string{"trimmed", "mismatch"}, false},
		{"meta", func(ctx context.Context) error { return rdb.Del(ctx, k.Meta).Err() }, []string{"lane_missing", "mismatch", "flag", "start"}, true},
		{"floors", func(ctx context.Context) error { return rdb.Del(ctx, k.Stream, k.Meta, k.Floors0, k.Floors1).Err() }, []string{"lane_missing", "mismatch", "flag", "start"}, true},
		{"everything", func(ctx context.Context) error { return rdb.FlushAll(ctx).Err() }, []string{"lane_missing", "mismatch", "flag", "start"}, true},
	} {
		p.bout(nodes)
		for range 20 {
			p.change()
		}
		before := flushCounts(nodes)
		if err := tc.lose(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.bout(nodes)
		p.healed("after the loss of "+tc.name, nodes)
		counted := int64(0)
		for reason, count := range flushCounts(nodes) {
			n := count - before[reason]
			counted += n
			if n != 0 && !slices.Contains(tc.reasons, reason) {
				t.Errorf("after the loss of %s nodes counted %d flushes: %s; want only %v", tc.name, n, reason, tc.reasons)
			}
		}
		if tc.must && counted < int64(len(nodes)) {
			t.Errorf("after the loss of %s %d nodes counted %d flushes", tc.name, len(nodes), counted)
		}
	}
	p.plantedIsSeen(nodes)
}

// Redis dies and comes back with an append-only file whose end is missing.
func TestAppendOnlyFileIsCut(t *testing.T) {
	t.Parallel()
	master := testenv.StartRedis(t, testenv.RedisOptions{Appendfsync: "always"})
	p, k, nodes := linked(t, master)
	conf, err := master.Client(t).ConfigGet(t.Context(), "dir").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, lost := range []int64{50, 20_000} {
		p.bout(nodes)
		p.bout(nodes)
		master.Kill(t)
		files, err := filepath.Glob(filepath.Join(conf["dir"], "appendonlydir", "*.incr.aof"))
		if err != nil || len(files) == 0 {
			t.Fatalf("append-only files: %v, %v", files, err)
		}
		f := files[len(files)-1]
		st, err := os.Stat(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(f, max(st.Size()-lost, 0)); err != nil {
			t.Fatal(err)
		}
		master.Restart(t)
		k.Lead(master.Addr)
		p.healed(fmt.Sprintf("after a restart without the last %d bytes", lost), nodes)
		p.bout(nodes)
		p.healed("and after more changes", nodes)
	}
	p.plantedIsSeen(nodes)
}

// The worker as a process behind Sentinels and in a cluster, while masters die.
func TestWorkerFollowsTheMaster(t *testing.T) {
	t.Parallel()
	t.Run("sentinel", func(t *testing.T) {
		s := testenv.StartSentinel(t, testenv.RedisOptions{})
		p := newPeopleOn(t, s.Master, s.Client(t), "FRESHET_REDIS__MODE=sentinel",
			fmt.Sprintf("FRESHET_REDIS__URL=redis://%s/0?master_name=%s&addr=%s", s.Sentinels[0], s.Name, s.Sentinels[1]))
		p.startWorker()
		nodes := []*phone{p.phone("n1"), p.phone("n2")}
		p.readAlways(nodes)
		p.bout(nodes)
		s.Master.Kill(t)
		p.bout(nodes)
		p.healed("after the master died", nodes)
		s.Master.Restart(t)
		p.bout(nodes)
		p.healed("after the old master came back", nodes)
		p.plantedIsSeen(nodes)
	})
	t.Run("cluster", func(t *testing.T) {
		c := testenv.StartRedisCluster(t, testenv.RedisOptions{})
		p := newPeopleOn(t, c.Nodes[0], c.Client(t), "FRESHET_REDIS__MODE=cluster",
			fmt.Sprintf("FRESHET_REDIS__URL=redis://%s?addr=%s&addr=%s", c.Nodes[0].Addr, c.Nodes[1].Addr, c.Nodes[2].Addr))
		p.startWorker()
		nodes := []*phone{p.phone("n1"), p.phone("n2")}
		p.readAlways(nodes)
		p.bout(nodes)
		meta := lane.KeysOf(p.ns, 1).Meta
		owner, err := c.Owner(t.Context(), 1, meta)
		if err != nil {
			t.Fatal(err)
		}
		to := (owner + 1) % 3
		before := flushCounts(nodes)
		if err := c.Move(t.Context(), meta, owner, to, 1, p.change); err != nil {
			t.Fatal(err)
		}
		p.bout(nodes)
		p.healed("after a lane moved to another master", nodes)
		if diff := cmp.Diff(before, flushCounts(nodes)); diff != "" {
			t.Errorf("the move cost nodes their entries (-before +after):\n%s", diff)
		}
		c.Nodes[to].Kill(t)
		p.bout(nodes)
		p.healed("after a master died", nodes)
		p.plantedIsSeen(nodes)
	})
}
