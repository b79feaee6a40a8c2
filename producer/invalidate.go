package producer

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/schemas"
)

// Invalidate makes cache entries and everything with one of the tags stale on all nodes of a namespace, although no
// event changed them. names and tags are as the datasets' templates make them. It returns when every replica in sync has
// what was said; workers emit it from the topic freshet.invalidations.<namespace>, and the token waits for that. Errors
// wrap schemas.ErrInvalid for names that cannot be, else they are those of Publish. Calling it again does no harm.
func (p *Producer) Invalidate(ctx context.Context, namespace string, names, tags []string) (schemas.Token, error) {
	topic := schemas.InvalidationTopic(namespace)
	parts := schemas.Invalidation{Names: names, Tags: tags}.Split()
	recs := make([]checked, 0, len(parts))
	for _, part := range parts {
		rec, err := part.Encode(newID(time.Now()), p.check.source)
		if err != nil {
			return schemas.Token{}, fmt.Errorf("invalidate in namespace %s: %w", namespace, err)
		}
		recs = append(recs, checked{topic: topic, rec: rec})
	}
	g := p.send(ctx, recs)
	tok, err := g.result(func(i int, err error) *EventError {
		return &EventError{Index: i, Err: p.unanswered(ctx, topic, err)}
	})
	var failed *PublishError
	if errors.As(err, &failed) {
		return tok, fmt.Errorf("invalidate in namespace %s: %w", namespace, failed.Events[0].Err)
	}
	return tok, err
}
