package producer

import (
	"fmt"
	"strings"

	"github.com/freshet/freshet/internal/kafkalog"
	"github.com/freshet/freshet/internal/kafkalog/delivery"
)

// Errors that callers decide by, all wrapped.
var (
	// ErrNoTopic: the dataset's topic does not exist. It is not created automatically.
	ErrNoTopic = kafkalog.ErrNoTopic
	// ErrOutcomeUnknown: there was no answer, so the event may be in the log or not. Publishing the same event again is
	// safe.
	ErrOutcomeUnknown = delivery.ErrOutcomeUnknown
	// ErrDeliveryTimeout: Kafka did not take the event within DeliveryTimeout. Without ErrOutcomeUnknown beside it, the
	// event is not in the log.
	ErrDeliveryTimeout = delivery.ErrDeliveryTimeout
	// ErrRefused: Kafka refuses the event permanently; the text names the right or setting.
	ErrRefused = delivery.ErrRefused
	// ErrTooLarge: the topic's size limit, or the buffer, is below the event.
	ErrTooLarge = delivery.ErrTooLarge
	// ErrClosed: the producer is closed.
	ErrClosed = kafkalog.ErrClosed
)

// EventError is what went wrong with one event of a Publish.
type EventError struct {
	// Index of the event among the arguments.
	Index int
	// Dataset that the event named.
	Dataset string
	// Err is why; a schemas.FieldError when the event itself is wrong.
	Err error
}

// Error names the event by index and dataset.
func (e *EventError) Error() string {
	return fmt.Sprintf("event %d (dataset %s): %v", e.Index, e.Dataset, e.Err)
}

// Unwrap returns Err.
func (e *EventError) Unwrap() error { return e.Err }

// PublishError is what Publish returns when events failed: each with its index, in order. Events that are not in it are in
// the log, unless Sent is false.
type PublishError struct {
	// Sent is false when an event was refused before anything was sent: then none of the events is in the log.
	Sent bool
	// Events that failed.
	Events []*EventError
}

// maxErrorTexts bounds how many events an error text names.
const maxErrorTexts = 3

// Error names the first events.
func (e *PublishError) Error() string {
	texts := make([]string, 0, maxErrorTexts)
	for _, ev := range e.Events[:min(len(e.Events), maxErrorTexts)] {
		texts = append(texts, ev.Error())
	}
	s := "publish: " + strings.Join(texts, "; ")
	if n := len(e.Events) - len(texts); n > 0 {
		s += fmt.Sprintf("; and %d more", n)
	}
	return s
}

// Unwrap returns the events' errors.
func (e *PublishError) Unwrap() []error {
	out := make([]error, len(e.Events))
	for i, ev := range e.Events {
		out[i] = ev
	}
	return out
}
