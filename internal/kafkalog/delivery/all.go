package delivery

import (
	"context"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/schemas"
)

// produceTimeout bounds one call of ProduceAll.
const produceTimeout = 10 * time.Second

// ProduceAll appends records to a topic and waits for their outcomes, at most ten seconds. It returns one error per record,
// nil for those that Kafka has, and the token of those. What has no outcome by then has an error that wraps
// ErrOutcomeUnknown.
func (p *Producer) ProduceAll(ctx context.Context, topic string, recs []schemas.Record) (schemas.Token, []error) {
	ctx, cancel := context.WithTimeout(ctx, produceTimeout)
	defer cancel()
	type outcome struct {
		i     int
		acked Acked
		err   error
	}
	outcomes := make(chan outcome, len(recs))
	errs := make([]error, len(recs))
	for i, rec := range recs {
		err := p.Produce(ctx, topic, rec, func(a Acked, err error) { outcomes <- outcome{i, a, err} })
		if err != nil {
			outcomes <- outcome{i: i, err: err}
		}
		errs[i] = fmt.Errorf("append to topic %s: %w", topic, ErrOutcomeUnknown)
	}
	var tok schemas.Token
	for range recs {
		select {
		case o := <-outcomes:
			errs[o.i] = o.err
			if o.err == nil {
				tok = tok.Merge(schemas.NewToken(o.acked.Source, o.acked.Offset))
			}
		case <-ctx.Done():
			return tok, errs
		}
	}
	return tok, errs
}

// WithProducer calls fn with a producer that is closed when fn has returned, and returns fn's error.
func WithProducer(ctx context.Context, client *kafkalog.Client, cfg Config, fn func(*Producer) error) error {
	p, err := New(client, cfg)
	if err != nil {
		return fmt.Errorf("make producer: %w", err)
	}
	err = fn(p)
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	_ = p.Close(end) // records without an outcome are appended again when the caller repeats its work
	return err
}
