package kafkalog

import (
	"bytes"
	"context"
	"errors"
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

// initProducerID asks for a producer id on a connection of its own. (The library's call looks for a transaction
// coordinator first, and that makes the broker create the transaction topic.)
func (c *Client) initProducerID(ctx context.Context, topic string) (recordbatch.Producer, error) {
	k, err := c.bootstrap(ctx)
	if err != nil {
		return recordbatch.Producer{}, err
	}
	defer func() { _ = k.close() }()
	res, err := k.roundTrip(ctx, initProducerIDVersion, &initproducerid.Request{ProducerID: -1, ProducerEpoch: -1})
	if err != nil {
		return recordbatch.Producer{}, fmt.Errorf("ask for a producer id: %w", err)
	}
	r := res.(*initproducerid.Response)
	if r.ErrorCode == 0 {
		return recordbatch.Producer{ID: r.ProducerID, Epoch: r.ProducerEpoch}, nil
	}
	code := kafka.Error(r.ErrorCode)
	if judge(r.ErrorCode) == misconfigured {
		return recordbatch.Producer{}, fmt.Errorf("ask for a producer id: %w", refusal(code, topic))
	}
	return recordbatch.Producer{}, fmt.Errorf("ask for a producer id: %w", code)
}

// produceReply is a broker's answer about one batch.
type produceReply struct {
	code     int16
	base     int64
	refused  []int // indices of refused records
	throttle time.Duration
}

// produce sends one record set on this connection. An error means that the outcome is unknown.
func (k *conn) produce(ctx context.Context, topic string, partition int32, set []byte) (produceReply, error) {
	res, err := k.roundTrip(ctx, produceVersion, &rawproduce.Request{
		Acks:    acksAll,
		Timeout: int32(ackTimeout / time.Millisecond),
		Topics: []rawproduce.RequestTopic{{Topic: topic, Partitions: []rawproduce.RequestPartition{{
			Partition: partition,
			RecordSet: protocol.RawRecordSet{Reader: bytes.NewReader(set)},
		}}}},
	})
	if err != nil {
		return produceReply{}, err
	}
	r := res.(*produce.Response)
	if len(r.Topics) != 1 || r.Topics[0].Topic != topic || len(r.Topics[0].Partitions) != 1 ||
		r.Topics[0].Partitions[0].Partition != partition {
		return produceReply{}, fmt.Errorf("read produce reply of broker %s: %w: not about the partition asked for", k.addr, wire.ErrMalformed)
	}
	p := &r.Topics[0].Partitions[0]
	out := produceReply{code: p.ErrorCode, base: p.BaseOffset, throttle: time.Duration(r.ThrottleTimeMs) * time.Millisecond}
	for _, e := range p.RecordErrors {
		out.refused = append(out.refused, int(e.BatchIndex))
	}
	return out, nil
}

// asCode returns the Kafka code in err's chain, or 0.
func asCode(err error) kafka.Error {
	var code kafka.Error
	errors.As(err, &code)
	return code
}

// ErrDeliveryTimeout comes, wrapped, when a record's delivery deadline passed. Together with ErrOutcomeUnknown it means
// that the record may be in the log; alone, that it is not.
var ErrDeliveryTimeout = errors.New("delivery deadline passed")

// verdict reports what a broker's answer to a produce request means, and so what happens to the batch.
type verdict uint8

const (
	// appended: the batch is in the log, or was already; its base offset may be missing.
	appended verdict = iota + 1
	// outcomeUnknown: it may be in the log; the same bytes go again.
	outcomeUnknown
	// notLeader: it is not in the log; the same bytes go again once leadership has settled.
	notLeader
	// throttled: it is not in the log; the same bytes go again when the broker allows it.
	throttled
	// damaged: the bytes did not arrive as they left; the same bytes go again, a few times.
	damaged
	// staleID: our sequence and the broker's do not fit, or another took the producer id over; a new id is needed.
	staleID
	// recordsRefused: single records are refused; the others go again from the same sequence.
	recordsRefused
	// tooLarge: nothing is appended; halves of the batch go from the same sequence.
	tooLarge
	// vague: the broker does not say; the same bytes go again, a few times.
	vague
	// misconfigured: only a person can fix it.
	misconfigured
)

// maxVagueTries bounds the tries of what may never succeed and does not say so.
const maxVagueTries = 5

// judge is the table of produce answers.
func judge(code int16) verdict {
	switch kafka.Error(code) {
	case 0, kafka.DuplicateSequenceNumber:
		return appended
	case kafka.RequestTimedOut, kafka.NetworkException, kafka.NotEnoughReplicasAfterAppend:
		return outcomeUnknown
	case kafka.NotLeaderForPartition, kafka.LeaderNotAvailable, kafka.UnknownTopicOrPartition, kafka.KafkaStorageError,
		kafka.FencedLeaderEpoch, kafka.UnknownLeaderEpoch, kafka.ReplicaNotAvailable, kafka.NotEnoughReplicas,
		kafka.BrokerNotAvailable, kafka.UnknownTopicID, kafka.InconsistentTopicID:
		return notLeader
	case kafka.ThrottlingQuotaExceeded:
		return throttled
	case kafka.InvalidMessage:
		return damaged
	case kafka.OutOfOrderSequenceNumber, kafka.InvalidProducerEpoch, kafka.ProducerFenced, kafka.UnknownProducerId:
		return staleID
	case kafka.InvalidTimestamp, kafka.InvalidRecord:
		return recordsRefused
	case kafka.MessageSizeTooLarge, kafka.RecordListTooLarge:
		return tooLarge
	case kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed, kafka.SASLAuthenticationFailed,
		kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState, kafka.UnsupportedVersion, kafka.InvalidTopic,
		kafka.InvalidRequiredAcks, kafka.InvalidRequest, kafka.UnsupportedForMessageFormat, kafka.PolicyViolation,
		kafka.UnsupportedCompressionType:
		return misconfigured
	}
	return vague
}

// fix reports what to do about a misconfigured answer.
func fix(code kafka.Error, topic string) string {
	switch code {
	case kafka.TopicAuthorizationFailed:
		return fmt.Sprintf("grant WRITE and DESCRIBE on topic %s", topic)
	case kafka.ClusterAuthorizationFailed:
		return "grant WRITE on the topic, or IDEMPOTENT_WRITE on the cluster for brokers before 2.8"
	case kafka.SASLAuthenticationFailed, kafka.UnsupportedSASLMechanism, kafka.IllegalSASLState:
		return "check the SASL mechanism, user and password"
	case kafka.UnsupportedCompressionType:
		return "choose another compression, or set compression.type of the topic to producer"
	case kafka.InvalidTopic:
		return "name the topic otherwise, or do not write to an internal one"
	}
	return "check the broker's settings of the topic"
}

// refusal makes the error of a code that only a person, or another record, can fix.
func refusal(code kafka.Error, topic string) error {
	if judge(int16(code)) == misconfigured {
		return fmt.Errorf("%w: %w; %s", ErrRefused, code, fix(code, topic))
	}
	return fmt.Errorf("%w: %w", ErrRefused, code)
}
