package consumer

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/consumer/replica"
)

// leased runs fn, and beside it keeps the lease.
func (x *replayRun) leased(ctx context.Context, fn func(context.Context) error) error {
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

// keepLease keeps the lease and looks at the limits; it ends the run when the job is somebody else's.
func (x *replayRun) keepLease(ctx context.Context, stop context.CancelCauseFunc) {
	t := time.NewTicker(x.r.cfg.LookInterval)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		err := x.r.cfg.Jobs.ExtendJob(ctx, x.job.ID, x.r.cfg.Owner, x.r.cfg.Lease)
		if errors.Is(err, replica.ErrJobMoved) {
			stop(replica.ErrJobMoved)
			return
		}
		if j, err := x.r.cfg.Log.Job(ctx, x.job.ID); err == nil {
			x.limit(&j)
		}
	}
}

// limit takes over the limits that the replay has now.
func (x *replayRun) limit(j *replica.Job) {
	perSecond := j.Rate
	if perSecond <= 0 {
		perSecond = DefaultReplayRate
	}
	x.events.SetLimit(rate.Limit(perSecond))
	if j.InvalidationRate > 0 {
		x.names.SetLimit(rate.Limit(j.InvalidationRate))
		x.names.SetBurst(max(j.InvalidationRate, 1))
	} else {
		x.names.SetLimit(rate.Inf)
	}
}
