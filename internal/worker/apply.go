package worker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/group"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/retry"
)

// Apply makes a batch durable in MySQL and returns what is to be emitted. It waits while MySQL or Redis is away; the worker
// stays a member.
func (h *handler) Apply(ctx context.Context, b *kafkalog.Batch) (group.Emission, error) {
	h.cfg.Failpoint(PointAfterFetch)
	p := h.partition(b.Partition)
	if p == nil {
		return nil, fmt.Errorf("apply batch: %w: partition is not assigned any more", group.ErrRejoin)
	}
	if err := h.copier.awaitCopies(ctx, p); err != nil {
		return nil, err
	}
	pr := h.prepare(p, b)
	stop := cmp.Or(p.unfit, pr.stop)
	if p.unfit == nil && pr.stopAt > 0 {
		// What comes before is applied and emitted first, or it would come over what the operator does now.
		b.Cut(pr.stopAt)
		stop = nil
	}
	if stop != nil {
		h.pauses.refuse(p, stop)
		return nil, fmt.Errorf("apply batch: %w: %w", group.ErrPause, stop)
	}
	if err := h.gate(ctx, p); err != nil {
		return nil, err
	}
	if pr.misplaced, pr.misplacedAt = p.countMisplaced(b); pr.misplaced > 0 {
		if err := h.misplaced.note(ctx, p, pr.misplacedAt); err != nil {
			return nil, err
		}
	}
	batch := &replica.Batch{Source: p.source, Fence: p.fence, From: b.From, Next: b.Next, Changes: pr.changes, Letters: pr.letters}
	started := time.Now()
	res, err := h.applyUntilDone(ctx, p, batch)
	if err != nil {
		return nil, err
	}
	p.reached.Store(b.Next)
	pr.unknown += res.Unknown
	if pr.unknown > 0 {
		p.unnamed.Store(true)
	}
	took := time.Since(started)
	h.counts.applied(pr, res, took)
	h.wrote(p, pr, b, &res, took)
	pr.trace(started, took)
	h.sights.note(p.dataset, pr)
	pr.lost.Add(res.Lost)
	pr.behind = append(pr.behind, res.Behind...)
	if b.From >= p.fresh { // what comes once more is older than its rows as a rule
		h.versions.judged(p, pr)
	}
	h.copier.addCopies(p, b, res.Dead)
	pr.displaced = pr.displaced || len(res.Dead) > 0 || b.From < p.fresh
	pr.applied = h.now()
	if n := len(pr.changes); n > 0 {
		h.cfg.Changed(p.dataset, n, func(i int) string { return pr.changes[i].Event.Key })
	}
	// Emission needs the names only: what was fetched goes now, not after the lanes have answered.
	storm := len(res.Dead)
	res.Dead = nil
	pr.release()
	b.Release()
	h.cfg.Failpoint(PointAfterApply)
	if err := h.pauses.watchStorm(ctx, p.dataset, pr.events, storm); err != nil {
		return nil, err
	}
	return &applied{w: h.Worker, p: p, prepared: pr, from: b.From, next: b.Next}, nil
}

func (h *handler) applyUntilDone(ctx context.Context, p *partition, batch *replica.Batch) (res replica.Result, err error) {
	what := "mysql: apply batch of topic " + p.id.Topic // where MySQL itself is away, the watch notices as well
	var number uint16                                   // of the last error
	since := h.now()
	err = retry.Do(ctx, retry.Policy{Notify: h.faults.hookIn(oneDataset, what)}, func(ctx context.Context) error {
		var err error
		res, err = h.cfg.Apply(ctx, batch)
		var broken *tables.DatasetError
		switch {
		case errors.Is(err, replica.ErrFenced):
			if errors.Is(err, replica.ErrBehind) {
				h.wentBack(p, batch.From)
			}
			return retry.Permanent(fmt.Errorf("apply batch: %w: %w", group.ErrRejoin, err))
		case errors.As(err, &broken):
			h.pauses.refuse(p, broken)
			return retry.Permanent(fmt.Errorf("apply batch: %w: %w", group.ErrPause, err))
		case err == nil || ctx.Err() != nil || p.dataset == nil:
			return err
		}
		if n, _ := mysql.Errno(err); n != number {
			number, since = n, h.now()
		}
		patience := h.pauses.patience(p)
		if mysql.IsLockWait(err) { // Apply itself has waited long enough to tell that from a passing lock
			patience = min(patience, h.cfg.ProbeInterval)
		}
		if h.now()-since >= patience {
			h.pauses.refuse(p, err)
			return retry.Permanent(fmt.Errorf("apply batch: %w: %w", group.ErrPause, err))
		}
		return err
	})
	if errors.Is(err, group.ErrPause) || p.ended() {
		h.faults.drop(what) // the pause tells more, or the next owner
	}
	if err == nil {
		h.faults.end(what)
		h.pauses.accepted(p)
	}
	return res, err
}

