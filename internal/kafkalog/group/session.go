package group

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/retry"
)

// emitDepth is how many batches of a partition may wait for Emit behind their Apply.
const emitDepth = 3

// lastCommit bounds Settle when the generation is over: the coordinator waits for this member.
const lastCommit = time.Second

var errDrained = errors.New("drain budget is used up")

// session is one generation of the group. A partition's batches go through Apply one at a time, through Emit behind it,
// and then count as done; the order per partition is kept throughout.
type session struct {
	c       *Consumer
	gen     *generation
	log     *slog.Logger
	regroup func() // leaves the group

	// late are the assigned partitions that no leader answered for. Set before the session is known to others.
	late []LatePartition

	end     context.CancelCauseFunc
	fetch   *fetcher
	ready   chan *feed // feeds with something to pull; each is in it at most once
	writers sync.WaitGroup
	emits   sync.WaitGroup

	mu sync.Mutex // guards what follows, and the session's part of the feeds; taken after the fetcher's mutex, never before it
	// share is how many writers one topic may have at once; busy counts those that it has, and held are its feeds that wait for one.
	share int
	busy  map[string]int
	held  map[string][]*feed
}

func newSession(c *Consumer, gen *generation, regroup func()) *session {
	return &session{c: c, gen: gen, log: c.log.With("generation", gen.id), regroup: regroup}
}

// run takes the generation's partitions and carries their batches until the generation ends, or this member ends it. It
// reports whether another session of the same generation must follow, since partitions answer that did not before.
func (s *session) run(gen context.Context) (again bool) {
	ctx, end := context.WithCancelCause(gen)
	defer end(nil)
	s.end = end
	err := s.prepare(ctx)
	if err == nil {
		s.c.enter(s)
		err = s.flow(ctx)
		s.c.leave(s, err)
	}
	switch {
	case errors.Is(err, errGenerationEnded), context.Cause(gen) != nil:
		s.log.Info("generation ended")
		return false
	case errors.Is(err, errAnswered):
		s.log.Info("partitions are taken that did not answer before")
		return true
	case kafkalog.IsAuthorization(err):
		defer s.regroup() // after the pause: a member that may not read one topic continues with the others
	}
	s.log.Warn("generation ends by this member", "error", err)
	// Joining again at once would spin if the cause stays.
	await(gen, nil, time.Now().Add(s.c.fail(err)))
	return false
}

// prepare learns what the assigned partitions are, fences them, and makes their feeds.
func (s *session) prepare(ctx context.Context) error {
	parts, err := s.resolve(ctx)
	if err != nil {
		return fmt.Errorf("resolve partitions: %w", err)
	}
	var starts []Start
	if len(parts) > 0 {
		starts, err = s.take(ctx, parts)
		if err != nil {
			return fmt.Errorf("take partitions: %w", err)
		}
	}
	f := newFetcher(s.c.client, s.c.cfg.Budget, starts)
	f.log, f.wait, f.watch = s.log, s.c.cfg.FetchWait, s.c.cfg.WatchInterval
	s.fetch = f
	s.divide(parts)
	s.ready = make(chan *feed, len(f.feeds))
	for _, d := range f.feeds {
		i := slices.IndexFunc(parts, func(a Assigned) bool { return a.Partition == d.part })
		d.emit, d.committed = make(chan appliedBatch, emitDepth), parts[i].Committed
	}
	f.onData, f.onTime = s.schedule, s.c.fetches.Observe
	f.onLoss = func(l *kafkalog.Loss) { s.c.lost(*l) }
	return nil
}

