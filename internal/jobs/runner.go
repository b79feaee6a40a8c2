// Package jobs runs replays, redrives and rebuilds: work over past events that an operator asks for, kept in MySQL so that
// another process continues it when its owner dies.
package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/schemas"
)

// Defaults of replays.
const (
	// DefaultRate is how many events a second a replay takes unless the operator set another rate.
	DefaultRate = 5000
	// DefaultLookInterval is how often a Runner looks for replays, and at the limits of the one that it runs.
	DefaultLookInterval = time.Second
	// DefaultLease is how long a replay waits for an owner that says nothing.
	DefaultLease = 10 * time.Second

	replayBatch    = 250 // most events of a transaction: live batches wait for its row locks
	replayParallel = 2   // partitions at a time
	// maxSeen bounds what a dry run remembers to count events of one record as they would come.
	maxSeen = 2_000_000
)

// ErrConfig is wrapped by the error of New when its configuration is incomplete or contradicts itself.
var ErrConfig = errors.New("configuration")

// JobLog keeps replays. *jobstore.Jobs is one.
type JobLog interface {
	// Claim takes a replay that no live process runs. Errors: jobstore.ErrNoJob.
	Claim(ctx context.Context, owner string, lease time.Duration) (jobstore.Job, error)
	// Extend keeps the lease. Errors: jobstore.ErrMoved.
	Extend(ctx context.Context, id, owner string, lease time.Duration) error
	// Leave ends the lease early.
	Leave(ctx context.Context, id, owner string) error
	// End ends a replay as its owner. Errors: jobstore.ErrMoved.
	End(ctx context.Context, id, owner string, state jobstore.State, problem string) error
}

// Config of a Runner. Owner, Namespace, Datasets, Kafka and Replica are required.
type Config struct {
	// Owner names this process in the leases; unique.
	Owner string
	// Namespace is the workers' lane namespace.
	Namespace string
	Datasets  *schemas.Datasets
	Kafka     *kafkalog.Client
	// Replica must know the datasets (replica.DB.Prepare), and must not share its connections with the worker: its batches
	// wait while a rebuild is swapped in.
	Replica *replica.DB
	// Jobs keeps replays; nil means Replica.Jobs.
	Jobs JobLog
	// Swapper swaps the tables of a rebuild; nil means Replica.Rebuilds.
	Swapper Swapper
	// Redriven applies redriven dead letters during a rebuild; nil means Replica.
	Redriven Redriven
	// Lanes makes every cached copy stale after a rebuild; *Worker has it. nil: datasets with a cache section cannot be
	// rebuilt.
	Lanes LaneFlusher
	// LookInterval; 0 means DefaultLookInterval.
	LookInterval time.Duration
	// Lease; 0 means DefaultLease. At least three times LookInterval.
	Lease time.Duration
	// Failpoint, if not nil, is called at the named points of a rebuild; fault tests stop the process there. It is nil in
	// production.
	Failpoint func(point string)
	// Logger; nil discards.
	Logger *slog.Logger
}

// LaneFlusher flushes lanes. *Worker has it.
type LaneFlusher interface {
	// FlushLanes gives every lane a new root with hold. It may be called again after an error.
	FlushLanes(ctx context.Context) error
}

// Runner runs replays, one at a time. Several processes may have one: a replay whose owner is dead continues in another,
// from its checkpoint.
type Runner struct {
	cfg Config
	log *slog.Logger
}

// New checks the configuration. Errors wrap ErrConfig.
func New(cfg Config) (*Runner, error) {
	for field, absent := range map[string]bool{
		"Owner": cfg.Owner == "", "Namespace": cfg.Namespace == "", "Datasets": cfg.Datasets == nil, "Kafka": cfg.Kafka == nil,
		"Replica": cfg.Replica == nil,
	} {
		if absent {
			return nil, fmt.Errorf("%w: jobs.Config.%s is missing", ErrConfig, field)
		}
	}
	if cfg.Jobs == nil {
		cfg.Jobs = cfg.Replica.Jobs
	}
	if cfg.Swapper == nil {
		cfg.Swapper = cfg.Replica.Rebuilds
	}
	if cfg.Redriven == nil {
		cfg.Redriven = cfg.Replica
	}
	if cfg.LookInterval == 0 {
		cfg.LookInterval = DefaultLookInterval
	}
	if cfg.Lease == 0 {
		cfg.Lease = DefaultLease
	}
	if cfg.Lease < 3*cfg.LookInterval {
		return nil, fmt.Errorf("%w: jobs.Config.Lease %v is below three times LookInterval %v", ErrConfig, cfg.Lease, cfg.LookInterval)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Failpoint == nil {
		cfg.Failpoint = func(string) {}
	}
	return &Runner{cfg: cfg, log: cfg.Logger.With("component", "replay")}, nil
}

// Run looks for replays and runs them until ctx ends. A replay that runs then is left to the next owner.
func (r *Runner) Run(ctx context.Context) error {
	t := time.NewTicker(r.cfg.LookInterval)
	defer t.Stop()
	for {
		r.sweep(ctx)
		job, err := r.cfg.Jobs.Claim(ctx, r.cfg.Owner, r.cfg.Lease)
		switch {
		case err == nil:
			r.run(ctx, &job)
			continue
		case !errors.Is(err, jobstore.ErrNoJob) && ctx.Err() == nil:
			r.log.Debug("replays cannot be read", "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-t.C:
		}
	}
}

// run works on a job until it ends, moves, or ctx ends.
func (r *Runner) run(ctx context.Context, job *jobstore.Job) {
	log := r.log.With("replay", job.ID, "dataset", job.Spec.Dataset)
	log.Info("replay is taken", "takeovers", job.Takeovers)
	burst := replayBatch
	if job.Spec.Action == jobstore.ActionRedrive {
		burst = redriveChunk
	}
	x := &run{r: r, job: job, log: log, action: job.Spec.Action, events: rate.NewLimiter(0, burst), names: rate.NewLimiter(rate.Inf, 0)}
	x.limit(job)
	err := x.all(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err = x.end(ctx, err); err != nil {
		log.Warn("state of the replay cannot be written; its lease runs out", "error", err)
	}
}

// end writes how a run ended. A replay may be paused or cancelled after its last batch, so the job is left then as well.
func (x *run) end(ctx context.Context, err error) error {
	jobs, id, owner := x.r.cfg.Jobs, x.job.ID, x.r.cfg.Owner
	switch {
	case err == nil:
		if err = jobs.End(ctx, id, owner, jobstore.Done, x.outcome); err == nil {
			x.log.Info("replay is done")
			return nil
		}
	case !errors.Is(err, jobstore.ErrMoved) && lasting(err):
		x.log.Error("replay failed", "error", err)
		if err = jobs.End(ctx, id, owner, jobstore.Failed, err.Error()); err == nil {
			return nil
		}
	}
	if errors.Is(err, jobstore.ErrMoved) {
		x.log.Info("replay was stopped, or continues elsewhere")
	} else {
		x.log.Info("replay is left to the next owner", "error", err)
	}
	return jobs.Leave(ctx, id, owner) //nolint:wrapcheck // it states what it did
}
