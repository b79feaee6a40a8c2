package cdc

import (
	"errors"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/freshet/freshet/schemas"
)

// Config of a Decoder.
type Config struct {
	// Dataset is what the topic carries; required.
	Dataset *schemas.Dataset
	// Epoch counts how often the topic was recreated; it is part of versions that are positions.
	Epoch int64
	// Partitions is the topic's number of partitions; 0 means 1. With several, positions do not order two keys of one row.
	Partitions int32
}

// Decoder reads the records of one dataset's topic. It is safe for concurrent use.
type Decoder struct {
	ds      *schemas.Dataset
	rules   schemas.CDCRules
	epoch   int64
	columns []column       // by schema order of the replica's columns
	byName  map[string]int // property → place in columns
	version string         // the property that holds the version, "" for the others
	// ordered: positions (or versions) compare across the keys that a row had.
	ordered bool
	// types remembers the last table description that came with a record; they repeat.
	types atomic.Pointer[described]
}

// described is what a record's own description says of its columns: Debezium's schema part, Canal's mysqlType.
type described struct {
	text   string
	name   string                        // Debezium: the schema's
	fields map[string]field              // Debezium
	sql    string                        // Canal: the text of sqlType
	types  map[string]schemas.ColumnType // Canal
	bytes  map[string]bool               // Canal: sqlType reports that the column's text stands for bytes
	// unlabelled: an enum or set that came without its labels.
	unlabelled map[string]bool
}

func (d *described) hasField(column string) bool {
	if d == nil {
		return false
	}
	_, ok := d.fields[column]
	return ok
}

func (d *described) hasType(column string) bool {
	_, ok := d.types[column]
	return ok
}

// column is a property and what is known of its column in the captured database.
type column struct {
	schemas.Property
	// typ is the declared type, or the one that the property suggests; Base is "" when nothing is known.
	typ      schemas.ColumnType
	declared bool
	key      int // place in the dataset's key, -1
}

// New makes a Decoder.
func New(c Config) *Decoder {
	d := &Decoder{ds: c.Dataset, epoch: c.Epoch, byName: map[string]int{}}
	if c.Dataset.CDC != nil {
		d.rules = *c.Dataset.CDC
	}
	byColumn := c.Dataset.Version.Kind == schemas.VersionColumn
	d.ordered = c.Partitions <= 1 || d.rules.PartitionedByTable || byColumn
	for i, c := range d.ds.Replica.Columns {
		col := column{Property: c.Property, key: -1}
		if col.typ, col.declared = d.rules.Columns[c.Property.Name]; !col.declared {
			col.typ = suggested(c.Property)
		}
		if c.Key {
			col.key = i
		}
		if byColumn && c.Name == d.ds.Version.Column {
			d.version = c.Property.Name
		}
		d.byName[c.Property.Name] = i
		d.columns = append(d.columns, col)
	}
	return d
}

// suggested is the column type that a property suggests; unknown where the kind leaves open how the column is written.
func suggested(p schemas.Property) schemas.ColumnType {
	switch p.Kind {
	case schemas.KindInteger:
		return schemas.ColumnType{Base: "bigint", Unsigned: p.Unsigned}
	case schemas.KindNumber:
		return schemas.ColumnType{Base: "double"}
	case schemas.KindDecimal:
		return schemas.ColumnType{Base: "decimal", Precision: p.Precision, Scale: p.Scale}
	case schemas.KindDate:
		return schemas.ColumnType{Base: "date"}
	case schemas.KindBoolean:
		return schemas.ColumnType{Base: "tinyint"}
	case schemas.KindJSON:
		return schemas.ColumnType{Base: "json"}
	case schemas.KindString, schemas.KindDateTime:
	}
	return schemas.ColumnType{}
}

// Row is one event of a record, or what is known of one that is refused.
type Row struct {
	// Event is complete when Err is nil; else it has what could be read, for the dead letter. Data may alias the record.
	Event schemas.Event
	// Index is the row's place in the record. Places of rows that a later one of the same record overtook are left out.
	Index int
	// Err is a FieldError: this row can never be applied.
	Err error
}

// Result is what a record says.
type Result struct {
	// Rows are in the order of the record.
	Rows []Row
	// Ignored is why a record without rows was ignored; NotIgnored for one that has some.
	Ignored Ignored
	// Other is the table of a record that was ignored as OtherTable, as far as it says; schema and database are the capture
	// tool's words.
	Other string
	// Damaged counts texts with U+FFFD: what once stood there was lost before Kafka.
	Damaged int
}

// Ignored is why a record carries no row of the dataset.
type Ignored uint8

// The reasons, in the order of the texts in String.
const (
	NotIgnored   Ignored = iota
	OtherTable           // a row, or DDL, of another table
	Heartbeat            // Debezium's sign of life
	SchemaChange         // DDL
	Transaction          // BEGIN and END of Debezium's transaction topic
	Statement            // the SQL text of a statement, as Canal repeats it
	Message              // an application's message in the log of the database
	Bootstrap            // begin and end of Maxwell's bootstrap
	Tombstone            // a record without a value whose deletion came before it
	Truncate             // the table was emptied or dropped, and truncates are ignored
	ignoredEnd
)

// Causes is the number of values of Ignored.
const Causes = int(ignoredEnd)

// String returns the reason in small letters with underscores.
func (i Ignored) String() string {
	names := [...]string{
		"", "other_table", "heartbeat", "schema_change", "transaction", "statement", "message", "bootstrap", "tombstone", "truncate",
	}
	if int(i) < len(names) {
		return names[i]
	}
	return "unknown"
}

