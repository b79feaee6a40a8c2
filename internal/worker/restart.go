package worker

import (
	"context"
	"fmt"

	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/invalidation/lane"
)

// A partition whose records were lost, or whose next batch cannot be read, is stopped until an operator decides where it goes
// on. The decision is noted in MySQL, so that whichever worker owns the partition carries it out, also after a crash in
// between: it is removed only when Kafka has the offset that follows from it.

// restarter carries out operators' decisions where stopped partitions continue.
type restarter struct {
	*core

	lanes *lanes
}

// followRestarts carries out what is noted for the partitions that this worker owns.
func (rs *restarter) followRestarts(ctx context.Context) {
	const what = "mysql, redis: restart stopped partitions"
	if err := rs.restartAll(ctx); err == nil {
		rs.faults.end(what)
	} else if ctx.Err() == nil {
		rs.faults.add(what, err)
	}
}

func (rs *restarter) restartAll(ctx context.Context) error {
	noted, err := rs.cfg.Replica.Restarts.All(ctx)
	if err != nil || len(noted) == 0 {
		return err //nolint:wrapcheck // it states what it did
	}
	for _, st := range rs.consumer.Stats().Partitions {
		r, ok := noted[st.Partition.Source()]
		p := rs.partition(st.Partition)
		if !ok || p == nil {
			continue
		}
		done := false
		switch still := st.Lost || st.Stopped; {
		case still && st.Emitted == st.Fetched: // what came before is done with
			done, err = rs.restart(ctx, p, st, r.At)
		case still:
		case p.restarted:
			done = st.Committed >= r.At
		case st.LastStable >= 0: // it was fetched from in this generation, and is well
			rs.log.Warn("restart is not needed: the partition is not stopped", "topic", p.id.Topic, "partition", p.id.ID)
			done = true
		}
		if err == nil && done {
			err = rs.cfg.Replica.Restarts.Done(ctx, p.source)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// restart lets p continue at an offset. It is not known what the records that are left out would have invalidated, so every lane
// is flushed, with hold, before anything behind them is applied. done: nothing more is to be waited for.
func (rs *restarter) restart(ctx context.Context, p *partition, st group.PartitionStats, at int64) (done bool, err error) {
	done = at < st.Fetched
	if p.cached() {
		more := lane.RootRequest{}
		if done { // or the lanes would claim that they know the next records with these offsets
			more = lane.RootRequest{Source: p.source, Watermark: at - 1, Back: true}
		}
		if err := rs.lanes.flushAll(ctx, more); err != nil {
			return false, err
		}
	}
	if done {
		// The log was cut and its offsets are used again: position and lanes follow it back.
		if err := rs.cfg.Replica.Positions.Rewind(ctx, p.source, p.fence, at); err != nil {
			return false, fmt.Errorf("restart partition: %w", err)
		}
		p.reached.Store(at)
		if err := p.lock.acquire(ctx); err != nil {
			return false, err
		}
		p.emitted, p.settled, p.oldest = at, at, min(p.oldest, at)
		for n := range p.lanes {
			p.lanes[n] = laneState{acked: at - 1}
		}
		p.lock.release()
	}
	p.restarted = rs.consumer.Restart(p.id, at)
	rs.log.Warn("partition continues at the requested offset", "topic", p.id.Topic, "partition", p.id.ID, "previous_offset", st.Fetched, "offset", at)
	return done, nil
}
