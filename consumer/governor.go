package consumer

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/invalidation/lane"
)

const (
	// DefaultMaxKeyRate is how many keys a second a worker emits into one lane before it flushes the lane instead.
	DefaultMaxKeyRate = 100_000
	// burstSeconds is how much of the rate may come at once.
	burstSeconds = 10
	// flushEvery is the least time between two flushes of one lane by the governor.
	flushEvery = time.Second
)

// governor bounds the keys that are emitted into one lane: a token bucket. What is beyond it waits for a flush of the
// whole lane, which covers everything that was applied before it; a flush costs Redis one short script and nodes one
// message, however many keys it stands for. Tokens go on coming meanwhile, so nothing is slower than the rate.
//
// A stamp of a change's tags cannot stand for its keys: which tags an entry has is its loader's choice.
type governor struct {
	rate, burst float64 // keys; rate 0: no bound

	lock    laneLock // guards what follows
	tokens  float64
	at      time.Duration // when tokens were counted
	flushed time.Duration // when the newest flush was sent; 0: never
}

func newGovernor(rate int) *governor {
	g := &governor{lock: make(laneLock, 1), rate: float64(max(rate, 0))}
	g.burst = g.rate * burstSeconds
	g.tokens = g.burst
	return g
}

// take takes n tokens if there are so many.
func (g *governor) take(n int, now time.Duration) bool {
	if g.rate == 0 {
		return true
	}
	g.tokens = min(g.burst, g.tokens+g.rate*(now-g.at).Seconds())
	g.at = now
	if g.tokens < float64(n) {
		return false
	}
	g.tokens -= float64(n)
	return true
}

// govern says whether keys of a batch that was applied at the time applied must be emitted into lane v, or are covered
// by a flush.
func (w *Worker) govern(ctx context.Context, v *laneView, keys int, applied time.Duration) (covered bool, err error) {
	if keys == 0 {
		return false, nil
	}
	g := v.governor
	if err := g.lock.acquire(ctx); err != nil {
		return false, err
	}
	defer g.lock.release()
	if g.flushed > applied {
		return true, nil
	}
	if g.take(keys, w.now()) {
		return false, nil
	}
	if g.flushed > 0 {
		t := time.NewTimer(flushEvery - (w.now() - g.flushed))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return false, context.Cause(ctx)
		}
		if g.take(keys, w.now()) {
			return false, nil
		}
	}
	sent := w.now()
	const what = "redis: flush a lane in place of many keys"
	err = retry.Do(ctx, retry.Policy{Max: 2 * time.Second, Notify: w.waiting(what)}, func(ctx context.Context) error { return w.flushOne(ctx, v) })
	if err != nil {
		return false, err
	}
	w.healed(what)
	w.counts.governed.Add(uint64(keys))
	w.log.Warn("more keys change than may be emitted one by one; the lane is flushed instead", "lane", v.n, "keys", keys)
	g.flushed = sent
	return true, nil
}

// flushOne gives a lane a new root with hold: nothing cached before counts any more, and for the hold only loads from the
// primary may fill.
func (w *Worker) flushOne(ctx context.Context, v *laneView) error {
	for {
		st, err := w.state(ctx, v, nil)
		if err != nil {
			return err
		}
		r, err := w.cfg.Emitter.Root(ctx, v.n, lane.RootRequest{Expected: st.Root, HoldMillis: w.cfg.Hold.Milliseconds(), Group: w.cfg.Group})
		if err != nil {
			return fmt.Errorf("flush lane %d: %w", v.n, err)
		}
		if r.Status == lane.OK {
			w.counts.laneFlushes.Add(1)
			return nil
		}
	}
}
