package schemas

import (
	"mime"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/freshet/freshet/internal/jsontext"
)

// maxSequenceDigits bounds ce_sequence when it is read: padding is optional, and other writers may pad further.
const maxSequenceDigits = 32

// Decode reads the events of one record in CloudEvents format; cdc.Decoder reads every format, and knows the versions of
// datasets whose publishers do not give them (Version is then what the record says, 0 if it says nothing). Data of what it
// returns may alias rec.Value; everything else is copied. Errors are FieldErrors; beside an error Decode returns the events as
// far as they could be read, for the dead letter, never to be applied.
func (d *Dataset) Decode(rec Record) ([]Event, error) {
	events := make([]Event, 1)
	err := d.DecodeInto(&events[0], &rec)
	return events, err
}

// DecodeInto is Decode for the one event that a record in CloudEvents format has, in the caller's memory.
func (d *Dataset) DecodeInto(ev *Event, rec *Record) error {
	*ev = Event{Dataset: d.Name}
	if rec.Oversize > 0 {
		return tooLarge("record")
	}
	if d.Format != FormatCloudEvents {
		return &FieldError{
			Field: "format", Problem: string(d.Format) + " is not CloudEvents", Fix: "read it with package schemas/cdc",
			Reason: ReasonMalformed,
		}
	}
	err := d.decode(ev, rec)
	if err != nil && ev.Key == "" {
		ev.Key = string(rec.Key)
	}
	return err
}

func (d *Dataset) decode(ev *Event, rec *Record) error {
	var a attributes
	if err := a.readHeaders(rec.Headers); err != nil {
		return err
	}
	structured, err := isStructured(a.contentType)
	if err != nil {
		return err
	}
	if !structured {
		return d.readBinary(ev, &a, rec)
	}
	s := attributes{traceParent: a.traceParent, traceState: a.traceState}
	if err := s.readStructured(rec.Value); err != nil {
		return err
	}
	return d.fill(ev, &s, rec.Key, s.data)
}

// readBinary makes the event of attributes that came in headers.
func (d *Dataset) readBinary(ev *Event, a *attributes, rec *Record) error {
	if rec.Value == nil && a.specVersion == "" {
		ev.Op = Delete
		if d.Version.Kind == VersionOffset && rec.Key != nil {
			ev.Key = string(rec.Key)
			return nil
		}
		return &FieldError{
			Field: "ce_sequence", Problem: "is missing from a tombstone", Fix: "write tombstones with the headers of their delete",
			Reason: ReasonVersion,
		}
	}
	if rec.Value != nil && a.contentType != "" && !isJSON(a.contentType) {
		return &FieldError{Field: "content-type", Problem: "is not JSON", Fix: "write the data as application/json", Reason: ReasonMalformed}
	}
	err := d.fill(ev, a, rec.Key, rec.Value)
	if a.specVersion == "" && a.id == "" && a.source == "" && a.typ == "" {
		return unmarked(rec.Value)
	}
	return err
}

// attributes are the attributes of a CloudEvent, as texts.
type attributes struct {
	specVersion, id, source, typ, subject, time, dataSchema string
	partitionKey, sequence, contentType                     string
	traceParent, traceState, replaces                       string
	hasPartitionKey                                         bool
	data                                                    []byte // of a structured record
}

// readHeaders takes the attributes from headers; of several with one name the last one counts. All values share one
// copy, so that a record costs one allocation for all its texts and none of them pins the fetch buffer.
func (a *attributes) readHeaders(headers []Header) error {
	n := 0
	for i := range headers {
		n += len(headers[i].Value)
	}
	var all strings.Builder
	all.Grow(n)
	for i := range headers {
		all.Write(headers[i].Value)
	}
	texts := all.String()
	pos := 0
	for i := range headers {
		text := texts[pos : pos+len(headers[i].Value)]
		pos += len(text)
		field := a.header(headers[i].Key)
		if field == nil {
			continue
		}
		if !utf8.ValidString(text) {
			return &FieldError{Field: strings.ToLower(headers[i].Key), Problem: "is not valid UTF-8", Reason: ReasonMalformed}
		}
		*field = text
		a.hasPartitionKey = a.hasPartitionKey || field == &a.partitionKey
	}
	return nil
}

// header returns the attribute that a header carries, nil if it is not ours. Names are compared without case.
func (a *attributes) header(name string) *string {
	if len(name) > len("ce_partitionkey") {
		return nil
	}
	if field := a.field(name); field != nil || !strings.ContainsFunc(name, func(r rune) bool { return 'A' <= r && r <= 'Z' }) {
		return field
	}
	return a.field(strings.ToLower(name))
}

