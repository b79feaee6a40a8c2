package kafkalog

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/freshet/freshet/internal/kafkalog/wire"
	"github.com/freshet/freshet/schemas"
)

// describeProducers is a request that the protocol library does not have; brokers have it since Apache Kafka 3.0.
const describeProducers = protocol.ApiKey(61)

// OpenTransaction is a transaction of another program whose end the broker waits for. Readers of committed records do not get
// beyond its first record.
type OpenTransaction struct {
	// ProducerID is the broker's name for the producer, for kafka-transactions.sh.
	ProducerID int64
	// First is the offset of the transaction's first record, LastWrite the broker's time of its newest.
	First     int64
	LastWrite time.Time
}

// OpenTransactions returns the oldest open transaction of each of the topic's partitions that has one. Brokers before 3.0 cannot
// tell: then it returns nothing. Errors: ErrNoTopic.
func (c *Client) OpenTransactions(ctx context.Context, topic string) (map[int32]OpenTransaction, error) {
	cl, err := c.Metadata(ctx, topic)
	var byNode map[int32][]int32
	if err == nil {
		byNode, err = cl.byLeader(topic, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("ask producers of topic %s: %w", topic, err)
	}
	out := map[int32]OpenTransaction{}
	for node, parts := range byNode {
		if err := c.on(ctx, cl.Brokers[node], func(k *Conn) error { return k.openTransactions(ctx, topic, parts, out) }); err != nil {
			return nil, fmt.Errorf("ask producers of topic %s: %w", topic, err)
		}
	}
	return out, nil
}

func (k *Conn) openTransactions(ctx context.Context, topic string, parts []int32, out map[int32]OpenTransaction) error {
	if _, ok := k.versions[int16(describeProducers)]; !ok {
		return nil
	}
	topic = schemas.KafkaTopic(topic)
	// topics compact × { name | partitions compact × i32 | tags } | tags
	b := binary.AppendUvarint(nil, 2)
	b = binary.AppendUvarint(b, uint64(len(topic)+1))
	b = append(b, topic...)
	b = binary.AppendUvarint(b, uint64(len(parts)+1))
	for _, p := range parts {
		b = binary.BigEndian.AppendUint32(b, uint32(p))
	}
	res, err := k.raw(ctx, describeProducers, 0, true, append(b, 0, 0))
	if err != nil {
		return err
	}
	return parseProducers(res, out)
}

// parseProducers reads the reply from its header tags on.
//
//	tags | throttle i32 | topics × { name | partitions × { index i32 | error i16 | message | producers × { id i64 | epoch i32
//	  | last sequence i32 | last time i64 | coordinator epoch i32 | transaction start i64 | tags } | tags } | tags } | tags
func parseProducers(b []byte, out map[int32]OpenTransaction) error {
	w := &wire.Reader{Rest: b}
	w.SkipTags()
	w.I32()
	var failed error
	for nt := w.CompactCount(); nt > 0 && w.Err == nil; nt-- {
		w.CompactText()
		for np := w.CompactCount(); np > 0 && w.Err == nil; np-- {
			id, code := w.I32(), w.I16()
			w.CompactText()
			if code != 0 {
				failed = kafka.Error(code)
			}
			for n := w.CompactCount(); n > 0 && w.Err == nil; n-- {
				t := OpenTransaction{ProducerID: w.I64()}
				w.I32()
				w.I32()
				t.LastWrite = time.UnixMilli(w.I64())
				w.I32()
				t.First = w.I64()
				w.SkipTags()
				if oldest, ok := out[id]; t.First >= 0 && (!ok || t.First < oldest.First) {
					out[id] = t
				}
			}
			w.SkipTags()
		}
		w.SkipTags()
	}
	if w.Err != nil {
		return w.Err
	}
	return failed
}
