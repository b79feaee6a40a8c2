package group

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
)

// schedule puts a feed on the list of those that want a writer, unless it is there, has one, or may not.
func (s *session) schedule(d *feed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.queued || d.busy || d.paused {
		return
	}
	if d.inEmit >= emitDepth {
		d.blocked = true
		return
	}
	d.queued = true
	s.ready <- d // never blocks: there is room for every feed once
}

// write is one writer: it takes the feed that waits longest, so that no partition starves. It ends with ctx; work is
// for what it then has in hand.
func (s *session) write(ctx, work context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-s.ready:
			if ctx.Err() == nil {
				s.turn(work, d)
			}
		}
	}
}

// turn takes one batch of a feed through Apply.
func (s *session) turn(work context.Context, d *feed) {
	topic := d.part.Topic
	s.mu.Lock()
	d.queued = false
	if d.paused || d.busy { // busy: seized; rest looks at the queue again
		s.pass(topic)
		s.mu.Unlock()
		return
	}
	if s.busy[topic] >= s.share {
		d.queued = true
		s.held[topic] = append(s.held[topic], d)
		s.mu.Unlock()
		return
	}
	s.busy[topic]++
	d.busy = true
	s.mu.Unlock()
	defer s.free(topic)
	b := s.fetch.pull(d, s.c.cfg.MaxRecords, s.c.cfg.MaxBatchBytes)
	if b == nil {
		s.rest(d)
		return
	}
	next := b.Next
	emission, err := s.c.handler.Apply(work, b)
	if err != nil {
		from := b.From
		b.Release()
		s.refused(d, from, err)
		return
	}
	s.mu.Lock()
	d.applied, d.workErr = b.Next, nil
	d.inEmit++
	if b.Next < next && d.restartAt < 0 { // cut
		d.restartAt = b.Next
	}
	s.mu.Unlock()
	d.emit <- appliedBatch{b, emission} // never blocks: inEmit was below emitDepth
	s.rest(d)
}

// divide leaves a writer to the other topics when all partitions of one wait in Apply, such as for a locked table.
func (s *session) divide(parts []Assigned) {
	s.share, s.busy, s.held = s.c.cfg.Writers, map[string]int{}, map[string][]*feed{}
	for _, a := range parts {
		if a.Partition.Topic != parts[0].Partition.Topic {
			s.share = max(s.c.cfg.Writers-1, 1)
		}
	}
}

// free ends a topic's hold on a writer, and lets its next feed have one.
func (s *session) free(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[topic]--
	s.pass(topic)
}

// pass queues a topic's next held feed when the topic may have another writer. The mutex is held. A feed that is queued so
// and then needs no writer must pass on again, or those behind it would wait for an event of another feed.
func (s *session) pass(topic string) {
	if feeds := s.held[topic]; len(feeds) > 0 && s.busy[topic] < s.share {
		s.held[topic] = feeds[1:]
		s.ready <- feeds[0] // never blocks: it is still counted as queued
	}
}

// refused handles an error of Apply.
func (s *session) refused(d *feed, from int64, err error) {
	s.mu.Lock()
	d.workErr = err
	pause := errors.Is(err, ErrPause)
	if pause {
		d.paused = true
		d.restartAt = from
	}
	s.mu.Unlock()
	if pause {
		s.log.Warn("partition is paused", "topic", d.part.Topic, "partition", d.part.ID, "offset", from, "error", err)
	} else {
		s.end(fmt.Errorf("apply batch of %s/%d: %w", d.part.Topic, d.part.ID, err))
	}
	s.rest(d)
}

// rest ends a writer's hold on a feed and does what had to wait for that.
func (s *session) rest(d *feed) {
	s.fetch.mu.Lock()
	s.mu.Lock()
	if d.restartAt >= 0 {
		d.restart(d.restartAt)
	} else if d.paused {
		d.restart(d.delivered)
	}
	if d.paused && d.state == feedActive {
		d.state = feedPaused
	}
	if d.paused || d.restartAt >= 0 {
		s.fetch.wake()
	}
	d.busy, d.restartAt = false, -1
	again := len(d.queue) > 0 || d.dec != nil
	s.mu.Unlock()
	s.fetch.mu.Unlock()
	if again {
		s.schedule(d)
	}
}

// appliedBatch is a batch between Apply and Emit.
type appliedBatch struct {
	*kafkalog.Batch

	emission Emission
}

