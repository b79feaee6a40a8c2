package worker

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas/cdc"
)

// Take fences the partitions in MySQL and returns where each starts. The committed offset is behind when a worker died
// between commit and emission: those events must be emitted again. The position row is behind when MySQL was restored:
// those rows are missing. So the smaller one counts.
func (h *handler) Take(ctx context.Context, generation int32, parts []group.Assigned) ([]group.Start, error) {
	switch moved, err := h.membership.bind(ctx); {
	case err != nil:
		h.faults.add("mysql: take partitions", err)
		return nil, fmt.Errorf("take partitions: %w", err)
	case moved:
		return nil, fmt.Errorf("take partitions: %w: the database is another one", group.ErrRejoin)
	}
	topics, err := h.topics.observeTopics(ctx, parts)
	if err != nil {
		h.faults.add("kafka and mysql: topic identity", err)
		return nil, err
	}
	claims := make([]replica.Claim, len(parts))
	for i, a := range parts {
		claims[i] = replica.Claim{Source: a.Partition.Source(), First: a.LogStart}
	}
	positions, err := h.cfg.Replica.Positions.Take(ctx, h.cfg.Group, h.cfg.Owner, generation, claims)
	if errors.Is(err, replica.ErrLate) {
		return nil, fmt.Errorf("take partitions: %w: %w", group.ErrRejoin, err)
	}
	if err != nil {
		h.faults.add("mysql: take partitions", err)
		return nil, fmt.Errorf("take partitions: %w", err)
	}
	h.faults.end("kafka and mysql: topic identity", "mysql: take partitions")
	if err := h.pauses.follow(ctx); err != nil { // before the first batch, so that a restart does not run into a storm again
		return nil, fmt.Errorf("take partitions: %w", err)
	}

	starts := make([]group.Start, len(parts))
	taken := make(map[kafkalog.Partition]*partition, len(parts))
	for i, a := range parts {
		at := resume(a, positions[i], h.cfg.DeadTopics)
		if positions[i].Fresh && a.LogStart > 0 {
			h.log.Warn("a replica begins with what Kafka still has: older records were deleted before it was there",
				"topic", a.Partition.Topic, "partition", a.Partition.ID, "first_offset", a.LogStart)
		}
		starts[i] = group.Start{Partition: a.Partition, Offset: at}
		taken[a.Partition] = h.newPartition(a.Partition, positions[i], at, topics[a.Partition.Topic])
		taken[a.Partition].oldest = a.LogStart
		taken[a.Partition].generation = generation
	}
	h.assign(taken)
	for _, p := range taken {
		if p.retired {
			h.pauses.refuse(p, p.unfit)
		}
	}
	context.AfterFunc(ctx, func() { h.disown(taken) }) // ctx ends with the generation
	h.counts.generations.Add(1)
	h.log.Info("partitions are assigned", "generation", generation, "partitions", len(parts))
	h.checkNow()
	return starts, nil
}

// resume returns where a partition starts. Without a committed offset it is not known which letters were copied: with copies
// asked for, all that Kafka has is gone through again.
func resume(a group.Assigned, pos replica.Position, copied bool) int64 {
	at := pos.Next // without a committed offset the lanes' watermarks say what must be emitted again
	switch {
	case pos.Fresh: // a fresh replica needs everything, whatever the group once committed
		return a.LogStart
	case a.Committed < 0 && copied:
		at = a.LogStart
	case a.Committed >= 0:
		at = min(a.Committed, pos.Next)
	}
	if at < a.LogStart && a.LogStart <= pos.Next {
		// Kafka has deleted only what MySQL has. What was not emitted of it the watermarks tell, and the lane is flushed.
		at = a.LogStart
	}
	return min(at, pos.Next)
}

// observed is what is known of a topic: its partitions now, and what was noted when its id was new.
type observed struct {
	partitions int32
	noted      replica.Topic
	renewal    *renewal
	// retired: the topic has an id that was replaced by another, and no operator has accepted it.
	retired bool
}

func (h *handler) newPartition(id kafkalog.Partition, pos replica.Position, at int64, topic observed) *partition {
	d, _ := h.cfg.Datasets.ByTopic(id.Topic) // nil for the invalidation topic
	p := &partition{
		id: id, source: id.Source(), dataset: d, fence: pos.Fence, fresh: pos.Next, emitted: at, settled: at,
		ready: make(chan struct{}), over: make(chan struct{}), lock: make(ctxMutex, 1),
	}
	if d != nil {
		p.decoder = cdc.New(cdc.Config{Dataset: d, Epoch: topic.noted.Epoch, Partitions: topic.noted.Partitions})
		p.unfit = cdc.PartitionsChanged(d, topic.noted.Partitions, topic.partitions)
		p.partitions = topic.partitions
	}
	if p.renewal, p.retired = topic.renewal, topic.retired; p.retired {
		p.unfit = errRetired(id)
	}
	p.measures = h.measured[id.Topic]
	p.caughtUp.Store(int64(h.now()))
	p.reached.Store(pos.Next)
	if !p.cached() {
		p.markReady()
		return p
	}
	for range h.lanes.views {
		p.lanes = append(p.lanes, laneState{acked: at - 1})
	}
	return p
}

func (p *partition) markReady() { p.readyOnce.Do(func() { close(p.ready) }) }

// checked reports whether every lane was checked since the assignment.
func (p *partition) checked() bool { return closed(p.ready) }

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// disown ends the generation of these partitions. What was reported about them is for their next owner to report.
func (h *handler) disown(taken map[kafkalog.Partition]*partition) {
	for _, p := range taken {
		close(p.over)
	}
	h.pauses.disown()
	h.faults.clear()
	h.sights.forget()
}
