package kafkalog

import (
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// ErrDeliveryTimeout comes, wrapped, when a record's delivery deadline passed. Together with ErrOutcomeUnknown it means
// that the record may be in the log; alone, that it is not.
var ErrDeliveryTimeout = errors.New("delivery deadline passed")

// verdict says what a broker's answer to a produce request means, and so what happens to the batch.
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
	// misconfigured: only a person can mend it.
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

// mend says what to do about a misconfigured answer.
func mend(code kafka.Error, topic string) string {
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

// refusal makes the error of a code that only a person, or another record, can mend.
func refusal(code kafka.Error, topic string) error {
	if judge(int16(code)) == misconfigured {
		return fmt.Errorf("%w: %w; %s", ErrRefused, code, mend(code, topic))
	}
	return fmt.Errorf("%w: %w", ErrRefused, code)
}