// field is header for a name in lower case.
func (a *attributes) field(name string) *string {
	switch name {
	case "ce_partitionkey":
		return &a.partitionKey
	case "ce_specversion":
		return &a.specVersion
	case "ce_id":
		return &a.id
	case "ce_source":
		return &a.source
	case "ce_type":
		return &a.typ
	case "ce_subject":
		return &a.subject
	case "ce_time":
		return &a.time
	case "ce_dataschema":
		return &a.dataSchema
	case "ce_sequence":
		return &a.sequence
	case "ce_replaces":
		return &a.replaces
	case "content-type":
		return &a.contentType
	case "traceparent":
		return &a.traceParent
	case "tracestate":
		return &a.traceState
	case "ce_traceparent":
		if a.traceParent == "" {
			return &a.traceParent
		}
	case "ce_tracestate":
		if a.traceState == "" {
			return &a.traceState
		}
	}
	return nil
}

// isStructured reports whether the content type announces a whole CloudEvent as the value.
func isStructured(contentType string) (bool, error) {
	const prefix = "application/cloudevents"
	if contentType == contentJSON || len(contentType) < len(prefix) || !strings.EqualFold(contentType[:len(prefix)], prefix) {
		return false, nil
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	if err == nil && (mediaType == prefix || mediaType == prefix+"+json") {
		return true, nil
	}
	return false, &FieldError{
		Field: "content-type", Problem: "is a form of CloudEvents that Kafka does not carry", Fix: "write application/cloudevents+json",
		Reason: ReasonMalformed,
	}
}

func isJSON(contentType string) bool {
	if contentType == contentJSON || strings.EqualFold(contentType, contentJSON) {
		return true
	}
	mediaType, _, err := mime.ParseMediaType(contentType)
	return err == nil && (mediaType == contentJSON || mediaType == "text/json" || strings.HasSuffix(mediaType, "+json"))
}

// fill makes the event of its attributes, the record's key and the data. It reads as much as it can and reports the
// first problem.
func (d *Dataset) fill(ev *Event, a *attributes, key, data []byte) error {
	ev.ID, ev.Source, ev.Type = a.id, a.source, a.typ
	ev.DataSchema, ev.TraceParent, ev.TraceState = a.dataSchema, a.traceParent, a.traceState
	ev.Replaces, ev.Data = a.replaces, data
	ev.Op = Upsert
	if data == nil || a.typ == TypeDelete {
		ev.Op = Delete
	}
	var problem error
	note := func(field, what, fix string, reason Reason) {
		if problem == nil {
			problem = &FieldError{Field: field, Problem: what, Fix: fix, Reason: reason}
		}
	}
	switch {
	case a.specVersion != specVersion:
		note("ce_specversion", "is missing or not 1.0", "write CloudEvents 1.0", ReasonMalformed)
	case a.id == "":
		note("ce_id", "is missing", "CloudEvents requires it", ReasonMalformed)
	case a.source == "":
		note("ce_source", "is missing", "CloudEvents requires it", ReasonMalformed)
	case a.typ == "":
		note("ce_type", "is missing", "CloudEvents requires it", ReasonMalformed)
	}
	if a.time != "" {
		t, err := time.Parse(time.RFC3339, a.time)
		if err != nil {
			note("ce_time", "is not RFC 3339", "", ReasonMalformed)
		}
		ev.Time = t
	}
	version, ok := readSequence(a.sequence)
	if ev.Version = version; !ok && d.Version.Kind == VersionEvent {
		note("ce_sequence", "is missing or no decimal number", "write the record's version with up to 16 digits", ReasonVersion)
	}
	d.fillKey(ev, a, key, note)
	return problem
}

// fillKey: the record's key chooses the partition, so order needs it to be the event's key.
func (d *Dataset) fillKey(ev *Event, a *attributes, key []byte, note func(field, what, fix string, reason Reason)) {
	if a.hasPartitionKey && string(key) == a.partitionKey {
		ev.Key = a.partitionKey
	} else {
		ev.Key = string(key)
	}
	switch {
	case key == nil:
		note("key", "the record has no key", "key the record by ce_partitionkey", ReasonKey)
	case !utf8.Valid(key):
		note("key", "is not valid UTF-8", "", ReasonKey)
	case a.hasPartitionKey && ev.Key != a.partitionKey:
		note("ce_partitionkey", "is not the record's key", "key the record by ce_partitionkey", ReasonKey)
	}
	// Other types may use the subject for what they like.
	if a.subject != "" && (a.typ == TypeUpsert || a.typ == TypeDelete) {
		dataset, subjectKey, _ := strings.Cut(a.subject, "/")
		if dataset != d.Name {
			note("ce_subject", "names another dataset than the topic's", "one topic has one dataset", ReasonDataset)
		} else if subjectKey != ev.Key {
			note("ce_subject", "names another key than the record's", "write <dataset>/<key>", ReasonKey)
		}
	}
}

// readSequence reads a version: decimal digits, padded or not.
func readSequence(s string) (int64, bool) {
	if s == "" || len(s) > maxSequenceDigits {
		return 0, false
	}
	for i := 0; i < len(s); i++ {
		if !jsontext.IsDigit(s[i]) {
			return 0, false
		}
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0, false
	}
	return n, true
}
