package delivery

import (
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"
)

// Errors that callers decide by, beside kafkalog.ErrNoTopic and kafkalog.ErrClosed.
var (
	// ErrOutcomeUnknown: a produce request was given up on without an answer; the record may be in the log or not.
	// Sending the same event again is safe.
	ErrOutcomeUnknown = errors.New("outcome of the produce request is unknown")
	// ErrTooLarge: the broker refuses a record for its size.
	ErrTooLarge = errors.New("record is too large")
	// ErrRefused: the broker refused a record permanently (authorization, invalid record or timestamp).
	ErrRefused = errors.New("broker refused the record")
	// ErrDeliveryTimeout is returned, wrapped, when a record's delivery deadline passed. Together with ErrOutcomeUnknown it means
	// that the record may be in the log; alone, that it is not.
	ErrDeliveryTimeout = errors.New("delivery deadline passed")
)

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

// explained adds what to do to err if only a person can fix it.
func explained(err error, topic string) error {
	if code := asCode(err); code != 0 && judge(int16(code)) == misconfigured {
		return fmt.Errorf("%w: %w; %s", ErrRefused, err, fix(code, topic))
	}
	return err
}

// asCode returns the Kafka code in err's chain, or 0.
func asCode(err error) kafka.Error {
	var code kafka.Error
	errors.As(err, &code)
	return code
}

// RefusesRecord reports whether err, an outcome of a record, is about that record alone, so that others of its topic may be
// appended.
func RefusesRecord(err error) bool {
	if errors.Is(err, ErrTooLarge) {
		return true
	}
	code := asCode(err)
	return errors.Is(err, ErrRefused) && (code == 0 || judge(int16(code)) == recordsRefused)
}
