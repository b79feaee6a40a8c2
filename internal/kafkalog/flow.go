package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"time"
)

// schedule puts a line on the list of those that want a writer, unless it is there, has one, or may not.
func (s *session) schedule(l *line) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if l.queued || l.busy || l.paused {
		return
	}
	if l.inEmit >= emitDepth {
		l.blocked = true
		return
	}
	l.queued = true
	s.ready <- l // never blocks: there is room for every line once
}

// write is one writer: it takes the line that waits longest, so that no partition starves. It ends with ctx; work is
// for what it then has in hand.
func (s *session) write(ctx, work context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case l := <-s.ready:
			if ctx.Err() == nil {
				s.turn(work, l)
			}
		}
	}
}

// turn takes one batch of a line through Apply.
func (s *session) turn(work context.Context, l *line) {
	topic := l.feed.part.Topic
	s.mu.Lock()
	l.queued = false
	if l.paused || l.busy { // busy: seized; rest looks at the queue again
		s.pass(topic)
		s.mu.Unlock()
		return
	}
	if s.busy[topic] >= s.share {
		l.queued = true
		s.held[topic] = append(s.held[topic], l)
		s.mu.Unlock()
		return
	}
	s.busy[topic]++
	l.busy = true
	s.mu.Unlock()
	defer s.free(topic)
	b := s.fetch.pull(l.feed, s.c.cfg.MaxRecords, s.c.cfg.MaxBatchBytes)
	if b == nil {
		s.rest(l)
		return
	}
	next := b.Next
	emission, err := s.c.handler.Apply(work, b)
	if err != nil {
		from := b.From
		b.Release()
		s.refused(l, from, err)
		return
	}
	s.mu.Lock()
	l.applied, l.err = b.Next, nil
	l.inEmit++
	if b.Next < next && l.restartAt < 0 { // cut
		l.restartAt = b.Next
	}
	s.mu.Unlock()
	l.emit <- appliedBatch{b, emission} // never blocks: inEmit was below emitDepth
	s.rest(l)
}

// divide leaves a writer to the other topics when all partitions of one wait in Apply, such as for a locked table.
func (s *session) divide(parts []Assigned) {
	s.share, s.busy, s.held = s.c.cfg.Writers, map[string]int{}, map[string][]*line{}
	for _, a := range parts {
		if a.Partition.Topic != parts[0].Partition.Topic {
			s.share = max(s.c.cfg.Writers-1, 1)
		}
	}
}

// free ends a topic's hold on a writer, and lets its next line have one.
func (s *session) free(topic string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.busy[topic]--
	s.pass(topic)
}

// pass queues a topic's next held line when the topic may have another writer. The mutex is held. A line that is queued so
// and then needs no writer must pass on again, or those behind it would wait for an event of another line.
func (s *session) pass(topic string) {
	if lines := s.held[topic]; len(lines) > 0 && s.busy[topic] < s.share {
		s.held[topic] = lines[1:]
		s.ready <- lines[0] // never blocks: it is still counted as queued
	}
}

// refused handles an error of Apply.
func (s *session) refused(l *line, from int64, err error) {
	s.mu.Lock()
	l.err = err
	pause := errors.Is(err, ErrPause)
	if pause {
		l.paused = true
		l.restartAt = from
	}
	s.mu.Unlock()
	if pause {
		s.log.Warn("partition is paused", "topic", l.feed.part.Topic, "partition", l.feed.part.ID, "offset", from, "error", err)
	} else {
		s.end(fmt.Errorf("apply batch of %s/%d: %w", l.feed.part.Topic, l.feed.part.ID, err))
	}
	s.rest(l)
}

// rest ends a writer's hold on a line and does what had to wait for that.
func (s *session) rest(l *line) {
	s.fetch.mu.Lock()
	s.mu.Lock()
	if l.restartAt >= 0 {
		l.feed.restart(l.restartAt)
	} else if l.paused {
		l.feed.restart(l.feed.delivered)
	}
	if l.paused && l.feed.state == feedActive {
		l.feed.state = feedPaused
	}
	if l.paused || l.restartAt >= 0 {
		s.fetch.wake()
	}
	l.busy, l.restartAt = false, -1
	again := len(l.feed.queue) > 0 || l.feed.dec != nil
	s.mu.Unlock()
	s.fetch.mu.Unlock()
	if again {
		s.schedule(l)
	}
}

