package jobs

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

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/outgoing"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// errReplayUnfit: the job cannot be run by this program.
var errReplayUnfit = errors.New("replay cannot be run")

// run is one run of one job.
type run struct {
	r       *Runner
	job     *jobstore.Job
	log     *slog.Logger
	dataset *schemas.Dataset
	decoder *cdc.Decoder
	pub     *outgoing.Publisher // nil if nothing is to be published
	action  jobstore.Action
	// hurry: live batches wait for this run, so it rests for nothing.
	hurry bool
	// outcome is what is to be known of a replay that is done.
	outcome string

	events, names *rate.Limiter

	mu   sync.Mutex       // guards seen
	seen map[string]int64 // of a dry run; records of different partitions differ already
}

func (x *run) all(ctx context.Context) error {
	d, ok := x.r.cfg.Datasets.Get(x.job.Spec.Dataset)
	if !ok {
		return fmt.Errorf("%w: its dataset is not declared here", errReplayUnfit)
	}
	noted, _, err := x.r.cfg.Replica.Topics.Get(ctx, d.Topic)
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	x.dataset = d
	x.decoder = cdc.New(cdc.Config{Dataset: d, Epoch: noted.Epoch, Partitions: noted.Partitions})
	if x.job.Spec.DryRun {
		x.seen = map[string]int64{}
	}
	work := func(out *delivery.Producer) error {
		if out != nil {
			x.pub = outgoing.NewPublisher(out, x.r.cfg.Replica.Outbox, x.r.cfg.Namespace)
		}
		if x.action == jobstore.ActionRebuild && !x.job.Spec.DryRun {
			return x.leased(ctx, func(ctx context.Context) error { return x.rebuild(ctx, noted) })
		}
		begun := slices.ContainsFunc(x.job.Parts, func(p jobstore.Part) bool { return p.Next > p.From })
		return x.leased(ctx, func(ctx context.Context) error {
			if err := x.readParts(ctx); err != nil || x.action != jobstore.ActionRebuild {
				return err
			}
			return x.foresee(ctx, begun)
		})
	}
	if x.job.Spec.DryRun || d.Cache == nil {
		return work(nil)
	}
	return delivery.WithProducer(ctx, x.r.cfg.Kafka, delivery.Config{Logger: x.r.cfg.Logger}, work)
}

// readParts runs the partitions.
func (x *run) readParts(ctx context.Context) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(replayParallel)
	for i := range x.job.Parts {
		p := x.job.Parts[i]
		if p.Next < p.End {
			g.Go(func() error {
				if x.action == jobstore.ActionRedrive {
					return x.letters(gctx, p)
				}
				return x.part(gctx, p)
			})
		}
	}
	return g.Wait()
}

// part replays one partition from its checkpoint.
func (x *run) part(ctx context.Context, p jobstore.Part) error {
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

func (x *run) newBatch(p *jobstore.Part, from, next int64) *replica.ReplayBatch {
	return &replica.ReplayBatch{
		Job: x.job.ID, Owner: x.r.cfg.Owner, Source: p.Source, Namespace: x.r.cfg.Namespace, From: from, Next: next,
		Action: x.action, DryRun: x.job.Spec.DryRun, Samples: p.Samples,
	}
}

// batch decodes, checks and filters a batch of Kafka.
func (x *run) batch(p jobstore.Part, from int64, b *kafkalog.Batch) (*replica.ReplayBatch, error) {
	spec := &x.job.Spec
	rb := x.newBatch(&p, from, b.Next)
	for i := range b.Records {
		rec := &b.Records[i]
		res, err := x.decoder.Decode(*rec)
		if err != nil && x.action == jobstore.ActionRebuild {
			return nil, fmt.Errorf("%w: it is not known which records offset %d of %s is about: %w", errReplayUnfit, rec.Offset, p.Source, err)
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

// invalid counts an event that is not usable; ev is nil if the record tells none.
func (x *run) invalid(rb *replica.ReplayBatch, rec *schemas.Record, index int, ev *schemas.Event, err error) {
	if x.action == jobstore.ActionRebuild && ev != nil {
		rb.Letters = append(rb.Letters, replica.RefusedEvent(x.dataset, rec, index, ev, err))
	}
	rb.Counts.Events++
	rb.Counts.Invalid++
	rb.Samples = replica.AddSample(slices.Clone(rb.Samples), jobstore.Sample{
		Outcome: replica.SampleInvalid, Offset: rec.Offset, Key: strings.ToValidUTF8(string(rec.Key), "\uFFFD"), Detail: replica.Detail(err),
	})
}

func matches(s *jobstore.Spec, ev *schemas.Event) bool {
	return (len(s.Keys) == 0 || slices.Contains(s.Keys, ev.Key)) && strings.HasPrefix(ev.Key, s.Prefix) &&
		(s.Op == "" || ev.Op.String() == s.Op) && (s.Type == "" || ev.Type == s.Type)
}

// write makes a batch durable, waiting out the infrastructure, and publishes what it made stale. After each transaction
// the run rests as long as that took: live batches come first.
func (x *run) write(ctx context.Context, rb *replica.ReplayBatch, p *jobstore.Part) error {
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
			res, err = x.r.cfg.Replica.Replay(ctx, rb)
			var broken *tables.DatasetError
			if errors.Is(err, jobstore.ErrMoved) || errors.As(err, &broken) {
				return retry.Permanent(err)
			}
			return err
		})
	if err != nil {
		return fmt.Errorf("replay batch: %w", err)
	}
	p.Samples = res.Samples
	if rb.Action == jobstore.ActionRebuild {
		x.r.cfg.Failpoint(PointRebuildBatch)
	}
	if len(res.Outgoing) > 0 && x.pub != nil {
		// What cannot be published now, a worker publishes from the outbox.
		if _, err := x.pub.Publish(ctx, res.Outgoing); err != nil {
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
