package consumer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
)

// Apply makes a batch durable in MySQL and returns what is to be emitted. It waits while MySQL or Redis is away; the worker
// stays a member.
func (h *handler) Apply(ctx context.Context, b *kafkalog.Batch) (kafkalog.Emission, error) {
	w := (*Worker)(h)
	w.cfg.Failpoint(PointAfterFetch)
	p := w.partition(b.Partition)
	if p == nil {
		return nil, fmt.Errorf("apply batch: %w: partition is not assigned any more", kafkalog.ErrRejoin)
	}
	if err := w.awaitCopies(ctx, p); err != nil {
		return nil, err
	}
	pr, err := w.prepare(p, b)
	if err != nil {
		return nil, fmt.Errorf("prepare batch: %w", err)
	}
	stop := cmp.Or(p.unfit, pr.stop)
	if p.unfit == nil && pr.stopAt > 0 {
		// What comes before is applied and emitted first, or it would come over what the operator does now.
		b.Cut(pr.stopAt)
		stop = nil
	}
	if stop != nil {
		w.pause(p, stop)
		return nil, fmt.Errorf("apply batch: %w: %w", kafkalog.ErrPause, stop)
	}
	if err := w.gate(ctx, p); err != nil {
		return nil, err
	}
	if pr.misplaced, pr.misplacedAt = p.countMisplaced(b); pr.misplaced > 0 {
		if err := w.noteMisplaced(ctx, p, pr.misplacedAt); err != nil {
			return nil, err
		}
	}
	batch := &replica.Batch{Source: p.source, Fence: p.fence, From: b.From, Next: b.Next, Changes: pr.changes, Letters: pr.letters}
	started := time.Now()
	res, err := w.applyUntilDone(ctx, p, batch)
	if err != nil {
		return nil, err
	}
	p.reached.Store(b.Next)
	if pr.unknown > 0 {
		p.unnamed.Store(true)
	}
	w.counts.applied(pr, res, time.Since(started))
	w.sights.note(p.dataset, pr)
	pr.lost.Add(res.Lost)
	pr.behind = append(pr.behind, res.Behind...)
	if b.From >= p.fresh { // what comes once more is older than its rows as a rule
		w.judged(p, pr)
	}
	w.addCopies(p, b, res.Dead)
	pr.displaced = pr.displaced || len(res.Dead) > 0 || b.From < p.fresh
	pr.applied = w.now()
	if n := len(pr.changes); n > 0 {
		w.cfg.Changed(p.dataset, n, func(i int) string { return pr.changes[i].Event.Key })
	}
	// Emission needs the names only: what was fetched goes now, not after the lanes have answered.
	pr.changes, pr.letters = nil, nil
	b.Release()
	w.cfg.Failpoint(PointAfterApply)
	if err := w.watchStorm(ctx, p.dataset, pr.events, len(res.Dead)); err != nil {
		return nil, err
	}
	return &applied{w: w, p: p, prepared: pr, from: b.From, next: b.Next}, nil
}

func (w *Worker) applyUntilDone(ctx context.Context, p *partition, batch *replica.Batch) (res replica.Result, err error) {
	what := "mysql: apply batch of topic " + p.id.Topic
	var number uint16 // of the last error
	since := w.now()
	err = retry.Do(ctx, retry.Policy{Notify: w.waiting(what)}, func(ctx context.Context) error {
		var err error
		res, err = w.cfg.Replica.Apply(ctx, batch)
		var broken *replica.DatasetError
		switch {
		case errors.Is(err, replica.ErrFenced):
			if errors.Is(err, replica.ErrBehind) {
				w.wentBack(p, batch.From)
			}
			return retry.Permanent(fmt.Errorf("apply batch: %w: %w", kafkalog.ErrRejoin, err))
		case errors.As(err, &broken):
			w.pause(p, broken)
			return retry.Permanent(fmt.Errorf("apply batch: %w: %w", kafkalog.ErrPause, err))
		case err == nil || ctx.Err() != nil || p.dataset == nil:
			return err
		}
		if n, _ := replica.Errno(err); n != number {
			number, since = n, w.now()
		}
		patience := w.patience(p)
		if replica.IsLockWait(err) { // Apply itself has waited long enough to tell that from a passing lock
			patience = min(patience, w.cfg.ProbeInterval)
		}
		if w.now()-since >= patience {
			w.pause(p, err)
			return retry.Permanent(fmt.Errorf("apply batch: %w: %w", kafkalog.ErrPause, err))
		}
		return err
	})
	if errors.Is(err, kafkalog.ErrPause) || p.ended() {
		w.forget(what) // the pause tells more, or the next owner
	}
	if err == nil {
		w.healed(what)
		w.resumed(p)
	}
	return res, err
}

