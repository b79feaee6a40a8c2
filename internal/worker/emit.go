package worker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/invalidation/lane"
)

// applied is a batch that MySQL has and the lanes have not: offsets from up to, not including, next.
type applied struct {
	w          *Worker
	p          *partition
	prepared   *prepared
	from, next int64
}

// Emit notifies the lanes of what the batch made stale, also when no row changed, and then counts it as
// emitted; the Kafka offset follows in Settle. It retries until it succeeds or ctx ends: no emission is ever skipped.
func (a *applied) Emit(ctx context.Context) error {
	if err := a.w.emitter.emitPrepared(ctx, a); err != nil {
		return err
	}
	return a.w.restater.restate(ctx, a.p, a.from, a.prepared.behind)
}

// emitPrepared emits what a batch made stale.
func (em *emitter) emitPrepared(ctx context.Context, a *applied) error {
	p, pr := a.p, a.prepared
	var emissions []emission
	started := time.Now()
	if p.cached() {
		defer func() { em.counts.emitted(len(pr.own)+len(pr.items), time.Since(started)) }()
		if err := em.addDisplaced(ctx, p, pr, a.from, a.next-1); err != nil {
			return err
		}
		if err := em.unlink(ctx, pr); err != nil {
			return err
		}
		var err error
		if emissions, err = em.emissions(ctx, a); err != nil {
			return err
		}
	}
	if err := p.lock.acquire(ctx); err != nil {
		return err
	}
	defer p.lock.release()
	for n, e := range emissions {
		if len(e.Items)+len(e.Tags) == 0 {
			continue // Settle moves the watermark
		}
		sent := em.now()
		if err := em.emitUntilDone(ctx, p, n, e.Emission); err != nil {
			return err
		}
		if e.stamps {
			em.counts.commonStamps.Add(1)
			if err := em.lanes.views[n].acknowledged(ctx, p.dataset, sent); err != nil {
				return err
			}
		}
	}
	p.emitted = a.next
	em.notified(p, pr, time.Since(started))
	em.record(p, pr, a.from, a.next)
	em.cfg.Failpoint(PointAfterEmit)
	return nil
}

// emitter notifies the lanes of what batches made stale, and repairs lanes that lost it. Every partition's work is under its lock.
type emitter struct {
	*core

	lanes  *lanes
	topics *topicWatch
}

// emission is one lane's share of a batch; stamps: the dataset's common tag stands for its keys.
type emission struct {
	lane.Emission

	stamps bool
}

// emissions gives each lane its share of a batch. Tags are for all lanes. A lane that the governor flushed, or that has a stamp
// of a common tag, has the keys behind it; its watermark follows in its own history.
func (em *emitter) emissions(ctx context.Context, a *applied) ([]emission, error) {
	p, pr := a.p, a.prepared
	tags := pr.tagNames()
	out := make([]emission, len(em.lanes.views))
	for n, its := range pr.split(len(em.lanes.views)) {
		how, err := em.lanes.govern(ctx, em.lanes.views[n], p.dataset, len(its), pr.applied)
		if err != nil {
			return nil, err
		}
		e := lane.Emission{Source: p.source, To: a.next - 1, Time: pr.newest, Items: its, Tags: tags, Keep: a.from < p.fresh, Traces: pr.traces(its, how)}
		if how != oneByOne {
			e.Items = nil
		}
		if how == byStamp {
			e.Tags = append(slices.Clip(tags), p.dataset.Cache.Common)
		}
		out[n] = emission{Emission: e, stamps: how == byStamp}
	}
	return out, nil
}

// unlink deletes the batch's foreign keys. It is repeated until it worked, like an emission.
func (c *core) unlink(ctx context.Context, pr *prepared) error {
	if len(pr.foreign) == 0 {
		return nil
	}
	if c.cfg.Foreign == nil {
		c.counts.foreignSkipped.Add(uint64(len(pr.foreign)))
		return nil
	}
	const what = "redis: delete foreign keys"
	names := slices.Sorted(maps.Keys(pr.foreign))
	err := retry.Do(ctx, retry.Policy{Max: 2 * time.Second, Notify: c.faults.hook(what)}, func(ctx context.Context) error {
		return c.cfg.Foreign.Unlink(ctx, names)
	})
	if err == nil {
		c.faults.end(what)
		c.counts.foreignUnlinked.Add(uint64(len(names)))
	}
	return err
}

