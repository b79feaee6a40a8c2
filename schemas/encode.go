package schemas

import (
	"strconv"
	"time"
)

// The CloudEvents types that Freshet writes. An event may carry another type; then a record with a value is an upsert and
// one without is a delete.
const (
	TypeUpsert = "io.freshet.row.upsert.v1"
	TypeDelete = "io.freshet.row.delete.v1"
)

const (
	specVersion   = "1.0"
	contentJSON   = "application/json"
	versionDigits = 16
)

// Size is the number of bytes that MaxRecordBytes bounds: key, value and headers.
func (r *Record) Size() int {
	n := len(r.Key) + len(r.Value)
	for i := range r.Headers {
		n += len(r.Headers[i].Key) + len(r.Headers[i].Value)
	}
	return n
}

// Encode writes ev as a CloudEvents 1.0 Kafka record in binary mode. Encode does not check; Check does. It needs an ID and
// a Source, which CloudEvents requires. The record's Value is ev.Data itself.
//
// A delete carries its key properties as data, so that readers need no header to know the record. A delete under another
// type than TypeDelete is a tombstone (no value): nothing else tells it from an upsert.
func (d *Dataset) Encode(ev *Event) (Record, error) { return d.encode(ev, false) }

// EncodeCopy is Encode into memory that the record shares with nothing else, so that the event's data may change.
func (d *Dataset) EncodeCopy(ev *Event) (Record, error) { return d.encode(ev, true) }

func (d *Dataset) encode(ev *Event, own bool) (Record, error) {
	switch {
	case ev.ID == "":
		return Record{}, &FieldError{Field: "id", Problem: "is missing", Fix: "give a UUIDv7", Reason: ReasonMalformed}
	case ev.Source == "":
		return Record{}, &FieldError{Field: "source", Problem: "is missing", Fix: "give a URI reference such as //shop/db", Reason: ReasonMalformed}
	case ev.Version < MinVersion || ev.Version > MaxVersion:
		return Record{}, &FieldError{Field: "version", Problem: "is missing or outside 1 … 2^53-2", Reason: ReasonVersion}
	}
	typ := ev.Type
	rec := Record{Value: ev.Data}
	switch {
	case ev.Op == Upsert && typ == "":
		typ = TypeUpsert
	case ev.Op == Delete && (typ == "" || typ == TypeDelete):
		typ = TypeDelete
		if len(ev.Data) == 0 {
			data, err := d.keyData(ev.Key)
			if err != nil {
				return Record{}, err
			}
			rec.Value = data
		}
	case ev.Op == Delete:
		rec.Value = nil
	}
	if ev.Op == Upsert && rec.Value == nil {
		// A nil value would read back as a delete.
		return Record{}, &FieldError{Field: "data", Problem: "is missing", Fix: "an upsert carries the record's full state", Reason: ReasonMalformed}
	}
	w := newHeaderWriter(d.Name, typ, ev, rec.Value, own)
	if own && rec.Value != nil {
		w.buf = append(w.buf, rec.Value...)
		rec.Value = w.buf[:len(w.buf):len(w.buf)]
	}
	start := len(w.buf)
	w.buf = append(w.buf, ev.Key...)
	rec.Key = w.buf[start:len(w.buf):len(w.buf)]
	w.writeAll(d.Name, typ, ev, rec.Key, rec.Value != nil)
	rec.Headers = w.list
	return rec, nil
}

// headerWriter puts all header values into one buffer.
type headerWriter struct {
	buf  []byte
	list []Header
}

// newHeaderWriter makes room for the greatest texts of these headers, for the key, and for the value if it is copied.
func newHeaderWriter(dataset, typ string, ev *Event, value []byte, own bool) *headerWriter {
	n := len(typ) + len(ev.ID) + len(ev.Source) + len(dataset) + 2*len(ev.Key) + len(ev.DataSchema) + len(ev.Replaces) + 96
	if own {
		n += len(value)
	}
	headers := 7 // that each event has
	for _, some := range [...]bool{!ev.Time.IsZero(), ev.DataSchema != "", ev.Replaces != "", value != nil} {
		if some {
			headers++
		}
	}
	if ev.TraceParent != "" { // and its state, under two names each
		n += 2 * (len(ev.TraceParent) + len(ev.TraceState))
		headers += 4
	}
	return &headerWriter{buf: make([]byte, 0, n), list: make([]Header, 0, headers)}
}

func (w *headerWriter) writeAll(dataset, typ string, ev *Event, key []byte, hasValue bool) {
	w.add("ce_specversion", specVersion)
	w.add("ce_id", ev.ID)
	w.add("ce_source", ev.Source)
	w.add("ce_type", typ)
	w.add("ce_subject", dataset, "/", ev.Key)
	if !ev.Time.IsZero() {
		start := len(w.buf)
		w.buf = ev.Time.UTC().AppendFormat(w.buf, time.RFC3339Nano)
		w.end("ce_time", start)
	}
	if ev.DataSchema != "" {
		w.add("ce_dataschema", ev.DataSchema)
	}
	w.list = append(w.list, Header{"ce_partitionkey", key})
	start := len(w.buf)
	w.buf = appendVersion(w.buf, ev.Version)
	w.end("ce_sequence", start)
	if ev.Replaces != "" {
		w.add("ce_replaces", ev.Replaces)
	}
	if hasValue {
		w.add("content-type", contentJSON)
	}
	// OpenTelemetry looks at the plain names, CloudEvents at its own.
	if ev.TraceParent != "" {
		w.add("ce_traceparent", ev.TraceParent)
		w.add("traceparent", ev.TraceParent)
		if ev.TraceState != "" {
			w.add("ce_tracestate", ev.TraceState)
			w.add("tracestate", ev.TraceState)
		}
	}
}

func (w *headerWriter) add(name string, parts ...string) {
	start := len(w.buf)
	for _, s := range parts {
		w.buf = append(w.buf, s...)
	}
	w.end(name, start)
}

func (w *headerWriter) end(name string, start int) {
	w.list = append(w.list, Header{name, w.buf[start:len(w.buf):len(w.buf)]})
}

// appendVersion writes 16 digits: the sequence extension wants texts that sort like their numbers.
func appendVersion(buf []byte, version int64) []byte {
	var room [20]byte
	digits := strconv.AppendInt(room[:0], version, 10)
	for range versionDigits - len(digits) {
		buf = append(buf, '0')
	}
	return append(buf, digits...)
}

// keyData is the JSON object of the key properties.
func (d *Dataset) keyData(key string) ([]byte, error) {
	var room [4]string
	texts, err := d.keyTexts(key, room[:0])
	if err != nil {
		return nil, err
	}
	buf := make([]byte, 0, len(key)+32*len(texts))
	for i, text := range texts {
		buf = append(buf, "{,"[min(i, 1)])
		buf = appendJSONString(buf, d.Key[i])
		buf = append(buf, ':')
		if d.Replica.Columns[i].Property.Kind == KindString {
			buf = appendJSONString(buf, text)
		} else {
			buf = append(buf, text...)
		}
	}
	return append(buf, '}'), nil
}
