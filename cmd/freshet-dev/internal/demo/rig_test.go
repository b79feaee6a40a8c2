package demo_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/demo"
	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/producer"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a shop on a stack of its own until the test ends.
func run(t *testing.T, cfg demo.Config) *demo.Shop {
	t.Helper()
	return runWith(t, cfg, func(*devstack.Stack, *demo.Config) {})
}

// runWith lets the test change the configuration once the stack is there.
func runWith(t *testing.T, cfg demo.Config, change func(*devstack.Stack, *demo.Config)) *demo.Shop {
	t.Helper()
	stack, err := devstack.Start(t.Context(), devstack.Config{})
	if err != nil {
		t.Fatal(err)
	}
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	cfg.Datasets = datasets
	change(stack, &cfg)
	rig, err := demo.Open(t.Context(), stack, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- rig.Shop.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := testenv.Await(t, done); err != nil {
			t.Errorf("run: %v", err)
		}
		if err := rig.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
		if err := stack.Close(); err != nil {
			t.Errorf("close stack: %v", err)
		}
	})
	return rig.Shop
}

// until polls until ok, at most for d.
func until(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	deadline := time.NewTimer(d)
	defer deadline.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-deadline.C:
			t.Fatalf("%s: not within %v", what, d)
		case <-tick.C:
		}
	}
}

