package consumer

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/invalidation/lane"
)

// Take fences the partitions in MySQL and says where each starts. The committed offset is behind when a worker died
// between commit and emission: those events must be emitted again. The position row is behind when MySQL was restored:
// those rows are missing. So the smaller one counts.
func (h *handler) Take(ctx context.Context, generation int32, parts []kafkalog.Assigned) ([]kafkalog.Start, error) {
	w := (*Worker)(h)
	if err := w.observeTopics(ctx, parts); err != nil {
		w.fault("kafka and mysql: topic identity", err)
		return nil, err
	}
	claims := make([]replica.Claim, len(parts))
	for i, a := range parts {
		claims[i] = replica.Claim{Source: a.Partition.Source()}
	}
	positions, err := w.cfg.Replica.Take(ctx, w.cfg.Group, w.cfg.Owner, generation, claims)
	if errors.Is(err, replica.ErrLate) {
		return nil, fmt.Errorf("take partitions: %w: %w", kafkalog.ErrRejoin, err)
	}
	if err != nil {
		w.fault("mysql: take partitions", err)
		return nil, fmt.Errorf("take partitions: %w", err)
	}
	w.healed("kafka and mysql: topic identity", "mysql: take partitions")

	starts := make([]kafkalog.Start, len(parts))
	taken := make(map[kafkalog.Partition]*partition, len(parts))
	for i, a := range parts {
		at := resume(a, positions[i])
		starts[i] = kafkalog.Start{Partition: a.Partition, Offset: at}
		taken[a.Partition] = w.newPartition(a.Partition, positions[i], at)
	}
	w.mu.Lock()
	w.parts = taken
	w.mu.Unlock()
	w.counts.generations.Add(1)
	w.log.Info("partitions are assigned", "generation", generation, "partitions", len(parts))
	w.checkNow()
	return starts, nil
}

func resume(a kafkalog.Assigned, pos replica.Position) int64 {
	switch {
	case pos.Next < 0: // a fresh replica needs everything, whatever the group once committed
		return a.LogStart
	case a.Committed < 0: // the lanes' watermarks say what must be emitted again
		return pos.Next
	default:
		return min(a.Committed, pos.Next)
	}
}

func (w *Worker) newPartition(id kafkalog.Partition, pos replica.Position, at int64) *partition {
	d, _ := w.cfg.Datasets.ByTopic(id.Topic)
	p := &partition{
		id: id, source: id.Source(), dataset: d, fence: pos.Fence, fresh: pos.Next, read: at, settled: at,
		ready: make(chan struct{}), lock: make(laneLock, 1), pending: map[*kafkalog.Batch]*prepared{},
	}
	if d.Cache == nil {
		p.markReady()
		return p
	}
	for range w.lanes {
		p.lanes = append(p.lanes, laneState{acked: at - 1})
	}
	return p
}

func (p *partition) markReady() { p.readyOnce.Do(func() { close(p.ready) }) }

// observeTopics notes the topics' ids. A topic that was made anew is a new source: nothing may be committed for the old
// one any more, and every lane is flushed, with hold, before the first transaction of the new one.
func (w *Worker) observeTopics(ctx context.Context, parts []kafkalog.Assigned) error {
	seen := map[string]bool{}
	for _, a := range parts {
		if seen[a.Partition.Topic] {
			continue
		}
		seen[a.Partition.Topic] = true
		info, err := w.cfg.Kafka.Topic(ctx, a.Partition.Topic)
		if err != nil {
			return fmt.Errorf("read topic %s: %w", a.Partition.Topic, err)
		}
		if info.ID != a.Partition.TopicID {
			return fmt.Errorf("take partitions: %w: topic %s was made anew meanwhile", kafkalog.ErrRejoin, info.Name)
		}
		pending, err := w.cfg.Topics.Observe(ctx, info.Name, info.ID, info.Partitions)
		if err != nil {
			return fmt.Errorf("note topic %s: %w", info.Name, err)
		}
		if !pending {
			continue
		}
		w.log.Warn("topic was made anew; every lane is flushed", "topic", info.Name)
		if d, _ := w.cfg.Datasets.ByTopic(info.Name); d.Cache != nil {
			if err := w.flushLanes(ctx); err != nil {
				return err
			}
		}
		if err := w.cfg.Topics.Flushed(ctx, info.Name, info.ID, w.cfg.KeepDisplaced); err != nil {
			return fmt.Errorf("note flush for topic %s: %w", info.Name, err)
		}
	}
	return nil
}

// flushLanes gives every lane a new root with hold: nothing cached before counts any more, and for the hold only loads
// from the primary may fill.
func (w *Worker) flushLanes(ctx context.Context) error {
	for _, v := range w.lanes {
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
				break
			}
		}
	}
	return nil
}