// appliedBatch is a batch between Apply and Emit.
type appliedBatch struct {
	*Batch

	emission Emission
}

// emitAll calls Emit for a line's applied batches, in order.
func (s *session) emitAll(work context.Context, l *line) {
	var failed error
	for b := range l.emit {
		if failed == nil {
			failed = b.emission.Emit(work)
		}
		next := b.Next
		b.Release()
		s.mu.Lock()
		l.inEmit--
		again := l.blocked
		l.blocked = false
		if failed == nil {
			l.emitted = next
		} else {
			l.err = failed
		}
		s.mu.Unlock()
		if failed != nil {
			s.end(fmt.Errorf("emit batch of %s/%d: %w", l.feed.part.Topic, l.feed.part.ID, failed))
			continue
		}
		if again {
			s.schedule(l)
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

// commit asks the handler what may be committed and commits it, all partitions in one request. A failure is mended by
// the next call: done only grows.
func (s *session) commit(ctx context.Context) {
	done := map[Partition]int64{}
	s.mu.Lock()
	for _, l := range s.lines {
		// Where a generation begins behind the commit, that commit stands until there is progress; where it begins ahead
		// of it, a former owner was stopped before it could commit what it had done.
		if l.emitted != l.committed && (l.emitted > l.from || l.emitted > l.committed) {
			done[l.feed.part] = l.emitted
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
	accepted, err := s.gen.commit(ctx, offsets)
	if err != nil {
		s.log.Warn("committing offsets failed", "error", err)
	}
	if len(accepted) == 0 {
		return
	}
	s.mu.Lock()
	for _, l := range s.lines {
		if next, ok := accepted[l.feed.part.Topic][l.feed.part.ID]; ok {
			l.committed = next
		}
	}
	s.mu.Unlock()
	s.c.committed()
}

// pause sets a topic's lines aside; those that a writer has follow when it is done.
func (s *session) pause(topic string) {
	for _, l := range s.lines {
		if l.feed.part.Topic != topic {
			continue
		}
		s.mu.Lock()
		l.paused = true
		idle := s.seize(l)
		s.mu.Unlock()
		if idle {
			s.rest(l)
		}
	}
}

// seize takes a line as a writer does, if it is free. The mutex is held.
func (s *session) seize(l *line) bool {
	if l.busy {
		return false
	}
	l.busy = true
	return true
}

func (s *session) resume(topic string) {
	for _, l := range s.lines {
		if l.feed.part.Topic != topic {
			continue
		}
		s.mu.Lock()
		l.paused, l.err = false, nil
		s.mu.Unlock()
		s.fetch.mu.Lock()
		if l.feed.state == feedPaused {
			s.fetch.activate(l.feed)
		}
		s.fetch.mu.Unlock()
		s.schedule(l)
	}
}

func (s *session) restart(p Partition, offset int64) bool {
	for _, l := range s.lines {
		if l.feed.part != p {
			continue
		}
		s.fetch.mu.Lock()
		ahead := offset >= l.feed.next
		if ahead {
			l.feed.skip(offset)
		}
		s.fetch.activate(l.feed)
		s.fetch.mu.Unlock()
		if ahead {
			s.schedule(l)
			return true
		}
		s.mu.Lock()
		l.from = min(l.from, offset)
		l.restartAt = offset
		idle := s.seize(l)
		s.mu.Unlock()
		if idle {
			s.rest(l)
		}
		return true
	}
	return false
}

// activate lets a feed be fetched again, after its leader and its topic's id were looked up anew. The mutex is held.
func (f *fetcher) activate(d *feed) {
	d.state, d.err = feedActive, nil
	d.node, d.notBefore, d.wait = -1, time.Time{}, 0
	d.bad, d.above = 0, 0
	d.fetched = time.Now()
	f.wake()
}
