package kafkalog

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/initproducerid"
	"github.com/segmentio/kafka-go/protocol/produce"
	"github.com/segmentio/kafka-go/protocol/rawproduce"

	"github.com/freshet/freshet/internal/kafkalog/recordbatch"
	"github.com/freshet/freshet/internal/kafkalog/wire"
)

const (
	// produceVersion is the newest that the protocol library writes; brokers have it since 2.4.
	produceVersion = 8
	// initProducerIDVersion likewise; since 2.7.
	initProducerIDVersion = 4
	// ackTimeout is how long a broker waits for its followers before it answers 7; well below requestTimeout.
	ackTimeout = 5 * time.Second
	// acksAll: every replica in sync has the batch before the answer.
	acksAll = -1
)

// InitProducerID asks for a producer id on a connection of its own. (The library's call looks for a transaction
// coordinator first, and that makes the broker create the transaction topic.)
func (c *Client) InitProducerID(ctx context.Context) (recordbatch.Producer, error) {
	k, err := c.bootstrap(ctx)
	if err != nil {
		return recordbatch.Producer{}, err
	}
	defer func() { _ = k.Close() }()
	res, err := k.RoundTrip(ctx, initProducerIDVersion, &initproducerid.Request{ProducerID: -1, ProducerEpoch: -1})
	if err != nil {
		return recordbatch.Producer{}, fmt.Errorf("ask for a producer id: %w", err)
	}
	r := res.(*initproducerid.Response)
	if r.ErrorCode == 0 {
		return recordbatch.Producer{ID: r.ProducerID, Epoch: r.ProducerEpoch}, nil
	}
	return recordbatch.Producer{}, fmt.Errorf("ask for a producer id: %w", kafka.Error(r.ErrorCode))
}

// ProduceReply is a broker's answer about one batch.
type ProduceReply struct {
	// Code is Kafka's error code, 0 for none.
	Code int16
	// Base is the offset of the first record, -1 when the broker did not state it.
	Base int64
	// Refused are the indices of refused records.
	Refused []int
	// Throttle is how long the broker asks to wait before the next request.
	Throttle time.Duration
}

// Produce sends one record set on this connection. An error means that the outcome is unknown.
func (k *Conn) Produce(ctx context.Context, topic string, partition int32, set []byte) (ProduceReply, error) {
	res, err := k.RoundTrip(ctx, produceVersion, &rawproduce.Request{
		Acks:    acksAll,
		Timeout: int32(ackTimeout / time.Millisecond),
		Topics: []rawproduce.RequestTopic{{Topic: topic, Partitions: []rawproduce.RequestPartition{{
			Partition: partition,
			RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(set)},
		}}}},
	})
	if err != nil {
		return ProduceReply{}, err
	}
	r := res.(*produce.Response)
	if len(r.Topics) != 1 || r.Topics[0].Topic != topic || len(r.Topics[0].Partitions) != 1 ||
		r.Topics[0].Partitions[0].Partition != partition {
		return ProduceReply{}, fmt.Errorf("read produce reply of broker %s: %w: not about the partition asked for", k.addr, wire.ErrMalformed)
	}
	p := &r.Topics[0].Partitions[0]
	out := ProduceReply{Code: p.ErrorCode, Base: p.BaseOffset, Throttle: time.Duration(r.ThrottleTimeMs) * time.Millisecond}
	for _, e := range p.RecordErrors {
		out.Refused = append(out.Refused, int(e.BatchIndex))
	}
	return out, nil
}