// addDisplaced adds the names that MySQL alone knows. They are read with a statement of its own after the commit: a
// previous owner may have noted them.
func (c *core) addDisplaced(ctx context.Context, p *partition, pr *prepared, from, to int64) error {
	if !pr.displaced || to < from {
		return nil
	}
	const what = "mysql: read displaced names"
	err := retry.Do(ctx, retry.Policy{Notify: c.faults.hook(what)}, func(ctx context.Context) error {
		names, err := c.cfg.LaneLog.Displaced(ctx, p.source, from, to)
		for _, n := range names {
			pr.addName(n)
		}
		return err
	})
	if err == nil {
		c.faults.end(what)
	}
	return err
}

// emitUntilDone emits e to lane n from where the lane stands. The caller holds p's lock; e.From is set here, since a
// repair in between moves it.
func (em *emitter) emitUntilDone(ctx context.Context, p *partition, n int, e lane.Emission) error {
	const what = "redis: emit"
	err := retry.Do(ctx, retry.Policy{Max: 2 * time.Second, Notify: em.faults.hook(what)}, func(ctx context.Context) error {
		for {
			s := &p.lanes[n]
			e.From = s.acked + 1
			sent := em.now()
			r, err := em.cfg.Emitter.Emit(ctx, n, s.root, s.start, e)
			if err != nil {
				em.counts.emitRetries.Add(1)
				return err
			}
			em.cfg.Failpoint(PointInEmit)
			em.lanes.views[n].saw(sent)
			if r.Status == lane.OK {
				s.acked = max(s.acked, e.To)
				return nil
			}
			if err := em.repair(ctx, p, n); err != nil {
				return err
			}
		}
	})
	if err == nil {
		em.faults.end(what)
	}
	return err
}

// Settle returns what may be committed to Kafka: what every lane acknowledged. A lane without an emission gets its
// watermark moved first. Before the lanes were checked for the first time nothing is known of what they acknowledged.
// Partitions that are not done within settleBound, or when ctx ends, wait for the next call; map order is random, so that none
// waits permanently.
func (h *handler) Settle(ctx context.Context, done map[kafkalog.Partition]int64) (map[kafkalog.Partition]int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, settleBound, errLanesSilent)
	defer cancel()
	out := make(map[kafkalog.Partition]int64, len(done))
	late := 0
	for id, next := range done {
		p := h.partition(id)
		if p == nil || !p.checked() {
			continue
		}
		at, err := h.emitter.settle(ctx, p, next)
		switch {
		case err == nil:
			out[id] = at
		case ctx.Err() != nil:
			late++
		default:
			h.log.Warn("offset is not committed yet", "topic", id.Topic, "partition", id.ID, "error", err)
		}
	}
	if late > 0 {
		h.log.Warn("offsets are not committed yet", "partitions", late, "error", context.Cause(ctx))
	}
	h.cfg.Failpoint(PointBeforeCommit)
	return out, nil
}

// settleBound bounds one call of Settle, so that a lane that does not answer blocks the commits of the partitions that
// need nothing of it only so long.
const settleBound = 2 * time.Second

// lockWait bounds how long one partition's emission may block the commits of the others.
const lockWait = 250 * time.Millisecond

func (em *emitter) settle(ctx context.Context, p *partition, next int64) (int64, error) {
	if !p.cached() {
		return min(next, p.copies.limit()), nil
	}
	wait, cancel := context.WithTimeout(ctx, lockWait)
	defer cancel()
	if err := p.lock.acquire(wait); err != nil {
		return 0, fmt.Errorf("settle: emission is under way: %w", err)
	}
	defer p.lock.release()
	for n := range p.lanes {
		s := &p.lanes[n]
		if s.acked >= p.emitted-1 {
			continue
		}
		sent := em.now()
		r, err := em.cfg.Emitter.Emit(ctx, n, s.root, s.start, lane.Emission{Source: p.source, From: s.acked + 1, To: p.emitted - 1})
		if err != nil {
			return 0, fmt.Errorf("move watermark of lane %d: %w", n, err)
		}
		em.lanes.views[n].saw(sent)
		if r.Status != lane.OK {
			em.checkNow()
			return 0, fmt.Errorf("move watermark of lane %d: the lane must be repaired first", n)
		}
		s.acked = p.emitted - 1
		em.counts.watermarkWrites.Add(1)
	}
	p.settled = min(next, p.emitted, p.copies.limit())
	return p.settled, nil
}
