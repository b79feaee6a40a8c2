package kafkalog

import (
	"context"
	"errors"
	"fmt"
)

// ErrTopicChanged is returned, wrapped, when a topic of that name exists but is not the one that was opened: it was recreated.
var ErrTopicChanged = errors.New("topic was recreated")

// LossError is returned when records were lost between the reader and the log.
type LossError struct{ Loss Loss }

// Error states the offset that was wanted and the range that the broker has.
func (e *LossError) Error() string {
	return fmt.Sprintf("records of %s/%d are lost: offset %d is wanted, the log has %d to %d",
		e.Loss.Partition.Topic, e.Loss.Partition.ID, e.Loss.Next, e.Loss.First, e.Loss.Last)
}

// measureLoss asks the leader for its log's bounds when offset was refused or is overtaken. It returns nil if the offset is
// within them after all.
func (k *Conn) measureLoss(ctx context.Context, p Partition, offset int64) (*Loss, error) {
	first, err := k.listOffsets(ctx, p.Topic, []int32{p.ID}, readUncommitted, atFirst)
	if err != nil {
		return nil, err
	}
	last, err := k.listOffsets(ctx, p.Topic, []int32{p.ID}, readUncommitted, atEnd)
	if err != nil {
		return nil, err
	}
	if offset >= first[p.ID] && offset <= last[p.ID] {
		return nil, nil
	}
	return &Loss{Partition: p, Next: offset, First: first[p.ID], Last: last[p.ID]}, nil
}

// Explain finds out why k's broker does not have offset: ErrTopicChanged, lost records, or neither while leadership has not
// settled. Any other error means that the connection cannot be used any more.
func (c *Client) Explain(ctx context.Context, k *Conn, p Partition, offset int64) (*Loss, error) {
	loss, err := k.measureLoss(ctx, p, offset)
	if err != nil && !IsLeadership(err) {
		return nil, err
	}
	cl, merr := c.Metadata(ctx, p.Topic)
	switch {
	case merr != nil || cl.Topics[p.Topic].Err != nil:
		return nil, nil //nolint:nilerr // the next fetch asks again
	case cl.Topics[p.Topic].Info.ID != p.TopicID:
		return nil, ErrTopicChanged
	}
	return loss, nil
}
