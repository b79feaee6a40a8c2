package bench

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"golang.org/x/sync/errgroup"
)

// measureHand measures a consumer that is written by hand: it polls, keeps the newest state of each record, writes guarded
// upserts of a batch in a transaction, one partition on one of two connections, and commits. It checks nothing, proves no
// ownership of what it writes, keeps no dead letter and notifies no cache.
func (b *rig) measureHand(ctx context.Context, f ApplyConfig) (*Measure, error) {
	if b.cfg.Kafka.TLS.Enabled || b.cfg.Kafka.SASL.Mechanism != "" {
		return nil, errors.New("the consumer by hand connects without TLS and SASL; name brokers that allow it, or leave it out with --consumers worker,bare")
	}
	meter, err := b.newMeter(ctx)
	if err != nil {
		return nil, err
	}
	assigned := make(chan struct{}, 1)
	client, err := kgo.NewClient(
		kgo.SeedBrokers(b.cfg.Kafka.Brokers...), kgo.ConsumerGroup(b.cfg.Kafka.Group+"-hand"), kgo.ConsumeTopics(b.ds.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.AutoCommitMarks(), kgo.AutoCommitInterval(time.Second),
		kgo.OnPartitionsAssigned(func(context.Context, *kgo.Client, map[string][]int32) {
			select {
			case assigned <- struct{}{}:
			default:
			}
		}),
	)
	if err != nil {
		return nil, fmt.Errorf("make franz-go client: %w", err)
	}
	defer client.Close()
	h := &handConsumer{rig: b, client: client, events: int64(f.Events), done: make(chan struct{})}
	if err := h.open(ctx); err != nil {
		return nil, err
	}
	defer h.close()
	select {
	case <-assigned: // joining the group is not what is measured
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	meter.start()
	err = h.run(ctx)
	return meter.stop(f.Events), err
}

// handConsumer has a goroutine and a connection for the partitions with even and one for those with odd numbers.
type handConsumer struct {
	rig     *rig
	client  *kgo.Client
	writers [plainConns]*plainWriter
	events  int64
	written atomic.Int64
	done    chan struct{}
}

func (h *handConsumer) open(ctx context.Context) (err error) {
	for i := range h.writers {
		if h.writers[i], err = h.rig.newPlainWriter(ctx); err != nil {
			h.close()
			return err
		}
	}
	return nil
}

func (h *handConsumer) close() {
	for _, w := range h.writers {
		if w != nil {
			_ = w.Close() // what it had to do is done
		}
	}
}

// run returns when every event is written and its offset committed.
func (h *handConsumer) run(ctx context.Context) error {
	poll, stop := context.WithCancel(ctx)
	defer stop()
	g, gctx := errgroup.WithContext(ctx)
	var feeds [plainConns]chan []*kgo.Record
	for i := range feeds {
		feeds[i] = make(chan []*kgo.Record, 1)
		g.Go(func() error {
			for records := range feeds[i] {
				if err := h.take(gctx, h.writers[i], records); err != nil {
					stop()
					return err
				}
			}
			return nil
		})
	}
	g.Go(func() error {
		select {
		case <-h.done:
		case <-gctx.Done():
		}
		stop()
		return nil
	})
	for poll.Err() == nil {
		fetches := h.client.PollRecords(poll, h.rig.batch())
		if err := fetches.Err(); err != nil && poll.Err() == nil {
			stop()
			g.Go(func() error { return fmt.Errorf("poll: %w", err) })
		}
		fetches.EachPartition(func(p kgo.FetchTopicPartition) {
			if len(p.Records) == 0 {
				return
			}
			select {
			case feeds[p.Partition%plainConns] <- p.Records:
			case <-poll.Done():
			}
		})
	}
	for _, feed := range feeds {
		close(feed)
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := h.client.CommitMarkedOffsets(ctx); err != nil {
		return fmt.Errorf("commit offsets: %w", err)
	}
	return nil
}

// take writes a batch of one partition.
func (h *handConsumer) take(ctx context.Context, w *plainWriter, records []*kgo.Record) error {
	n := make(newest, len(records))
	for _, r := range records {
		s := state{value: r.Value}
		for _, header := range r.Headers {
			s.read(header.Key, header.Value)
		}
		n.add(r.Key, s)
	}
	rows, err := n.rows()
	if err != nil {
		return err
	}
	if err := w.write(ctx, rows); err != nil {
		return err
	}
	h.client.MarkCommitRecords(records[len(records)-1])
	if h.written.Add(int64(len(records))) >= h.events {
		close(h.done)
	}
	return nil
}
