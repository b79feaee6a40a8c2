package jobs

import (
	"context"
	"log/slog"
	"math"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/outgoing"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/schemas"
)

const (
	redriveChunk   = 100 // letters of one transaction
	redriveSamples = 5   // of each outcome
)

// RedriveConfig configures Redrive. Replica is required.
type RedriveConfig struct {
	// Replica must know the datasets (replica.DB.Prepare).
	Replica *replica.DB
	// Kafka takes what the redrive makes stale, in the topic of the namespace's invalidations; nil leaves it to the workers.
	Kafka *kafkalog.Client
	// Namespace is the workers' lane namespace.
	Namespace string
	// DryRun changes nothing.
	DryRun bool
	// Logger; nil discards.
	Logger *slog.Logger
}

// RedriveReport reports what a redrive did, or in a dry run would do.
type RedriveReport struct {
	// Counts are the letters by outcome.
	Counts map[replica.Outcome]int
	// Samples are the first few letters of each outcome.
	Samples []replica.Redriven
	// Token waits until nodes have seen what the redrive made stale; zero if a worker publishes some of that later.
	Token schemas.Token
	left  bool // to the workers
}

func (r *RedriveReport) add(done []replica.Redriven) {
	for _, d := range done {
		if r.Counts[d.Outcome]++; r.Counts[d.Outcome] <= redriveSamples {
			r.Samples = append(r.Samples, d)
		}
	}
}

// Redrive applies the events of open dead letters once more, each under the version that its letter keeps: one whose
// record is as new or newer changes nothing. Nothing goes to the datasets' topics. q chooses the letters; its State and
// Content have no meaning here, and Limit 0 means all. After an error the report tells what was done before it; beginning
// again is safe. A replay with the action redrive does the same at a limited rate, and outlives the process that runs it.
func Redrive(ctx context.Context, cfg RedriveConfig, q replica.LetterQuery) (report RedriveReport, err error) {
	report.Counts = map[replica.Outcome]int{}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.DryRun || cfg.Kafka == nil {
		err = redrive(ctx, cfg, nil, q, &report)
	} else {
		err = delivery.WithProducer(ctx, cfg.Kafka, delivery.Config{Logger: cfg.Logger}, func(out *delivery.Producer) error {
			return redrive(ctx, cfg, out, q, &report)
		})
	}
	if report.left {
		report.Token = schemas.Token{}
	}
	return report, err
}

func redrive(ctx context.Context, cfg RedriveConfig, out *delivery.Producer, q replica.LetterQuery, report *RedriveReport) error {
	var pub *outgoing.Publisher // nil: the workers publish
	if out != nil {
		pub = outgoing.NewPublisher(out, cfg.Replica.Outbox, cfg.Namespace)
	}
	left := q.Limit
	q.State, q.Content = replica.StateOpen, true
	for {
		if q.Limit = redriveChunk; left > 0 {
			q.Limit = min(redriveChunk, left)
		}
		letters, err := cfg.Replica.Letters.List(ctx, q)
		if err != nil || len(letters) == 0 {
			return err //nolint:wrapcheck // it states what it did
		}
		if err := redriveSome(ctx, cfg, pub, letters, report); err != nil {
			return err
		}
		if len(letters) < q.Limit || left == len(letters) {
			return nil
		}
		left -= min(left, len(letters))
		last := letters[len(letters)-1].ID()
		q.After = &last
	}
}

func redriveSome(ctx context.Context, cfg RedriveConfig, pub *outgoing.Publisher, letters []replica.StoredLetter, report *RedriveReport) error {
	if cfg.DryRun {
		done, err := cfg.Replica.Judge(ctx, letters)
		report.add(done)
		return err //nolint:wrapcheck // it states what it did
	}
	done, rows, err := cfg.Replica.Redrive(ctx, cfg.Namespace, letters)
	if err != nil {
		return err //nolint:wrapcheck // it states what it did
	}
	report.add(done)
	if len(rows) == 0 {
		return nil
	}
	if pub == nil {
		report.left = true
		return nil
	}
	tok, err := pub.Publish(ctx, rows)
	report.Token = report.Token.Merge(tok)
	if err != nil {
		cfg.Logger.WarnContext(ctx, "invalidations of a redrive are left to the workers", "error", err)
		report.left = true
	}
	return nil
}

// letters redrives those of one source, from its checkpoint.
func (x *run) letters(ctx context.Context, p jobstore.Part) error {
	for p.Next < p.End {
		letters, next, err := x.someLetters(ctx, &p)
		if err != nil {
			return err
		}
		rb := x.newBatch(&p, p.Next, next)
		rb.Redrive = letters
		if err := x.write(ctx, rb, &p); err != nil {
			return err
		}
		p.Next = next
	}
	return nil
}

// someLetters reads the next open letters, and returns the offset behind them. The next owner begins at an offset, so
// all letters of one offset go together.
func (x *run) someLetters(ctx context.Context, p *jobstore.Part) ([]replica.StoredLetter, int64, error) {
	q := replica.RedriveQuery(&x.job.Spec)
	q.Source, q.State, q.Content = p.Source, replica.StateOpen, true
	q.From, q.Until, q.Limit = p.Next, p.End, redriveChunk
	letters, err := x.r.cfg.Replica.Letters.List(ctx, q)
	if err != nil || len(letters) < redriveChunk {
		return letters, p.End, err //nolint:wrapcheck // it states what it did
	}
	last := letters[len(letters)-1].Offset
	if n := slices.IndexFunc(letters, func(l replica.StoredLetter) bool { return l.Offset == last }); n > 0 {
		return letters[:n], last, nil
	}
	q.From, q.Until, q.Limit = last, last+1, math.MaxInt32 // one record has more events than fit
	letters, err = x.r.cfg.Replica.Letters.List(ctx, q)
	return letters, last + 1, err //nolint:wrapcheck // it states what it did
}

func pauseUntil(ctx context.Context, at time.Time) error {
	t := time.NewTimer(time.Until(at))
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
