package group

import (
	"context"
	"errors"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/freshet/freshet/internal/kafkalog"
)

// aboveTries is how often an offset must be above the log's end before that counts as loss: a leader that was just
// elected may not know its log's end yet.
const aboveTries = 3

// overtaken handles a feed whose leader does not have offset. An error means that the connection cannot be used any more.
func (f *fetcher) overtaken(ctx context.Context, k *kafkalog.Conn, d *feed, turn int, offset int64) error {
	loss, err := f.client.Explain(ctx, k, d.part, offset)
	if err != nil && !errors.Is(err, kafkalog.ErrTopicChanged) {
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
func (f *fetcher) setLost(d *feed, loss *kafkalog.Loss) {
	d.state, d.err = feedLost, &kafkalog.LossError{Loss: *loss}
	f.log.Error("records are lost", "topic", d.part.Topic, "partition", d.part.ID,
		"offset", loss.Next, "first_offset", loss.First, "last_offset", loss.Last)
}

// watchIdle asks for the log's bounds of partitions that were not fetched lately: retention may overtake them silently.
func (f *fetcher) watchIdle(ctx context.Context, cl *kafkalog.Cluster) {
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
			f.watchTopic(ctx, cl.Brokers[node], topic, parts)
		}
	}
}

func (f *fetcher) watchTopic(ctx context.Context, addr, topic string, parts []int32) {
	k, err := f.client.Dial(ctx, addr)
	if err != nil {
		return // the next fetch or watch reports it
	}
	defer func() { _ = k.Close() }()
	bounds, err := k.Bounds(ctx, topic, parts)
	if err != nil {
		return
	}
	var lost []*kafkalog.Loss
	f.mu.Lock()
	for _, d := range f.feeds {
		b, ok := bounds[d.part.ID]
		if d.part.Topic != topic || !ok || d.state == feedLost {
			continue
		}
		d.measure(time.Now(), b.HighWater, b.LastStable, b.First)
		if b.First > d.next {
			l := &kafkalog.Loss{Partition: d.part, Next: d.next, First: b.First, Last: b.LastStable}
			f.setLost(d, l)
			lost = append(lost, l)
		}
	}
	f.mu.Unlock()
	for _, l := range lost {
		f.onLoss(l)
	}
}
