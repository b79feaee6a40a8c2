package kafkalog

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
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
func (k *conn) measureLoss(ctx context.Context, p Partition, offset int64) (*Loss, error) {
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

// explain finds out why k's broker does not have offset: ErrTopicChanged, lost records, or neither while leadership has not
// settled. Any other error means that the connection cannot be used any more.
func (c *Client) explain(ctx context.Context, k *conn, p Partition, offset int64) (*Loss, error) {
	loss, err := k.measureLoss(ctx, p, offset)
	if err != nil && !isLeadership(err) {
		return nil, err
	}
	cl, merr := c.metadata(ctx, p.Topic)
	switch {
	case merr != nil || cl.topics[p.Topic].err != nil:
		return nil, nil //nolint:nilerr // the next fetch asks again
	case cl.topics[p.Topic].info.ID != p.TopicID:
		return nil, ErrTopicChanged
	}
	return loss, nil
}

// aboveTries is how often an offset must be above the log's end before that counts as loss: a leader that was just
// elected may not know its log's end yet.
const aboveTries = 3

// overtaken handles a feed whose leader does not have offset. An error means that the connection cannot be used any more.
func (f *fetcher) overtaken(ctx context.Context, k *conn, d *feed, turn int, offset int64) error {
	loss, err := f.client.explain(ctx, k, d.part, offset)
	if err != nil && !errors.Is(err, ErrTopicChanged) {
		return err
	}
	f.mu.Lock()
	if d.turn != turn || d.state != feedActive {
		f.mu.Unlock()
		return nil
	}
	lost := false
	switch {
	case err != nil:
		f.changedTopic = err
		f.wake()
	case loss == nil:
		f.refused(d, time.Now(), kafka.NotLeaderForPartition)
	case loss.Next < loss.First:
		lost = true
	default:
		if d.above++; d.above >= aboveTries {
			lost = true
			break
		}
		d.backOff(time.Now(), kafka.OffsetOutOfRange)
	}
	if lost {
		f.setLost(d, loss)
	}
	f.mu.Unlock()
	if lost {
		f.onLoss(loss)
	}
	return nil
}

// setLost takes a feed out of the round. What was queued before the loss is still good. The mutex is held.
func (f *fetcher) setLost(d *feed, loss *Loss) {
	d.state, d.err = feedLost, &LossError{*loss}
	f.log.Error("records are lost", "topic", d.part.Topic, "partition", d.part.ID,
		"offset", loss.Next, "log_start", loss.First, "log_end", loss.Last)
}

// watchIdle asks for the log's bounds of partitions that were not fetched lately: retention may overtake them silently.
func (f *fetcher) watchIdle(ctx context.Context, cl *cluster) {
	byNode := map[int32]map[string][]int32{}
	f.mu.Lock()
	for _, d := range f.feeds {
		if d.state == feedLost || time.Since(d.fetched) < f.watch || d.node < 0 {
			continue
		}
		if byNode[d.node] == nil {
			byNode[d.node] = map[string][]int32{}
		}
		byNode[d.node][d.part.Topic] = append(byNode[d.node][d.part.Topic], d.part.ID)
	}
	f.mu.Unlock()
	for node, topics := range byNode {
		for topic, parts := range topics {
			f.watchTopic(ctx, cl.brokers[node], topic, parts)
		}
	}
}

func (f *fetcher) watchTopic(ctx context.Context, addr, topic string, parts []int32) {
	k, err := f.client.dial(ctx, addr)
	if err != nil {
		return // the next fetch or watch reports it
	}
	defer func() { _ = k.close() }()
	first, err := k.listOffsets(ctx, topic, parts, readUncommitted, atFirst)
	if err != nil {
		return
	}
	last, err := k.listOffsets(ctx, topic, parts, readCommitted, atEnd)
	if err != nil {
		return
	}
	end, err := k.listOffsets(ctx, topic, parts, readUncommitted, atEnd)
	if err != nil {
		return
	}
	var lost []*Loss
	f.mu.Lock()
	for _, d := range f.feeds {
		start, ok := first[d.part.ID]
		if d.part.Topic != topic || !ok || d.state == feedLost {
			continue
		}
		d.measure(time.Now(), end[d.part.ID], last[d.part.ID], start)
		if start > d.next {
			l := &Loss{Partition: d.part, Next: d.next, First: start, Last: last[d.part.ID]}
			f.setLost(d, l)
			lost = append(lost, l)
		}
	}
	f.mu.Unlock()
	for _, l := range lost {
		f.onLoss(l)
	}
}
