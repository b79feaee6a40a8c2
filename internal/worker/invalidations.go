package worker

import (
	"context"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/outgoing"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/invalidation/lane"
	"github.com/freshet/freshet/schemas"
)

// Other writers than the datasets' events (redrives, replays, services that want an entry gone) must not emit: nothing
// would repeat their emission after a Redis loss. They append to one topic per namespace, whose partitions are sources
// like all others: a position in MySQL, watermarks in the lanes, repair from Kafka, tokens.

const (
	// outboxAge is when a row of the outbox is any worker's to publish: its writer had time enough, or is dead.
	outboxAge   = 2 * time.Second
	outboxChunk = 100
)

// prepareInvalidations reads a batch of the invalidation topic. What cannot be read is counted and told; it stops nothing.
func (c *core) prepareInvalidations(p *partition, b *kafkalog.Batch) *prepared {
	pr := &prepared{items: items{}, tags: items{}, foreign: items{}}
	for i := range b.Records {
		rec := &b.Records[i]
		pr.newest = max(pr.newest, rec.Time)
		v, err := schemas.DecodeInvalidation(*rec)
		if err != nil {
			pr.bad++
			c.log.Warn("invalidation cannot be read", "topic", p.id.Topic, "partition", p.id.ID, "offset", rec.Offset, "error", err)
			continue
		}
		for _, n := range v.Names {
			pr.items.add(n, 0)
		}
		for _, t := range v.Tags {
			pr.tags.add(t, 0)
		}
		for _, f := range v.Foreign {
			pr.foreign.add(f, 0)
		}
	}
	return pr
}

// relay publishes what other writers left in the outbox, and flushes the lanes for invalidations that Kafka lost.
type relay struct {
	*core

	lanes *lanes

	mu        sync.Mutex
	lostNames []kafkalog.Loss // the lanes are not flushed for these yet
}

// addLost notes a loss of records of the invalidation topic.
func (r *relay) addLost(l kafkalog.Loss) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lostNames = append(r.lostNames, l)
}

// keepInvalidations continues after a loss of records that named invalidations: it is not known what they named, so every
// entry is invalidated.
func (r *relay) keepInvalidations(ctx context.Context) {
	r.mu.Lock()
	lost := r.lostNames
	r.lostNames = nil
	r.mu.Unlock()
	if len(lost) == 0 {
		return
	}
	const what = "redis: flush lanes after a loss of invalidations"
	if err := r.lanes.flushAll(ctx, lane.RootRequest{}); err != nil {
		r.faults.add(what, err)
		r.mu.Lock()
		r.lostNames = append(lost, r.lostNames...)
		r.mu.Unlock()
		return
	}
	r.faults.end(what)
	for _, l := range lost {
		r.log.Warn("invalidations are gone from Kafka before they were read; every lane is flushed",
			"topic", l.Partition.Topic, "partition", l.Partition.ID, "offset", l.Next, "first_offset", l.First)
		r.consumer.Restart(l.Partition, l.First)
	}
}

// publishOutbox publishes, every CheckInterval, the rows of the outbox whose writers did not.
func (r *relay) publishOutbox(ctx context.Context) error {
	const what = "kafka and mysql: publish the invalidation outbox"
	a := outgoing.NewPublisher(r.out, r.cfg.Replica.Outbox, r.cfg.Namespace)
	t := time.NewTicker(r.cfg.CheckInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := r.publishOld(ctx, a)
		switch {
		case err == nil:
			r.faults.end(what)
		case ctx.Err() == nil:
			r.faults.addIn(oneDataset, what, err)
		}
	}
}

func (r *relay) publishOld(ctx context.Context, a *outgoing.Publisher) error {
	for {
		rows, err := r.cfg.Replica.Outbox.Older(ctx, r.cfg.Namespace, outboxAge, outboxChunk)
		if err != nil || len(rows) == 0 {
			return err //nolint:wrapcheck // it states what it did
		}
		for _, o := range rows {
			if o.Invalidation.Len() == 0 {
				r.counts.badInvalidations.Add(1)
				r.log.Error("row of the invalidation outbox cannot be read and is removed", "row_id", o.ID)
			}
		}
		if _, err := a.Publish(ctx, rows); err != nil {
			return err
		}
		r.counts.outboxPublished.Add(uint64(len(rows)))
		if len(rows) < outboxChunk {
			return nil
		}
	}
}

// tries is the policy of waiting for Kafka and MySQL in the background.
func tries(notify func(error, time.Duration)) retry.Policy {
	return retry.Policy{First: 100 * time.Millisecond, Max: 2 * time.Second, Notify: notify}
}