// emitAll calls Emit for a feed's applied batches, in order.
func (s *session) emitAll(work context.Context, d *feed) {
	var failed error
	for b := range d.emit {
		if failed == nil {
			failed = b.emission.Emit(work)
		}
		next := b.Next
		b.Release()
		s.mu.Lock()
		d.inEmit--
		again := d.blocked
		d.blocked = false
		if failed == nil {
			d.emitted = next
		} else {
			d.workErr = failed
		}
		s.mu.Unlock()
		if failed != nil {
			s.end(fmt.Errorf("emit batch of %s/%d: %w", d.part.Topic, d.part.ID, failed))
			continue
		}
		if again {
			s.schedule(d)
		}
	}
}

func (s *session) commitLoop(ctx, work context.Context) {
	t := time.NewTicker(s.c.cfg.CommitInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			s.commit(work)
		}
	}
}

// commit asks the handler what may be committed and commits it, all partitions in one request. A failure is made good by
// the next call: done only grows.
func (s *session) commit(ctx context.Context) {
	done := map[kafkalog.Partition]int64{}
	s.mu.Lock()
	for _, d := range s.fetch.feeds {
		// Where a generation begins behind the commit, that commit stands until there is progress; where it begins ahead
		// of it, an earlier owner was stopped before it could commit what it had done.
		if d.emitted != d.committed && (d.emitted > d.from || d.emitted > d.committed) {
			done[d.part] = d.emitted
		}
	}
	s.mu.Unlock()
	if len(done) == 0 {
		return
	}
	settled, err := s.c.handler.Settle(ctx, maps.Clone(done))
	if err != nil {
		s.log.Warn("settling offsets failed", "error", err)
		return
	}
	offsets := map[string]map[int32]int64{}
	for p, next := range settled {
		if _, ok := done[p]; !ok || next < 0 || next > done[p] {
			continue
		}
		if offsets[p.Topic] == nil {
			offsets[p.Topic] = map[int32]int64{}
		}
		offsets[p.Topic][p.ID] = next
	}
	if len(offsets) == 0 {
		return
	}
	began := time.Now()
	accepted, err := s.gen.commit(ctx, offsets)
	if err == nil {
		s.c.commitTimes.Observe(time.Since(began))
	}
	if err != nil {
		s.log.Warn("committing offsets failed", "error", err)
	}
	if len(accepted) == 0 {
		return
	}
	s.mu.Lock()
	for _, d := range s.fetch.feeds {
		if next, ok := accepted[d.part.Topic][d.part.ID]; ok {
			d.committed = next
		}
	}
	s.mu.Unlock()
	s.c.committed()
}

// pause pauses a topic's feeds; those that a writer has follow when it is done.
func (s *session) pause(topic string) {
	for _, d := range s.fetch.feeds {
		if d.part.Topic != topic {
			continue
		}
		s.mu.Lock()
		d.paused = true
		idle := s.seize(d)
		s.mu.Unlock()
		if idle {
			s.rest(d)
		}
	}
}

// seize takes a feed as a writer does, if it is free. The mutex is held.
func (s *session) seize(d *feed) bool {
	if d.busy {
		return false
	}
	d.busy = true
	return true
}

func (s *session) resume(topic string) {
	for _, d := range s.fetch.feeds {
		if d.part.Topic != topic {
			continue
		}
		s.mu.Lock()
		d.paused, d.workErr = false, nil
		s.mu.Unlock()
		s.fetch.mu.Lock()
		if d.state == feedPaused {
			s.fetch.activate(d)
		}
		s.fetch.mu.Unlock()
		s.schedule(d)
	}
}

func (s *session) restart(p kafkalog.Partition, offset int64) bool {
	for _, d := range s.fetch.feeds {
		if d.part != p {
			continue
		}
		s.fetch.mu.Lock()
		ahead := offset >= d.next
		if ahead {
			d.skip(offset)
		}
		s.fetch.activate(d)
		s.fetch.mu.Unlock()
		if ahead {
			s.schedule(d)
			return true
		}
		s.mu.Lock()
		d.from = min(d.from, offset)
		d.restartAt = offset
		idle := s.seize(d)
		s.mu.Unlock()
		if idle {
			s.rest(d)
		}
		return true
	}
	return false
}

// activate lets a feed be fetched again, after its leader and its topic's id were looked up again. The mutex is held.
func (f *fetcher) activate(d *feed) {
	d.state, d.err = feedActive, nil
	d.node, d.notBefore, d.wait = -1, time.Time{}, 0
	d.bad, d.above = 0, 0
	d.fetched = time.Now()
	f.wake()
}
