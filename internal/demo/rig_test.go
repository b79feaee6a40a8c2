//go:build !nodev

package demo_test

import (
	"context"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/demo"
	"github.com/freshet/freshet/internal/devstack"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// run runs a shop on a stack of its own until the test ends.
func run(t *testing.T, cfg demo.Config) *demo.Shop {
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
	rig, err := demo.Open(t.Context(), stack, cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- rig.Shop.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
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
