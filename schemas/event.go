package schemas

import "time"

// Op is what happened to a record.
type Op uint8

const (
	// Upsert carries the full new state of a record, which exists from now on.
	Upsert Op = iota + 1
	// Delete reports that the record is gone.
	Delete
)

// String returns "upsert" or "delete".
func (o Op) String() string {
	switch o {
	case Upsert:
		return "upsert"
	case Delete:
		return "delete"
	}
	return "unknown"
}

// Bounds of a version. Lua and JSON numbers are doubles, so nothing above 2^53−2 can be compared exactly; 2^53−1 is the
// floor that no version reaches.
const (
	MinVersion int64 = 1
	MaxVersion int64 = 1<<53 - 2
)

// Limits of an event.
const (
	// MaxKeyBytes is the greatest length of Event.Key.
	MaxKeyBytes = 512
	// MaxRecordBytes bounds key, value and headers of a Kafka record together: Kafka's default limit less its overhead.
	MaxRecordBytes = 1_000_000
)

// Event is the full new state of one record, or its deletion.
type Event struct {
	// ID identifies the event; a UUIDv7. Empty: the producer makes one.
	ID string
	// Source names who wrote it, as a URI reference ("//shop/db"). Empty: the producer's own.
	Source string
	// Type is the CloudEvents type. Empty: io.freshet.row.upsert.v1 or io.freshet.row.delete.v1.
	Type string
	// Dataset is the name of the dataset that the record belongs to; required.
	Dataset string
	// Key is the record's key in its canonical form (Dataset.FormatKey); required, at most MaxKeyBytes of UTF-8.
	Key string
	// Op is Upsert or Delete; required.
	Op Op
	// Version grows with each committed change of the record: MinVersion … MaxVersion.
	Version int64
	// Time is when the change was committed. Zero: unknown.
	Time time.Time
	// DataSchema is the URI of the schema that Data follows; optional.
	DataSchema string
	// Data is the record's full state as a JSON object. An upsert needs it; a delete may carry the key properties.
	Data []byte
	// Replaces is the id of the event that this one replaces, because that one could not be applied; optional.
	Replaces string
	// TraceParent and TraceState carry a W3C trace context; optional.
	TraceParent, TraceState string
}

// Header is one header of a Kafka record. Value is nil for a header without one.
type Header struct {
	Key   string
	Value []byte
}

// MaxTime is the greatest time of a record in Unix ms: the last one of the year 9999. JSON and RFC 3339 cannot write a
// later one.
const MaxTime int64 = 253_402_300_799_999

// ClampTime returns the time of a record, in Unix ms, within the bounds of Record.Time. A producer may write any number
// there; -1 is Kafka's "no time".
func ClampTime(ms int64) int64 { return min(max(ms, 0), MaxTime) }

// Record is a Kafka record as the codec sees it. Key, Value and the header values may be slices of a shared buffer: copy
// what must outlive its owner.
type Record struct {
	// Key is the record's key; nil when it has none.
	Key []byte
	// Value is nil for a tombstone, which is not the same as empty.
	Value   []byte
	Headers []Header
	// Time is the broker's time of the record in Unix ms, from 0 to MaxTime; 0 is unknown.
	Time int64
	// Offset is the record's place in its partition; 0 for a record that was not read from Kafka.
	Offset int64
	// Oversize is the number of bytes of a record that was above the limit: its Key, Value and Headers were skipped and
	// are nil. 0 for all others.
	Oversize int
}
