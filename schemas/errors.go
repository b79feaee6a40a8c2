package schemas

import "errors"

// ErrInvalid comes, wrapped, whenever an event, a record, a key, a token or a dataset declaration is refused for what it
// says. Trying again with the same content returns the same answer.
var ErrInvalid = errors.New("invalid")

// Reason is the typed cause of a refusal; dead letters are grouped by it.
type Reason string

// The reasons.
const (
	// ReasonMalformed: the bytes are no event (bad JSON, missing or bad CloudEvents attributes, no UTF-8).
	ReasonMalformed Reason = "malformed"
	// ReasonSchema: the data breaks the dataset's JSON Schema.
	ReasonSchema Reason = "schema"
	// ReasonKey: the key is missing, too long, not canonical, or contradicts the data or the record key.
	ReasonKey Reason = "key"
	// ReasonPartial: the record lacks a part of the record's state.
	ReasonPartial Reason = "partial"
	// ReasonVersion: the version is missing or outside MinVersion … MaxVersion.
	ReasonVersion Reason = "version"
	// ReasonDataset: the event names a dataset that is not declared, or not the one of its topic.
	ReasonDataset Reason = "dataset"
	// ReasonTooLarge: key, value and headers together exceed MaxRecordBytes.
	ReasonTooLarge Reason = "too_large"
	// ReasonRefused: the replica table refused the row; the letter's errno reports why.
	ReasonRefused Reason = "refused"
)

// Reasons returns every Reason, in a fixed order.
func Reasons() []Reason {
	return []Reason{
		ReasonMalformed, ReasonSchema, ReasonKey, ReasonPartial, ReasonVersion, ReasonDataset, ReasonTooLarge, ReasonRefused,
	}
}

// FieldError names the field that is wrong, what is wrong with it, and how to fix it. It holds neither payload nor key
// values. errors.Is(err, ErrInvalid) holds for it.
type FieldError struct {
	// Field is the attribute, property path or declaration field, such as "version" or "data/email".
	Field string
	// Problem is what is wrong, without the value.
	Problem string
	// Fix is what to do; may be empty.
	Fix string
	// Reason classes the refusal.
	Reason Reason
}

// Error returns "field: problem; fix".
func (e *FieldError) Error() string {
	s := e.Field + ": " + e.Problem
	if e.Fix != "" {
		s += "; " + e.Fix
	}
	return s
}

// Is makes a FieldError an ErrInvalid.
func (e *FieldError) Is(target error) bool { return target == ErrInvalid }

// ReasonOf returns the Reason of the first FieldError in err's chain, or ReasonMalformed.
func ReasonOf(err error) Reason {
	var fe *FieldError
	if errors.As(err, &fe) && fe.Reason != "" {
		return fe.Reason
	}
	return ReasonMalformed
}
