package jobs

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/internal/replica/jobstore"
)

// leased runs fn, and beside it keeps the lease.
func (x *run) leased(ctx context.Context, fn func(context.Context) error) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	var keeping sync.WaitGroup
	keeping.Go(func() { x.keepLease(ctx, stop) })
	defer keeping.Wait()
	defer stop(nil)
	err := fn(ctx)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		return cause
	}
	return err
}

// keepLease keeps the lease and looks at the limits; it ends the run when the job is another's.
func (x *run) keepLease(ctx context.Context, stop context.CancelCauseFunc) {
	t := time.NewTicker(x.r.cfg.LookInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := x.r.cfg.Jobs.Extend(ctx, x.job.ID, x.r.cfg.Owner, x.r.cfg.Lease)
		if errors.Is(err, jobstore.ErrMoved) {
			stop(jobstore.ErrMoved)
			return
		}
		if j, err := x.r.cfg.Replica.Jobs.Get(ctx, x.job.ID); err == nil {
			x.limit(&j)
		}
	}
}

// limit takes over the limits that the replay has now.
func (x *run) limit(j *jobstore.Job) {
	perSecond := j.Rate
	if perSecond <= 0 {
		perSecond = DefaultRate
	}
	x.events.SetLimit(rate.Limit(perSecond))
	if j.InvalidationRate > 0 {
		x.names.SetBurst(j.InvalidationRate) // before the limit: without one the burst is 0, which lets nothing through
		x.names.SetLimit(rate.Limit(j.InvalidationRate))
	} else {
		x.names.SetLimit(rate.Inf)
	}
}

// waitFor waits for n tokens, one by one: more than the burst may be needed, and a limit that changes meanwhile counts at
// once.
func waitFor(ctx context.Context, l *rate.Limiter, n int) error {
	for range n {
		if err := l.Wait(ctx); err != nil {
			return fmt.Errorf("wait for the rate: %w", err)
		}
	}
	return nil
}
