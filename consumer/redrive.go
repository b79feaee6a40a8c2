package consumer

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/freshet/freshet/consumer/replica"
	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
)

const (
	redriveChunk   = 100 // letters of one transaction
	redriveSamples = 5   // of each outcome
)

// Letters is what a redrive needs of the replica database.
type Letters interface {
	// Letters reads dead letters, ordered by source, offset and index.
	Letters(ctx context.Context, q replica.LetterQuery) ([]replica.StoredLetter, error)
	// Redrive applies letters in one transaction. What that made stale is noted in the outbox and given back.
	Redrive(ctx context.Context, namespace string, letters []replica.StoredLetter) ([]replica.Redriven, []replica.Outgoing, error)
	// Judge says what Redrive would do, as far as the letters and the rows tell.
	Judge(ctx context.Context, letters []replica.StoredLetter) ([]replica.Redriven, error)
	// RemoveOutgoing removes rows of the outbox that were published.
	RemoveOutgoing(ctx context.Context, ids []int64) error
}

// RedriveConfig says how Redrive works. Letters is required; Kafka and Namespace are too unless DryRun is set or no
// dataset has a cache section.
type RedriveConfig struct {
	// Letters is the replica database, which must know the datasets (replica.MySQL.Prepare).
	Letters Letters
	// Kafka takes what the redrive makes stale, in the topic of the namespace's invalidations.
	Kafka *kafkalog.Client
	// Namespace is the workers' lane namespace.
	Namespace string
	// DryRun changes nothing.
	DryRun bool
	// Rate is the greatest number of letters per second; 0 means no limit.
	Rate int
	// OnChunk, if not nil, hears of what was done after each transaction.
	OnChunk func(RedriveReport)
	// Logger; nil discards.
	Logger *slog.Logger
}

// RedriveReport says what a redrive did, or in a dry run would do.
type RedriveReport struct {
	// Counts are the letters by outcome.
	Counts map[replica.Outcome]int
	// Samples are the first few letters of each outcome.
	Samples []replica.Redriven
	// Token waits until nodes have seen what the redrive made stale.
	Token schemas.Token
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
// again is safe.
func Redrive(ctx context.Context, cfg RedriveConfig, q replica.LetterQuery) (report RedriveReport, err error) {
	report.Counts = map[replica.Outcome]int{}
	if cfg.DryRun || cfg.Kafka == nil {
		err = redrive(ctx, cfg, nil, q, &report)
		return report, err
	}
	err = producing(ctx, cfg.Kafka, kafkalog.ProducerConfig{Logger: cfg.Logger}, func(out *kafkalog.Producer) error {
		return redrive(ctx, cfg, out, q, &report)
	})
	return report, err
}

func redrive(ctx context.Context, cfg RedriveConfig, out *kafkalog.Producer, q replica.LetterQuery, report *RedriveReport) error {
	a := announcer{out: out, topic: schemas.InvalidationTopic(cfg.Namespace)}
	chunk := redriveChunk
	if cfg.Rate > 0 {
		chunk = min(chunk, cfg.Rate)
	}
	left := q.Limit
	q.State, q.Content = replica.StateOpen, true
	for {
		if q.Limit = chunk; left > 0 {
			q.Limit = min(chunk, left)
		}
		began := time.Now()
		letters, err := cfg.Letters.Letters(ctx, q)
		if err != nil || len(letters) == 0 {
			return err //nolint:wrapcheck // it names what it did
		}
		if err := redriveSome(ctx, cfg, a, letters, report); err != nil {
			return err
		}
		if cfg.OnChunk != nil {
			cfg.OnChunk(*report)
		}
		if len(letters) < q.Limit || left == len(letters) {
			return nil
		}
		left -= min(left, len(letters))
		last := letters[len(letters)-1].ID()
		q.After = &last
		if cfg.Rate > 0 {
			if err := pauseUntil(ctx, began.Add(time.Duration(len(letters))*time.Second/time.Duration(cfg.Rate))); err != nil {
				return err
			}
		}
	}
}

func redriveSome(ctx context.Context, cfg RedriveConfig, a announcer, letters []replica.StoredLetter, report *RedriveReport) error {
	if cfg.DryRun {
		done, err := cfg.Letters.Judge(ctx, letters)
		report.add(done)
		return err //nolint:wrapcheck // it names what it did
	}
	done, rows, err := cfg.Letters.Redrive(ctx, cfg.Namespace, letters)
	if err != nil {
		return err //nolint:wrapcheck // it names what it did
	}
	report.add(done)
	if len(rows) == 0 || a.out == nil {
		return nil // without Kafka the workers publish the outbox
	}
	tok, err := a.publish(ctx, cfg.Letters, rows)
	report.Token = report.Token.Merge(tok)
	if err != nil {
		return fmt.Errorf("%w (the letters are redriven; what they made stale waits in freshet_invalidation_outbox, from where the next worker publishes it)", err)
	}
	return nil
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
