package bench

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/freshet/freshet/cmd/freshet/internal/connect"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
)

// Bounds of a batch and of the buffer, about those of Freshet's producer.
const (
	batchRecords    = delivery.DefaultMaxBatchRecords
	batchBytes      = delivery.DefaultMaxBatchSize
	bufferedRecords = 60_000
)

// encoded sends by what Freshet's producer sends by.
func (p *publishing) encoded() (*outlet, func(), error) {
	codec, err := recordbatch.ParseCompression(p.cfg.Producer.Compression)
	if err != nil {
		return nil, nil, err
	}
	client, err := connect.Kafka(p.cfg, p.log)
	if err != nil {
		return nil, nil, err
	}
	out, err := delivery.New(client, delivery.Config{Linger: p.linger, Compression: codec, Logger: p.log})
	if err != nil {
		return nil, nil, err
	}
	done := func(_ delivery.Acked, err error) { p.note(err) }
	return &outlet{
		send: func(ctx context.Context, i int) error { return out.Produce(ctx, p.ds.Topic, p.records[i], done) },
		wait: out.Flush,
	}, func() { _ = errors.Join(out.Close(context.Background()), client.Close()) }, nil // everything was acknowledged
}

// franz sends with franz-go: idempotent, and with the partitioner that Kafka's own clients use.
func (p *publishing) franz() (*outlet, func(), error) {
	codec, ok := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(), "lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[compressionOf(p.cfg)]
	if !ok {
		return nil, nil, fmt.Errorf("compression %q is unknown", p.cfg.Producer.Compression)
	}
	client, err := kgo.NewClient(
		kgo.SeedBrokers(p.cfg.Kafka.Brokers...), kgo.DefaultProduceTopic(p.ds.Topic), kgo.RecordPartitioner(kgo.StickyKeyPartitioner(nil)),
		kgo.ProducerLinger(p.linger), kgo.ProducerBatchMaxBytes(batchBytes), kgo.ProducerBatchCompression(codec), kgo.MaxBufferedRecords(bufferedRecords),
	)
	if err != nil {
		return nil, nil, fmt.Errorf("make franz-go client: %w", err)
	}
	headers := make([][]kgo.RecordHeader, len(p.records))
	for i, r := range p.records {
		for _, h := range r.Headers {
			headers[i] = append(headers[i], kgo.RecordHeader{Key: h.Key, Value: h.Value})
		}
	}
	done := func(_ *kgo.Record, err error) { p.note(err) }
	return &outlet{
		send: func(ctx context.Context, i int) error {
			client.Produce(ctx, &kgo.Record{Key: p.records[i].Key, Value: p.records[i].Value, Headers: headers[i]}, done)
			return nil
		},
		wait: client.Flush,
	}, client.Close, nil
}

// writer sends with kafka-go's Writer, which is not idempotent and whose queue has no bound.
func (p *publishing) writer() (*outlet, func(), error) {
	pending := make(chan struct{}, bufferedRecords) // bounds the queue, as the other clients do
	transport := &kafka.Transport{}                 // the default one may answer with what it knew before the topic was made
	w := &kafka.Writer{
		Transport: transport, Addr: kafka.TCP(p.cfg.Kafka.Brokers...), Topic: p.ds.Topic, Balancer: &kafka.Murmur2Balancer{}, BatchSize: batchRecords, BatchBytes: batchBytes,
		BatchTimeout: max(p.linger, time.Millisecond), Async: true, RequiredAcks: kafka.RequireAll,
		Completion: func(sent []kafka.Message, err error) {
			p.note(err)
			for range sent {
				<-pending
			}
		},
	}
	if err := w.Compression.UnmarshalText([]byte(compressionOf(p.cfg))); err != nil {
		return nil, nil, fmt.Errorf("compression %q: %w", p.cfg.Producer.Compression, err)
	}
	headers := make([][]kafka.Header, len(p.records))
	for i, r := range p.records {
		for _, h := range r.Headers {
			headers[i] = append(headers[i], kafka.Header{Key: h.Key, Value: h.Value})
		}
	}
	o := &outlet{
		send: func(ctx context.Context, i int) error {
			select {
			case pending <- struct{}{}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			return w.WriteMessages(ctx, kafka.Message{Key: p.records[i].Key, Value: p.records[i].Value, Headers: headers[i]})
		},
		wait: func(ctx context.Context) error {
			for range cap(pending) { // until every place is free
				select {
				case pending <- struct{}{}:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			for range cap(pending) {
				<-pending
			}
			return nil
		},
	}
	closeWriter := func() {
		_ = w.Close() // everything was acknowledged
		transport.CloseIdleConnections()
	}
	return o, closeWriter, nil
}
