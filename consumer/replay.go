package consumer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// Defaults of replays.
const (
	// DefaultReplayRate is how many events a second a replay takes when nobody said otherwise.
	DefaultReplayRate = 5000
	// DefaultLookInterval is how often a Replayer looks for replays, and at the limits of the one that it runs.
	DefaultLookInterval = time.Second
	// DefaultReplayLease is how long a replay waits for an owner that says nothing.
	DefaultReplayLease = 10 * time.Second

	replayBatch    = 250 // most events of a transaction: live batches wait for its row locks
	replayParallel = 2   // partitions at a time
	// maxSeen bounds what a dry run remembers to count events of one record as they would come.
	maxSeen = 2_000_000
)

// JobLog keeps replays. It lives in MySQL; *replica.MySQL has it.
type JobLog interface {
	// ClaimJob takes a replay that nobody alive runs. Errors: replica.ErrNoJob.
	ClaimJob(ctx context.Context, owner string, lease time.Duration) (replica.Job, error)
	// ExtendJob keeps the lease. Errors: replica.ErrJobMoved.
	ExtendJob(ctx context.Context, id, owner string, lease time.Duration) error
	// LeaveJob gives the lease back.
	LeaveJob(ctx context.Context, id, owner string) error
	// EndJob ends a replay as its owner. Errors: replica.ErrJobMoved.
	EndJob(ctx context.Context, id, owner string, state replica.JobState, problem string) error
}

// ReplayLog is where replays write. *replica.MySQL has it.
type ReplayLog interface {
	// Replay makes one batch and its checkpoint durable. Errors: replica.ErrJobMoved, *replica.DatasetError.
	Replay(ctx context.Context, b *replica.ReplayBatch) (replica.ReplayResult, error)
	// Job reads a replay. Errors: replica.ErrNoJob.
	Job(ctx context.Context, id string) (replica.Job, error)
	LetterLog
	RebuildLog
}

