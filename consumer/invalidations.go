package consumer

import (
	"context"
	"time"

	"github.com/freshet/freshet/consumer/outgoing"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/retry"
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
func (w *Worker) prepareInvalidations(p *partition, b *kafkalog.Batch) *prepared {
	pr := &prepared{items: items{}, tags: items{}, foreign: items{}}
	for i := range b.Records {
		rec := &b.Records[i]
		pr.newest = max(pr.newest, rec.Time)
		v, err := schemas.DecodeInvalidation(*rec)
		if err != nil {
			pr.bad++
			w.log.Warn("invalidation cannot be read", "topic", p.id.Topic, "partition", p.id.ID, "offset", rec.Offset, "error", err)
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

// keepInvalidations goes on after a loss of records that named invalidations: nobody knows what they named, so every
// entry is invalidated.
func (w *Worker) keepInvalidations(ctx context.Context) {
	w.mu.Lock()
	lost := w.lostNames
	w.lostNames = nil
	w.mu.Unlock()
	if len(lost) == 0 {
		return
	}
	const what = "redis: flush lanes after a loss of invalidations"
	if err := w.FlushLanes(ctx); err != nil {
		w.fault(what, err)
		w.mu.Lock()
		w.lostNames = append(lost, w.lostNames...)
		w.mu.Unlock()
		return
	}
	w.healed(what)
	for _, l := range lost {
		w.log.Warn("invalidations are gone from Kafka before they were read; every lane is flushed",
			"topic", l.Partition.Topic, "partition", l.Partition.ID, "offset", l.Next, "first", l.First)
		w.consumer.Restart(l.Partition, l.First)
	}
}

// publishOutbox publishes, every CheckInterval, the rows of the outbox whose writers did not.
func (w *Worker) publishOutbox(ctx context.Context) error {
	const what = "kafka and mysql: publish the invalidation outbox"
	a := outgoing.NewPublisher(w.out, w.cfg.Outbox, w.cfg.Namespace)
	t := time.NewTicker(w.cfg.CheckInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
		err := w.publishOld(ctx, a)
		switch {
		case err == nil:
			w.healed(what)
		case ctx.Err() == nil:
			w.fault(what, err)
		}
	}
}

func (w *Worker) publishOld(ctx context.Context, a *outgoing.Publisher) error {
	for {
		rows, err := w.cfg.Outbox.Outgoing(ctx, w.cfg.Namespace, outboxAge, outboxChunk)
		if err != nil || len(rows) == 0 {
			return err //nolint:wrapcheck // it names what it did
		}
		for _, o := range rows {
			if o.Invalidation.Len() == 0 {
				w.counts.badInvalidations.Add(1)
				w.log.Error("row of the invalidation outbox cannot be read and is removed", "id", o.ID)
			}
		}
		if _, err := a.Publish(ctx, rows); err != nil {
			return err
		}
		w.counts.outboxPublished.Add(uint64(len(rows)))
		if len(rows) < outboxChunk {
			return nil
		}
	}
}

// tries is the policy of waiting for Kafka and MySQL in the background.
func tries(notify func(error, time.Duration)) retry.Policy {
	return retry.Policy{First: 100 * time.Millisecond, Max: 2 * time.Second, Notify: notify}
}