var errUncopied = errors.New("dead letters wait for their copies in the dead topic")

// awaitCopies waits until not too many letters of p wait for their copies. A missing dead topic must not keep a writer from
// other datasets.
func (c *copier) awaitCopies(ctx context.Context, p *partition) error {
	wait, cancel := context.WithTimeoutCause(ctx, c.pauses.patience(p), errUncopied)
	defer cancel()
	err := p.copies.room(wait)
	if err != nil && ctx.Err() == nil {
		c.pauses.refuse(p, errUncopied)
		return fmt.Errorf("apply batch: %w: %w", group.ErrPause, err)
	}
	return err
}

var errLanesSilent = errors.New("lanes do not answer, or are being repaired")

// gate lets a transaction begin only if every lane was checked since the assignment and answered a request that was sent
// at most CheckInterval ago: a worker that alone is cut from Redis must not run ahead of nodes that are not.
func (h *handler) gate(ctx context.Context, p *partition) error {
	if !p.cached() {
		return nil
	}
	if err := h.topics.awaitFlush(ctx, p); err != nil {
		return err
	}
	if !h.cfg.anyUncached() {
		return h.awaitLanes(ctx, p)
	}
	// Datasets without a cache section need no lanes: they must not wait for a writer as long as these are away.
	wait, cancel := context.WithTimeoutCause(ctx, h.pauses.patience(p), errLanesSilent)
	defer cancel()
	err := h.awaitLanes(wait, p)
	if err != nil && ctx.Err() == nil && wait.Err() != nil {
		h.pauses.refuse(p, errLanesSilent)
		return fmt.Errorf("apply batch: %w: %w", group.ErrPause, err)
	}
	return err
}

func (h *handler) awaitLanes(ctx context.Context, p *partition) error {
	select {
	case <-p.ready:
	default:
		select {
		case <-p.ready:
		case <-p.over:
			return fmt.Errorf("wait for the lanes: %w: the generation has ended", group.ErrRejoin)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	const what = "redis: lanes must answer before a batch is applied"
	for _, v := range h.lanes.views {
		if h.lanes.age(v) <= h.cfg.CheckInterval {
			continue
		}
		err := retry.Do(ctx, retry.Policy{Notify: h.faults.hook(what)}, func(ctx context.Context) error {
			_, err := h.lanes.state(ctx, v, nil)
			return err
		})
		if err != nil {
			return err
		}
	}
	h.faults.end(what)
	return h.awaitSection(ctx, p)
}

// awaitSection lets a transaction begin only if every lane was notified of the dataset's cache section: the nodes of an earlier one
// would not learn of what it makes stale under their names. The transaction then holds the database to it.
func (h *handler) awaitSection(ctx context.Context, p *partition) error {
	if p.dataset == nil {
		return nil
	}
	const what = "redis: lanes must know the cache section before a batch is applied"
	for _, v := range h.lanes.views {
		if v.carries(p.dataset) {
			continue
		}
		err := retry.Do(ctx, retry.Policy{Notify: h.faults.hook(what)}, func(ctx context.Context) error {
			if err := h.lanes.adoptLane(ctx, v); err != nil {
				return err
			}
			if _, err := h.lanes.state(ctx, v, nil); err != nil || v.carries(p.dataset) {
				return err
			}
			known, err := h.cfg.Replica.Declarations.Hashes(ctx)
			if err != nil {
				return err
			}
			if problem := tables.CheckSection(p.dataset, known[p.dataset.Name]); problem != nil {
				h.pauses.refuse(p, problem)
				return retry.Permanent(fmt.Errorf("apply batch: %w: %w", group.ErrPause, problem))
			}
			return errUntold
		})
		if err != nil {
			return err
		}
	}
	h.faults.end(what)
	return nil
}

var errUntold = errors.New("a lane changed meanwhile")