// PauseError reports that a dataset cannot continue behind a record: what the record did cannot be expressed by events, or the
// declaration contradicts what the tool writes. It holds no values.
type PauseError struct {
	// Dataset is the dataset's name, Problem what was found, Fix what to do.
	Dataset, Problem, Fix string
	// Offset is the record's. Version is that of an event at this place, 0 where versions are not positions.
	Offset, Version int64
}

// Error returns "dataset users: problem; fix".
func (e *PauseError) Error() string { return "dataset " + e.Dataset + ": " + e.Problem + "; " + e.Fix }

// PartitionsChanged returns a *PauseError if d's versions are positions and its topic has another number of partitions than
// when it was first read, nil otherwise. Positions of different partitions do not compare: a record whose key moves to
// another partition would lose to its own past.
func PartitionsChanged(d *schemas.Dataset, was, is int32) error {
	if d.Version.Kind != schemas.VersionOffset || was == is {
		return nil
	}
	return &PauseError{
		Dataset: d.Name,
		Problem: "its versions are positions, and topic " + d.Topic + " has " + strconv.Itoa(int(is)) + " partitions instead of " + strconv.Itoa(int(was)),
		Fix:     "let the tool write a new topic from the beginning, and declare that one",
	}
}

// pause stops the dataset at the record. $V in fix stands for its version.
func (r *reading) pause(problem, fix string) error {
	e := &PauseError{Dataset: r.d.ds.Name, Fix: fix, Offset: r.rec.Offset}
	at := "offset " + strconv.FormatInt(e.Offset, 10)
	if r.d.ds.Version.Kind == schemas.VersionOffset {
		if v, err := schemas.PositionVersion(r.d.epoch, r.rec.Offset); err == nil {
			e.Version = v
			at += " (version " + strconv.FormatInt(v, 10) + ")"
		}
	}
	e.Problem = "at " + at + " " + problem
	return e
}

// Decode reads a record. Its only error is a *PauseError; whatever else is wrong is the error of a Row.
func (d *Decoder) Decode(rec schemas.Record) (Result, error) { return d.DecodeTo(&rec, nil) }

// DecodeTo is Decode with memory for one row, which is used if the record has one; it may be nil.
func (d *Decoder) DecodeTo(rec *schemas.Record, room *[1]Row) (Result, error) {
	if rec.Oversize > 0 {
		return d.refuse(rec, &schemas.FieldError{
			Field: "record", Problem: "is above 1,000,000 bytes", Fix: "leave large columns out of the capture", Reason: schemas.ReasonTooLarge,
		}), nil
	}
	switch d.ds.Format {
	case schemas.FormatDebezium:
		return d.captured(rec, func(r *reading) error { return debezium{r}.decode() })
	case schemas.FormatDebeziumFlat:
		return d.captured(rec, func(r *reading) error { return debezium{r}.flat() })
	case schemas.FormatCanal:
		return d.captured(rec, func(r *reading) error { return canal{r}.decode() })
	case schemas.FormatMaxwell:
		return d.captured(rec, func(r *reading) error { return maxwell{r}.decode() })
	case schemas.FormatCloudEvents:
		return d.cloudEvents(rec, room), nil
	}
	return Result{}, errors.New("the decoder does not know the format " + string(d.ds.Format) + " of dataset " + d.ds.Name)
}

// captured reads what a capture tool wrote.
func (d *Decoder) captured(rec *schemas.Record, read func(*reading) error) (Result, error) {
	r := reading{d: d, rec: rec, text: string(rec.Value)}
	err := read(&r)
	if err == nil {
		r.lastWins()
		r.noteTrace()
		return r.res, nil
	}
	if pause := new(PauseError); errors.As(err, &pause) {
		return Result{}, pause
	}
	return d.refuse(rec, err), nil
}

// noteTrace lets the rows carry the trace on that the tool, or what is between, put into the record's headers (W3C Trace Context; Debezium's
// ActivateTracingSpan). Kafka Connect may write header values as JSON strings.
func (r *reading) noteTrace() {
	var parent, state string
	for _, h := range r.rec.Headers {
		switch h.Key {
		case "traceparent":
			parent = strings.Trim(string(h.Value), `"`)
		case "tracestate":
			state = strings.Trim(string(h.Value), `"`)
		}
	}
	if parent == "" {
		return
	}
	for i := range r.res.Rows {
		r.res.Rows[i].Event.TraceParent, r.res.Rows[i].Event.TraceState = parent, state
	}
}

// refuse is the result of a record that cannot be read at all.
func (d *Decoder) refuse(rec *schemas.Record, err error) Result {
	ev := schemas.Event{Dataset: d.ds.Name}
	if d.ds.Format == schemas.FormatCloudEvents {
		ev.Key = string(rec.Key)
	}
	return Result{Rows: []Row{{Event: ev, Err: err}}}
}

// lastWins drops what a later row of the same record overtakes: by position they all have one version.
func (r *reading) lastWins() {
	rows := r.res.Rows
	for i := range rows {
		rows[i].Index = i
	}
	if len(rows) < 2 || r.d.ds.Version.Kind != schemas.VersionOffset {
		return
	}
	last := make(map[string]int, len(rows))
	for i := range rows {
		if rows[i].Err == nil {
			last[rows[i].Event.Key] = i
		}
	}
	kept := rows[:0]
	for i := range rows {
		if rows[i].Err != nil || last[rows[i].Event.Key] == i {
			kept = append(kept, rows[i])
		}
	}
	r.res.Rows = kept
}