// take asks the handler until it succeeds, and checks that it forgot nothing.
func (s *session) take(ctx context.Context, parts []Assigned) ([]Start, error) {
	var starts []Start
	policy := retry.Policy{First: firstWait, Max: lastWait, Notify: func(err error, wait time.Duration) {
		s.log.Warn("taking partitions failed", "error", err, "wait_seconds", wait)
	}}
	err := retry.Do(ctx, policy, func(ctx context.Context) error {
		var err error
		if starts, err = s.c.handler.Take(ctx, s.gen.id, parts); errors.Is(err, ErrRejoin) {
			return retry.Permanent(err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	out := make([]Start, 0, len(parts))
	for _, a := range parts {
		i := slices.IndexFunc(starts, func(st Start) bool { return st.Partition == a.Partition })
		if i < 0 {
			return nil, fmt.Errorf("no start for %s/%d", a.Partition.Topic, a.Partition.ID)
		}
		st := starts[i]
		if st.Offset < 0 {
			st.Offset = a.LogStart
		}
		out = append(out, st)
	}
	return out, nil
}

// flow runs until ctx ends, then lets running batches finish within the drain budget and commits a last time. It
// returns the cause of the end.
func (s *session) flow(ctx context.Context) error {
	// Apply and Emit outlive the generation by the drain budget.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	var fetching, committing sync.WaitGroup
	fetching.Go(func() {
		if err := s.fetch.run(ctx); err != nil {
			s.end(err)
		}
	})
	for range min(s.c.cfg.Writers, max(len(s.fetch.feeds), 1)) {
		s.writers.Go(func() { s.write(ctx, work) })
	}
	for _, d := range s.fetch.feeds {
		s.emits.Go(func() { s.emitAll(work, d) })
	}
	committing.Go(func() { s.commitLoop(ctx, work) })
	committing.Go(func() { s.awaitLate(ctx) })

	<-ctx.Done()
	budget := time.Duration(drainShare * float64(s.c.cfg.SessionTimeout))
	t := time.AfterFunc(budget, func() { stop(errDrained) })
	defer t.Stop()
	fetching.Wait()
	s.writers.Wait()
	for _, d := range s.fetch.feeds {
		close(d.emit)
	}
	s.emits.Wait()
	committing.Wait()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), lastCommit)
	defer cancel()
	s.commit(last)
	for _, d := range s.fetch.feeds {
		s.fetch.mu.Lock()
		d.restart(d.delivered)
		s.fetch.mu.Unlock()
	}
	return context.Cause(ctx)
}

// answerWait is how long an assignment waits for leaders that do not answer before it begins without their partitions.
const answerWait = 2 * time.Second

// errAnswered ends a session, but not its generation: partitions answer that it began without.
var errAnswered = errors.New("partitions answer that did not before")

// LatePartition is an assigned partition that this member began without, since no leader answered for it.
type LatePartition struct {
	Topic string
	ID    int32
	// Err is the last error.
	Err error
}

// resolve returns the assigned partitions under their topics' ids, sorted. Those that do not answer within answerWait
// become late; it waits as long as none answers because no broker does.
func (s *session) resolve(ctx context.Context) (parts []Assigned, err error) {
	s.late = nil
	want := s.gen.parts
	until := time.Now().Add(answerWait)
	err = retry.Do(ctx, retry.Policy{First: firstWait, Max: lastWait}, func(ctx context.Context) error {
		got, late, err := s.c.locate(ctx, want)
		if err != nil {
			return err
		}
		parts, s.late = append(parts, got...), late
		if want = lateSet(late); len(want) == 0 || time.Now().After(until) {
			return nil
		}
		return s.late[0].Err
	})
	if err != nil {
		return nil, err
	}
	for i, a := range parts {
		parts[i].Committed = -1
		if at, ok := s.gen.committed[a.Partition.Topic][a.Partition.ID]; ok {
			parts[i].Committed = at
		}
	}
	for _, l := range s.late {
		s.log.Warn("partition is not taken until a leader answers", "topic", l.Topic, "partition", l.ID, "error", l.Err)
	}
	slices.SortFunc(parts, func(a, b Assigned) int {
		return cmp.Or(cmp.Compare(a.Partition.Topic, b.Partition.Topic), cmp.Compare(a.Partition.ID, b.Partition.ID))
	})
	return parts, nil
}

// awaitLate ends the session once a late partition answers: it is taken with the others then.
func (s *session) awaitLate(ctx context.Context) {
	if len(s.late) == 0 {
		return
	}
	want := lateSet(s.late)
	for ctx.Err() == nil {
		await(ctx, nil, time.Now().Add(answerWait))
		if got, _, err := s.c.locate(ctx, want); err == nil && len(got) > 0 {
			s.end(errAnswered)
			return
		}
	}
}

func lateSet(late []LatePartition) map[string][]int32 {
	out := map[string][]int32{}
	for _, l := range late {
		out[l.Topic] = append(out[l.Topic], l.ID)
	}
	return out
}
