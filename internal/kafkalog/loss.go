package kafkalog

import (
	"context"
	"time"

	"github.com/segmentio/kafka-go"
)

// aboveTries is how often an offset must be above the log's end before that counts as loss: a leader that was just
// elected may not know its log's end yet.
const aboveTries = 3

// outOfRange finds out why offset was refused: the topic was made anew, records are lost, or nothing once leadership has
// settled. An error means that the connection is of no more use.
func (f *fetcher) outOfRange(ctx context.Context, k *conn, d *feed, turn int, offset int64) error {
	loss, err := k.measureLoss(ctx, d.part, offset)
	if err != nil && !isLeadership(err) {
		return err
	}
	cl, merr := f.client.metadata(ctx, d.part.Topic)
	f.mu.Lock()
	if d.turn != turn || d.state != feedActive {
		f.mu.Unlock()
		return nil
	}
	t := topicState{err: merr}
	if merr == nil {
		t = cl.topics[d.part.Topic]
	}
	lost := false
	switch {
	case t.err == nil && t.info.ID != d.part.TopicID:
		f.anew = ErrTopicChanged
		f.wake()
	case t.err != nil || loss == nil:
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
		f.onLoss(d, loss)
	}
	return nil
}

// setLost takes a feed out of the round. What was queued before the loss is still good. The mutex is held.
func (f *fetcher) setLost(d *feed, loss *Loss) {
	d.state, d.err = feedLost, &LossError{*loss}
	f.log.Error("records are lost", "topic", d.part.Topic, "partition", d.part.ID,
		"offset", loss.Next, "log_start", loss.First, "log_end", loss.Last)
}

// watchIdle asks for the log's bounds of partitions that nobody fetched lately: retention may overtake them silently.
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
		return // the next fetch or watch will say so
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
	type loss struct {
		d *feed
		l *Loss
	}
	var lost []loss
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
			lost = append(lost, loss{d, l})
		}
	}
	f.mu.Unlock()
	for _, x := range lost {
		f.onLoss(x.d, x.l)
	}
}
