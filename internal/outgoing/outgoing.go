// Package outgoing publishes the rows of the invalidation outbox: what a writer of replica rows made stale, noted in the
// transaction of those rows.
package outgoing

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"

	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// eventSource is the CloudEvents source of published invalidations.
const eventSource = "//freshet/worker"

// Publisher appends outbox rows to the invalidation topic of a namespace. It is safe for concurrent use.
type Publisher struct {
	out   *delivery.Producer
	box   *replica.Outbox
	topic string
}

// NewPublisher returns a Publisher for a namespace.
func NewPublisher(out *delivery.Producer, box *replica.Outbox, namespace string) *Publisher {
	return &Publisher{out: out, box: box, topic: schemas.InvalidationTopic(namespace)}
}

// Publish appends rows to the topic and removes them from the outbox once Kafka has all of them. Rows that list no names
// are only removed. After an error the rows may be published again: an invalidation that comes twice does no harm.
func (p *Publisher) Publish(ctx context.Context, rows []replica.Outgoing) (schemas.Token, error) {
	var recs []schemas.Record
	ids := make([]int64, 0, len(rows))
	for _, o := range rows {
		ids = append(ids, o.ID)
		if o.Invalidation.Len() == 0 {
			continue
		}
		id, err := uuid.NewV7()
		if err != nil {
			return schemas.Token{}, fmt.Errorf("make event id: %w", err)
		}
		rec, err := o.Invalidation.Encode(id.String(), eventSource)
		if err != nil {
			return schemas.Token{}, fmt.Errorf("encode invalidation: %w", err)
		}
		recs = append(recs, rec)
	}
	tok, errs := p.out.ProduceAll(ctx, p.topic, recs)
	if err := errors.Join(errs...); err != nil {
		return tok, fmt.Errorf("publish invalidations: %w", err)
	}
	if err := p.box.Remove(ctx, ids); err != nil {
		return tok, fmt.Errorf("remove published invalidations: %w", err)
	}
	return tok, nil
}
