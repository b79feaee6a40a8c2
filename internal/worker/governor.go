package worker

import (
	"context"
	"math"
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

const (
	// DefaultMaxKeyRate is how many keys a second a worker emits into one lane before something shorter stands for them.
	DefaultMaxKeyRate = 100_000
	// burstSeconds is how much of the rate may come at once.
	burstSeconds = 10
	// flushEvery is the least time between two flushes of one lane, or stamps of one common tag in it, by the governor.
	flushEvery = time.Second
)

// governor bounds the keys that are emitted into one lane: a token bucket. Beyond it something shorter stands for them: a stamp of
// the dataset's common tag, which every entry of the dataset carries, or else a flush of the whole lane. Either covers
// everything that was applied before it, and costs Redis one short script and nodes one message, however many keys it
// stands for. Tokens continue coming meanwhile, so nothing is slower than the rate.
//
// A stamp of a change's other tags cannot stand for its keys: which of those an entry has is its loader's choice.
type governor struct {
	keys *rate.Limiter

	lock ctxMutex // guards what follows
	// flushed is the newest flush, stamped the newest stamps, by dataset.
	flushed means
	stamped map[string]means
}

// means is when something that covers many keys was sent last, and the newest sending that the lane acknowledged; 0: never.
type means struct{ sent, covers time.Duration }

// verdict is how the keys of a batch are emitted.
type verdict int

const (
	oneByOne verdict = iota
	covered          // by what was sent after the batch was applied
	byStamp          // by a stamp of the common tag, with the batch
)

// newGovernor bounds the keys to perSecond; negative means no bound.
func newGovernor(perSecond int) *governor {
	limit := rate.Inf
	if perSecond > 0 {
		limit = rate.Limit(perSecond)
	}
	burst := min(perSecond, math.MaxInt/burstSeconds) * burstSeconds
	return &governor{keys: rate.NewLimiter(limit, burst), lock: make(ctxMutex, 1), stamped: map[string]means{}}
}

// take takes n tokens if there are so many.
func (g *governor) take(n int, now time.Duration) bool { return g.keys.AllowN(time.Time{}.Add(now), n) }

// govern decides how keys of a batch of d, applied at the time applied, are emitted to lane v; d is nil for other writers'
// invalidations.
func (l *lanes) govern(ctx context.Context, v *laneView, d *schemas.Dataset, keys int, applied time.Duration) (verdict, error) {
	if keys == 0 {
		return oneByOne, nil
	}
	g := v.governor
	if err := g.lock.acquire(ctx); err != nil {
		return 0, err
	}
	defer g.lock.release()
	common := d != nil && d.Cache != nil && d.Cache.Common != ""
	last := g.flushed
	if common {
		s := g.stamped[d.Name]
		last = means{sent: max(last.sent, s.sent), covers: max(last.covers, s.covers)}
	}
	if last.covers > applied {
		l.counts.governed.Add(uint64(keys))
		return covered, nil
	}
	if g.take(keys, l.now()) {
		return oneByOne, nil
	}
	if last.sent > 0 {
		t := time.NewTimer(flushEvery - (l.now() - last.sent))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
		if g.take(keys, l.now()) {
			return oneByOne, nil
		}
	}
	l.counts.governed.Add(uint64(keys))
	if common {
		carried, err := l.carriesCommon(ctx, v, d)
		if err != nil {
			return 0, err
		}
		if carried {
			s := g.stamped[d.Name]
			s.sent = l.now()
			g.stamped[d.Name] = s
			return byStamp, nil
		}
	}
	sent := l.now()
	if err := l.flushUntilDone(ctx, v); err != nil {
		return 0, err
	}
	l.log.Warn("more keys change than may be emitted one by one; the lane is flushed instead", "lane", v.n, "keys", keys)
	g.flushed = means{sent: sent, covers: sent}
	return covered, nil
}

// acknowledged notes that lane v has a stamp of d's common tag that was sent at that time.
func (v *laneView) acknowledged(ctx context.Context, d *schemas.Dataset, sent time.Duration) error {
	g := v.governor
	if err := g.lock.acquire(ctx); err != nil {
		return err
	}
	defer g.lock.release()
	s := g.stamped[d.Name]
	s.covers = max(s.covers, sent)
	g.stamped[d.Name] = s
	return nil
}

// carriesCommon reports whether every entry of d in lane v carries the common tag: the lane must be agreed about our
// declaration. Entries from before that are of an older root; the process that agrees about another declaration later comes with a
// new one, and a hold.
func (l *lanes) carriesCommon(ctx context.Context, v *laneView, d *schemas.Dataset) (carried bool, err error) {
	const what = "redis: read what a lane is agreed about"
	err = retry.Do(ctx, retry.Policy{Max: 2 * time.Second, Notify: l.faults.hook(what)}, func(ctx context.Context) error {
		st, err := l.state(ctx, v, nil)
		carried = err == nil && st.Exists && st.Hashes[d.Name] == d.CacheHash()
		return err
	})
	if err == nil {
		l.faults.end(what)
	}
	return carried, err
}

func (l *lanes) flushUntilDone(ctx context.Context, v *laneView) error {
	const what = "redis: flush a lane in place of many keys"
	err := retry.Do(ctx, retry.Policy{Max: 2 * time.Second, Notify: l.faults.hook(what)}, func(ctx context.Context) error { return l.flushOne(ctx, v, lane.RootRequest{}) })
	if err == nil {
		l.faults.end(what)
	}
	return err
}