// patience is how long a batch of p may wait before its topic lets go of its writer: the others need it. What is paused
// already is only being tried.
func (w *Worker) patience(p *partition) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, paused := w.paused[p.id.Topic]; paused {
		return min(w.cfg.CheckInterval, w.cfg.PauseAfter)
	}
	return w.cfg.PauseAfter
}

var errUncopied = errors.New("dead letters wait for their copies in the dead topic")

// awaitCopies waits until not too many letters of p wait for their copies. A missing dead topic must not keep a writer from
// other datasets.
func (w *Worker) awaitCopies(ctx context.Context, p *partition) error {
	wait, cancel := context.WithTimeoutCause(ctx, w.patience(p), errUncopied)
	defer cancel()
	err := p.copies.room(wait)
	if err != nil && ctx.Err() == nil {
		w.pause(p, errUncopied)
		return fmt.Errorf("apply batch: %w: %w", kafkalog.ErrPause, err)
	}
	return err
}

var errLanesSilent = errors.New("lanes do not answer, or are being repaired")

// gate lets a transaction begin only if every lane was checked since the assignment and answered a request that was sent
// at most CheckInterval ago: a worker that alone is cut from Redis must not run ahead of nodes that are not.
func (w *Worker) gate(ctx context.Context, p *partition) error {
	if !p.cached() {
		return nil
	}
	if err := w.awaitFlush(ctx, p); err != nil {
		return err
	}
	if !w.cfg.anyUncached() {
		return w.awaitLanes(ctx, p)
	}
	// Datasets without a cache section need no lanes: they must not wait for a writer as long as these are away.
	wait, cancel := context.WithTimeoutCause(ctx, w.patience(p), errLanesSilent)
	defer cancel()
	err := w.awaitLanes(wait, p)
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		w.pause(p, errLanesSilent)
		return fmt.Errorf("apply batch: %w: %w", kafkalog.ErrPause, err)
	}
	return err
}

func (w *Worker) awaitLanes(ctx context.Context, p *partition) error {
	select {
	case <-p.ready:
	default:
		select {
		case <-p.ready:
		case <-p.over:
			return fmt.Errorf("wait for the lanes: %w: the generation has ended", kafkalog.ErrRejoin)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	const what = "redis: lanes must answer before a batch is applied"
	for _, v := range w.lanes {
		if w.age(v) <= w.cfg.CheckInterval {
			continue
		}
		err := retry.Do(ctx, retry.Policy{Notify: w.waiting(what)}, func(ctx context.Context) error {
			_, err := w.state(ctx, v, nil)
			return err
		})
		if err != nil {
			return err
		}
	}
	w.healed(what)
	return w.awaitSection(ctx, p)
}

// awaitSection lets a transaction begin only if every lane was told of the dataset's cache section: the nodes of a former one
// would not hear of what it makes stale under their names. The transaction then holds the database to it.
func (w *Worker) awaitSection(ctx context.Context, p *partition) error {
	if p.dataset == nil {
		return nil
	}
	const what = "redis: lanes must know the cache section before a batch is applied"
	for _, v := range w.lanes {
		if v.carries(p.dataset) {
			continue
		}
		err := retry.Do(ctx, retry.Policy{Notify: w.waiting(what)}, func(ctx context.Context) error {
			if err := w.adoptLane(ctx, v); err != nil {
				return err
			}
			if _, err := w.state(ctx, v, nil); err != nil || v.carries(p.dataset) {
				return err
			}
			known, err := w.cfg.Hashes.Hashes(ctx)
			if err != nil {
				return err
			}
			if problem := replica.CheckSection(p.dataset, known[p.dataset.Name]); problem != nil {
				w.pause(p, problem)
				return retry.Permanent(fmt.Errorf("apply batch: %w: %w", kafkalog.ErrPause, problem))
			}
			return errUntold
		})
		if err != nil {
			return err
		}
	}
	w.healed(what)
	return nil
}

var errUntold = errors.New("a lane changed meanwhile")

// carries says whether the lane, as it last said, has d's cache section.
func (v *laneView) carries(d *schemas.Dataset) bool {
	sections := v.sections.Load()
	return sections != nil && (*sections)[d.Name] == d.CacheHash()
}