func converged(t *testing.T, s *demo.Shop) {
	t.Helper()
	s.SetChaos(false)
	s.StopWrites()
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	c, err := s.Converged(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if !c.OK() || c.Records == 0 || c.Checked != c.Records*3 {
		t.Errorf("not converged: %+v", c)
	}
	t.Logf("converged: %d records in %v", c.Records, c.Took)
}

func TestShopIsNeverStale(t *testing.T) {
	s := run(t, demo.Config{Seed: 1, Records: 60})
	until(t, 40*time.Second, "traffic at every node", func() bool {
		sn := s.Snapshot()
		return sn.Applied > 300 && sn.Samples > 5 && sn.Hits > 1000
	})
	converged(t, s)
	sn := s.Snapshot()
	if sn.StaleBeyondBound != 0 || sn.Wrong != 0 || sn.PublishErrors != 0 || sn.DeadLettered != 0 || sn.WorkersFailed != 0 {
		t.Errorf("%+v", sn)
	}
	t.Logf("published %d, reads %d, hits %d, read errors %d, visible p50 %v p99 %v of %d (%d void), after %v",
		sn.Published, sn.Reads, sn.Hits, sn.ReadErrors, sn.PublishToVisibleP50, sn.PublishToVisibleP99, sn.Samples, sn.LostSamples, sn.Elapsed)
}

// Every fault at once and in turn: nothing stale is served, and when writes stop everything agrees.
func TestShopSurvivesFaults(t *testing.T) {
	s := run(t, demo.Config{Seed: 2, Records: 60, Session: 6 * time.Second, MaxStaleness: 4 * time.Second})
	applied := func(more int64) func() bool {
		from := s.Snapshot().Applied
		return func() bool { return s.Snapshot().Applied > from+more }
	}
	until(t, 40*time.Second, "first traffic", applied(100))
	if err := s.DropMessages(0, 10*time.Second); err != nil {
		t.Fatal(err)
	}
	until(t, 20*time.Second, "lost messages", func() bool { return s.Snapshot().Nodes[0].LostMessages > 10 })
	for _, do := range []func() error{
		func() error { return s.PauseNode(1, 3*time.Second) },
		func() error { return s.CutNode(2, 6*time.Second) },
		s.KillWorker,
		func() error { return s.FlushRedis(t.Context()) },
	} {
		if err := do(); err != nil {
			t.Fatal(err)
		}
	}
	sn := s.Snapshot()
	if !sn.Nodes[0].Dropping || !sn.Nodes[1].Paused || !sn.Nodes[2].Cut {
		t.Errorf("faults are not shown: %+v", sn.Nodes)
	}
	until(t, 60*time.Second, "traffic after the worker's death", applied(200))
	if err := s.FlushRedis(t.Context()); err != nil {
		t.Fatal(err)
	}
	until(t, 40*time.Second, "traffic after the flush", applied(100))
	converged(t, s)
	sn = s.Snapshot()
	if sn.StaleBeyondBound != 0 || sn.Wrong != 0 || sn.WorkersFailed != 0 || sn.WorkersKilled != 1 || sn.DeadLettered != 0 {
		t.Errorf("stale %d, wrong %d, failed %d, killed %d, letters %d: %+v",
			sn.StaleBeyondBound, sn.Wrong, sn.WorkersFailed, sn.WorkersKilled, sn.DeadLettered, sn.Violations)
	}
	for i, n := range sn.Nodes {
		if n.Paused || n.Cut || n.Dropping || n.Reads == 0 {
			t.Errorf("node %d: %+v", i, n)
		}
	}
	t.Logf("lost messages %d, read errors %d, reads %d, published %d, after %v", sn.Nodes[0].LostMessages, sn.ReadErrors, sn.Reads, sn.Published, sn.Elapsed)
}

// lying acknowledges emissions that it does not make. The oracle must find out.
type lying struct {
	worker.Emitter

	lies *atomic.Bool
}

func (l *lying) Emit(ctx context.Context, n int, root string, start int64, e lane.Emission) (lane.Reply, error) {
	if l.lies.Load() {
		return lane.Reply{Status: lane.OK, Root: root}, nil
	}
	return l.Emitter.Emit(ctx, n, root, start, e)
}

func TestOracleFindsALyingEmitter(t *testing.T) {
	var lies atomic.Bool
	cfg := demo.Config{Seed: 3, Records: 20, MaxStaleness: 3500 * time.Millisecond}
	s := runWith(t, cfg, func(stack *devstack.Stack, cfg *demo.Config) {
		own := *cfg
		cfg.NewWorker = func(ctx context.Context, wrap func(worker.Emitter) worker.Emitter) (demo.Worker, error) {
			return demo.NewStackWorker(ctx, stack, own, "liar", func(e worker.Emitter) worker.Emitter { return wrap(&lying{e, &lies}) })
		}
	})
	until(t, 40*time.Second, "entries in memory", func() bool { return s.Snapshot().Hits > 500 })
	if n := s.Snapshot().StaleBeyondBound; n != 0 {
		t.Fatalf("%d stale reads before the lies", n)
	}
	lies.Store(true)
	until(t, 30*time.Second, "a stale read is found", func() bool { return s.Snapshot().StaleBeyondBound > 0 })
	if v := s.Snapshot().Violations; len(v) == 0 || v[0].Verdict != demo.Stale || v[0].Want <= v[0].Got {
		t.Errorf("violations: %+v", v)
	}
}

func TestShopRefuses(t *testing.T) {
	if _, err := demo.New(demo.Config{}); err == nil {
		t.Error("an empty configuration was accepted")
	}
	s := run(t, demo.Config{Records: 20})
	until(t, 20*time.Second, "running", func() bool { return s.Snapshot().Nodes[0].Reads > 0 })
	if err := s.PauseNode(3, time.Second); !errors.Is(err, demo.ErrNoNode) {
		t.Errorf("pause node 3 of 3: got %v", err)
	}
	if _, err := s.Converged(t.Context()); !errors.Is(err, demo.ErrWriting) {
		t.Errorf("converged while writing: got %v", err)
	}
}

// Chaos does faults by itself.
func TestChaos(t *testing.T) {
	s := run(t, demo.Config{Seed: 4, Records: 40, Chaos: true})
	until(t, 60*time.Second, "two faults", func() bool { return len(s.Snapshot().Events) >= 2 })
	converged(t, s)
	if sn := s.Snapshot(); sn.StaleBeyondBound != 0 || sn.Wrong != 0 {
		t.Errorf("violations: %+v", sn.Violations)
	}
}

// What no event changed can be invalidated too, from any node.
func TestNodeInvalidates(t *testing.T) {
	var stack *devstack.Stack
	s := runWith(t, demo.Config{Seed: 5, Records: 20}, func(st *devstack.Stack, _ *demo.Config) { stack = st })
	until(t, 40*time.Second, "traffic", func() bool { return s.Snapshot().Applied > 20 })
	s.StopWrites()
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	p, err := producer.New(producer.Config{Brokers: []string{stack.Kafka}, Datasets: datasets})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	rdb := redis.NewClient(&redis.Options{Addr: stack.Redis})
	defer rdb.Close()
	n, err := invalidation.Join(t.Context(), rdb, invalidation.Config{Namespace: demo.Namespace, Datasets: datasets, Publisher: p})
	if err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	var value atomic.Int64
	c, err := invalidation.NewCache(n, invalidation.CacheConfig[int64]{
		Dataset: "users", Load: func(context.Context, string, invalidation.Source) (invalidation.Loaded[int64], error) {
			return invalidation.Loaded[int64]{Value: value.Load(), Found: true, From: invalidation.Primary}, nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	const key = "900001" // no record of the shop's traffic
	until(t, 20*time.Second, "a kept entry", func() bool {
		_, err := c.Get(t.Context(), key)
		_, kept := c.Peek(key)
		return err == nil && kept
	})
	value.Store(1)
	tok, err := c.Invalidate(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := n.WaitFor(ctx, tok); err != nil {
		t.Fatalf("wait for the invalidation: %v", err)
	}
	if got, err := c.Get(t.Context(), key); got != 1 || err != nil {
		t.Errorf("read %d, %v after the invalidation", got, err)
	}
}