// ReplayConfig of a Replayer. Owner, Namespace, Datasets, Kafka, Jobs and Log are required.
type ReplayConfig struct {
	// Owner names this process in the leases; unique.
	Owner string
	// Namespace is the workers' lane namespace.
	Namespace string
	Datasets  *schemas.Datasets
	Kafka     *kafkalog.Client
	Jobs      JobLog
	// Log must not share its writers with the worker: its batches wait while a rebuild is swapped in.
	Log ReplayLog
	// Lanes makes every cached copy stale after a rebuild; *Worker has it. nil: datasets with a cache section cannot be
	// rebuilt.
	Lanes LaneFlusher
	// LookInterval; 0 means DefaultLookInterval.
	LookInterval time.Duration
	// Lease; 0 means DefaultReplayLease. At least three times LookInterval.
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

// Replayer runs replays, one at a time. Several processes may have one: a replay whose owner is dead goes on in another,
// from its checkpoint.
type Replayer struct {
	cfg ReplayConfig
	log *slog.Logger
}

// NewReplayer checks the configuration. Errors wrap ErrConfig.
func NewReplayer(cfg ReplayConfig) (*Replayer, error) {
	for field, absent := range map[string]bool{
		"Owner": cfg.Owner == "", "Namespace": cfg.Namespace == "", "Datasets": cfg.Datasets == nil, "Kafka": cfg.Kafka == nil,
		"Jobs": cfg.Jobs == nil, "Log": cfg.Log == nil,
	} {
		if absent {
			return nil, fmt.Errorf("%w: consumer.ReplayConfig.%s is missing", ErrConfig, field)
		}
	}
	if cfg.LookInterval == 0 {
		cfg.LookInterval = DefaultLookInterval
	}
	if cfg.Lease == 0 {
		cfg.Lease = DefaultReplayLease
	}
	if cfg.Lease < 3*cfg.LookInterval {
		return nil, fmt.Errorf("%w: consumer.ReplayConfig.Lease %v is below three times LookInterval %v", ErrConfig, cfg.Lease, cfg.LookInterval)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.Failpoint == nil {
		cfg.Failpoint = func(string) {}
	}
	return &Replayer{cfg: cfg, log: cfg.Logger.With("component", "replay")}, nil
}

// Run looks for replays and runs them until ctx ends. A replay that runs then is left to whoever comes next.
func (r *Replayer) Run(ctx context.Context) error {
	t := time.NewTicker(r.cfg.LookInterval)
	defer t.Stop()
	for {
		r.sweep(ctx)
		job, err := r.cfg.Jobs.ClaimJob(ctx, r.cfg.Owner, r.cfg.Lease)
		switch {
		case err == nil:
			r.run(ctx, &job)
			continue
		case !errors.Is(err, replica.ErrNoJob) && ctx.Err() == nil:
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
func (r *Replayer) run(ctx context.Context, job *replica.Job) {
	log := r.log.With("replay", job.ID, "dataset", job.Spec.Dataset)
	log.Info("replay is taken", "takeovers", job.Takeovers)
	burst := replayBatch
	if job.Spec.Action == replica.ActionRedrive {
		burst = redriveChunk
	}
	run := &replayRun{r: r, job: job, log: log, action: job.Spec.Action, events: rate.NewLimiter(0, burst), names: rate.NewLimiter(rate.Inf, 0)}
	run.limit(job)
	err := run.all(ctx)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err = run.end(ctx, err); err != nil {
		log.Warn("state of the replay cannot be written; its lease runs out", "error", err)
	}
}

// end writes how a run ended. Whoever pauses or cancels a replay may do so after its last batch, so the job is left then as well.
func (x *replayRun) end(ctx context.Context, err error) error {
	jobs, id, owner := x.r.cfg.Jobs, x.job.ID, x.r.cfg.Owner
	switch {
	case err == nil:
		if err = jobs.EndJob(ctx, id, owner, replica.JobDone, x.outcome); err == nil {
			x.log.Info("replay is done")
			return nil
		}
	case !errors.Is(err, replica.ErrJobMoved) && lasting(err):
		x.log.Error("replay failed", "error", err)
		if err = jobs.EndJob(ctx, id, owner, replica.JobFailed, err.Error()); err == nil {
			return nil
		}
	}
	if errors.Is(err, replica.ErrJobMoved) {
		x.log.Info("replay was stopped, or goes on elsewhere")
	} else {
		x.log.Info("replay is left to whoever comes next", "error", err)
	}
	return jobs.LeaveJob(ctx, id, owner) //nolint:wrapcheck // it names what it did
}

// errReplayUnfit: the job cannot be run by this program.
var errReplayUnfit = errors.New("replay cannot be run")

// replayRun is one run of one job.
type replayRun struct {
	r       *Replayer
	job     *replica.Job
	log     *slog.Logger
	dataset *schemas.Dataset
	decoder *cdc.Decoder
	out     announcer
	action  replica.JobAction
	// hurry: live batches wait for this run, so it rests for nothing.
	hurry bool
	// outcome is what is to be known of a replay that is done.
	outcome string

	events, names *rate.Limiter

	mu   sync.Mutex       // guards seen
	seen map[string]int64 // of a dry run; records are told apart by partition already
}

func (x *replayRun) all(ctx context.Context) error {
	d, ok := x.r.cfg.Datasets.Get(x.job.Spec.Dataset)
	if !ok {
		return fmt.Errorf("%w: its dataset is not declared here", errReplayUnfit)
	}
	noted, _, err := x.r.cfg.Log.Topic(ctx, d.Topic)
	if err != nil {
		return err //nolint:wrapcheck // it names what it did
	}
	x.dataset = d
	x.decoder = cdc.New(cdc.Config{Dataset: d, Epoch: noted.Epoch, Partitions: noted.Partitions})
	if x.job.Spec.DryRun {
		x.seen = map[string]int64{}
	}
	work := func(out *kafkalog.Producer) error {
		x.out = announcer{out: out, topic: schemas.InvalidationTopic(x.r.cfg.Namespace)}
		if x.action == replica.ActionRebuild && !x.job.Spec.DryRun {
			return x.leased(ctx, func(ctx context.Context) error { return x.rebuild(ctx, noted) })
		}
		begun := slices.ContainsFunc(x.job.Parts, func(p replica.JobPart) bool { return p.Next > p.From })
		return x.leased(ctx, func(ctx context.Context) error {
			if err := x.readParts(ctx); err != nil || x.action != replica.ActionRebuild {
				return err
			}
			return x.foresee(ctx, begun)
		})
	}
	if x.job.Spec.DryRun || d.Cache == nil {
		return work(nil)
	}
	return producing(ctx, x.r.cfg.Kafka, kafkalog.ProducerConfig{Logger: x.r.cfg.Logger}, work)
}

// readParts runs the partitions.
func (x *replayRun) readParts(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(replayParallel)
	for i := range x.job.Parts {
		p := x.job.Parts[i]
		if p.Next < p.End {
			g.Go(func() error {
				if x.action == replica.ActionRedrive {
					return x.letters(gctx, p)
				}
				return x.part(gctx, p)
			})
		}
	}
	return g.Wait()
}

// part replays one partition from its checkpoint.
func (x *replayRun) part(ctx context.Context, p replica.JobPart) error {
	topic, id, n, err := schemas.ParseSource(p.Source)
	if err != nil {
		return fmt.Errorf("%w: %w", errReplayUnfit, err)
	}
	reader := kafkalog.NewReader(x.r.cfg.Kafka, kafkalog.Partition{Topic: topic, TopicID: id, ID: n}, p.Next,
		kafkalog.ReaderConfig{Until: p.End, MaxRecords: replayBatch})
	defer reader.Close()
	for at := p.Next; ; {
		b, err := reader.Read(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read %s/%d: %w", topic, n, err)
		}
		rb, err := x.batch(p, at, b)
		if err == nil {
			err = x.write(ctx, rb, &p)
		}
		b.Release()
		if err != nil {
			return err
		}
		at = rb.Next
	}
}

func (x *replayRun) newBatch(p *replica.JobPart, from, next int64) *replica.ReplayBatch {
	return &replica.ReplayBatch{
		Job: x.job.ID, Owner: x.r.cfg.Owner, Source: p.Source, Namespace: x.r.cfg.Namespace, From: from, Next: next,
		Action: x.action, DryRun: x.job.Spec.DryRun, Samples: p.Samples,
	}
}

// batch decodes, checks and filters a batch of Kafka.
func (x *replayRun) batch(p replica.JobPart, from int64, b *kafkalog.Batch) (*replica.ReplayBatch, error) {
	spec := &x.job.Spec
	rb := x.newBatch(&p, from, b.Next)
	for i := range b.Records {
		rec := &b.Records[i]
		res, err := x.decoder.Decode(*rec)
		if err != nil && x.action == replica.ActionRebuild {
			return nil, fmt.Errorf("%w: nobody can tell which records offset %d of %s is about: %w", errReplayUnfit, rec.Offset, p.Source, err)
		}
		if err != nil {
			x.invalid(rb, rec, 0, nil, err)
			continue
		}
		for j := range res.Rows {
			row := &res.Rows[j]
			if !matches(spec, &row.Event) {
				rb.Counts.Events++
				rb.Counts.Skipped++
				continue
			}
			var checked schemas.Row
			if err = row.Err; err == nil {
				checked, err = x.dataset.Check(&row.Event)
			}
			var c *replica.Change
			if err == nil {
				c, err = replica.NewChange(x.dataset, rec, row.Index, &row.Event, checked)
			}
			if err != nil {
				x.invalid(rb, rec, row.Index, &row.Event, err)
				continue
			}
			rb.Counts.Events++
			rb.Events = append(rb.Events, c)
		}
	}
	return rb, nil
}

// invalid counts an event that is no good; ev is nil if the record tells none.
func (x *replayRun) invalid(rb *replica.ReplayBatch, rec *schemas.Record, index int, ev *schemas.Event, err error) {
	if x.action == replica.ActionRebuild && ev != nil {
		rb.Letters = append(rb.Letters, refusedEvent(x.dataset, rec, index, ev, err))
	}
	rb.Counts.Events++
	rb.Counts.Invalid++
	rb.Samples = replica.AddSample(slices.Clone(rb.Samples), replica.JobSample{
		Outcome: replica.SampleInvalid, Offset: rec.Offset, Key: strings.ToValidUTF8(string(rec.Key), "\uFFFD"), Detail: replica.Detail(err),
	})
}

func matches(s *replica.JobSpec, ev *schemas.Event) bool {
	return (len(s.Keys) == 0 || slices.Contains(s.Keys, ev.Key)) && strings.HasPrefix(ev.Key, s.Prefix) &&
		(s.Op == "" || ev.Op.String() == s.Op) && (s.Type == "" || ev.Type == s.Type)
}

// write makes a batch durable, waiting out the infrastructure, and publishes what it made stale. After each transaction
// the run rests as long as that took: live batches come first.
func (x *replayRun) write(ctx context.Context, rb *replica.ReplayBatch, p *replica.JobPart) error {
	if n := len(rb.Events) + len(rb.Redrive); n > 0 && !x.hurry {
		if err := waitFor(ctx, x.events, n); err != nil {
			return err
		}
	}
	if x.seen != nil {
		x.mu.Lock()
		defer x.mu.Unlock()
		if len(x.seen) > maxSeen {
			return fmt.Errorf("%w: a dry run over so many records cannot be counted; narrow it", errReplayUnfit)
		}
		rb.Seen = x.seen
	}
	began := time.Now()
	var res replica.ReplayResult
	err := retry.Do(ctx, retry.Policy{Notify: func(err error, _ time.Duration) { x.log.Warn("replay waits for MySQL", "error", err) }},
		func(ctx context.Context) error {
			var err error
			res, err = x.r.cfg.Log.Replay(ctx, rb)
			var broken *replica.DatasetError
			if errors.Is(err, replica.ErrJobMoved) || errors.As(err, &broken) {
				return retry.Permanent(err)
			}
			return err
		})
	if err != nil {
		return fmt.Errorf("replay batch: %w", err)
	}
	p.Samples = res.Samples
	if rb.Action == replica.ActionRebuild {
		x.r.cfg.Failpoint(PointRebuildBatch)
	}
	if len(res.Outgoing) > 0 && x.out.out != nil {
		// What cannot be published now, a worker publishes from the outbox.
		if _, err := x.out.publish(ctx, x.r.cfg.Log, res.Outgoing); err != nil {
			x.log.Warn("invalidations of a replay are left to the workers", "error", err)
		}
		if err := waitFor(ctx, x.names, int(res.Counts.Invalidated)); err != nil {
			return err
		}
	}
	if x.job.Spec.DryRun || x.hurry {
		return nil
	}
	return pauseUntil(ctx, time.Now().Add(time.Since(began)))
}
