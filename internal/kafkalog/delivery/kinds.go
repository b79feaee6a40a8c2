package delivery

import (
	"errors"

	"github.com/freshet/freshet/internal/kafkalog"
)

// failureKind is what went wrong with a record, as far as it is counted.
type failureKind uint8

const (
	kindOther failureKind = iota
	kindUnknownOutcome
	kindTimeout
	kindTooLarge
	kindRefused
	kindNoTopic
	kindClosed
	numKinds
)

// String returns the kind's name in Stats.FailedKinds.
func (k failureKind) String() string {
	return [numKinds]string{"other", "unknown_outcome", "timeout", "too_large", "refused", "no_topic", "closed"}[k]
}

// kindOf classes a record's error. One without an answer is of that kind whatever ended the wait for it: the record may be in the log.
func kindOf(err error) failureKind {
	for _, k := range []struct {
		err  error
		kind failureKind
	}{
		{ErrOutcomeUnknown, kindUnknownOutcome},
		{ErrTooLarge, kindTooLarge},
		{ErrRefused, kindRefused},
		{kafkalog.ErrNoTopic, kindNoTopic},
		{ErrDeliveryTimeout, kindTimeout},
		{kafkalog.ErrClosed, kindClosed},
	} {
		if errors.Is(err, k.err) {
			return k.kind
		}
	}
	return kindOther
}
