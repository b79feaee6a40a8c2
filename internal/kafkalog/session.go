package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

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
	ready   chan *line // lines with something to pull; each is in it at most once
	writers sync.WaitGroup
	emits   sync.WaitGroup

	mu    sync.Mutex // guards the lines; the fetcher's mutex may be held when it is taken, never the other way round
	lines []*line
	// share is how many writers one topic may have at once; busy counts those that it has, and held are its lines that wait for one.
	share int
	busy  map[string]int
	held  map[string][]*line
}

// line is one assigned partition.
type line struct {
	feed   *feed
	emit   chan appliedBatch
	queued bool // in session.ready
	busy   bool // a writer has it
	paused bool
	inEmit int // batches behind Apply
	// blocked: there is something to pull, but emitDepth batches wait for Emit.
	blocked bool

	from, applied, emitted, committed int64
	err                               error
	restartAt                         int64 // ≥ 0: to be done when the writer is done with it
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
	case isAuthorization(err):
		defer s.regroup() // after the pause: a member that may not read one topic continues with the others
	}
	s.log.Warn("generation ends by this member", "error", err)
	// Joining again at once would spin if the cause stays.
	await(gen, nil, time.Now().Add(s.c.fail(err)))
	return false
}

// prepare learns what the assigned partitions are, fences them, and makes their lines.
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
	s.ready = make(chan *line, len(f.feeds))
	lineOf := make(map[*feed]*line, len(f.feeds))
	for _, d := range f.feeds {
		i := slices.IndexFunc(parts, func(a Assigned) bool { return a.Partition == d.part })
		l := &line{
			feed: d, emit: make(chan appliedBatch, emitDepth), from: d.next, applied: d.next, emitted: d.next,
			committed: parts[i].Committed, restartAt: -1,
		}
		s.lines = append(s.lines, l)
		lineOf[d] = l
	}
	f.onData = func(d *feed) { s.schedule(lineOf[d]) }
	f.onLoss = func(_ *feed, l *Loss) { s.c.lost(*l) }
	return nil
}

// take asks the handler until it succeeds, and checks that it forgot nothing.
func (s *session) take(ctx context.Context, parts []Assigned) ([]Start, error) {
	var starts []Start
	policy := retry.Policy{First: firstWait, Max: lastWait, Notify: func(err error, wait time.Duration) {
		s.log.Warn("taking partitions failed", "error", err, "wait", wait)
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

// flow runs until ctx ends, then lets running batches finish within the drain budget and commits a last time. It gives
// the cause of the end.
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
	for range min(s.c.cfg.Writers, max(len(s.lines), 1)) {
		s.writers.Go(func() { s.write(ctx, work) })
	}
	for _, l := range s.lines {
		s.emits.Go(func() { s.emitAll(work, l) })
	}
	committing.Go(func() { s.commitLoop(ctx, work) })
	committing.Go(func() { s.awaitLate(ctx) })

	<-ctx.Done()
	budget := time.Duration(drainShare * float64(s.c.cfg.SessionTimeout))
	t := time.AfterFunc(budget, func() { stop(errDrained) })
	defer t.Stop()
	fetching.Wait()
	s.writers.Wait()
	for _, l := range s.lines {
		close(l.emit)
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
