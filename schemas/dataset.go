package schemas

// Format is how records of a dataset's topic are written.
type Format string

// The formats.
const (
	FormatCloudEvents  Format = "cloudevents"
	FormatDebezium     Format = "debezium"
	FormatDebeziumFlat Format = "debezium-flat"
	FormatCanal        Format = "canal"
	FormatMaxwell      Format = "maxwell"
)

// VersionRule is where a dataset's versions come from.
type VersionRule struct {
	// Kind is VersionEvent, VersionOffset or VersionColumn.
	Kind VersionKind
	// Column is the column that holds the version; set for VersionColumn only.
	Column string
}

// VersionKind is the kind of a VersionRule.
type VersionKind string

// The kinds of version.
const (
	VersionEvent  VersionKind = "event"
	VersionOffset VersionKind = "offset"
	VersionColumn VersionKind = "column"
)

// Kind is the type of a property as Freshet stores it.
type Kind uint8

// The kinds of property, each with the column type that it becomes.
const (
	// KindString: VARCHAR(MaxLength), or MEDIUMTEXT when MaxLength is 0 or above 1024.
	KindString Kind = iota + 1
	// KindInteger: BIGINT, or BIGINT UNSIGNED when Unsigned.
	KindInteger
	// KindNumber: DOUBLE.
	KindNumber
	// KindDecimal: a string with x-decimal; DECIMAL(Precision,Scale).
	KindDecimal
	// KindDateTime: a string with format date-time; DATETIME(6) in UTC.
	KindDateTime
	// KindDate: a string with format date; DATE.
	KindDate
	// KindBoolean: TINYINT(1).
	KindBoolean
	// KindJSON: an object or array; JSON.
	KindJSON
)

// Property is one top-level property of a dataset's schema.
type Property struct {
	Name string
	Kind Kind
	// MaxLength in characters; 0 when the schema has none.
	MaxLength int
	// Base64: a KindString whose schema says contentEncoding: base64. It may be in a column of bytes.
	Base64 bool
	// Precision and Scale of a KindDecimal.
	Precision, Scale int
	// Unsigned: a KindInteger whose minimum is ≥ 0 and whose maximum is above 2^63−1.
	Unsigned bool
	// Signed: a KindInteger whose minimum is below 0. Without it a negative number need not be meant: some tools write the
	// upper half of BIGINT UNSIGNED that way.
	Signed bool
}

// Column is one column of a replica table and the property that fills it. Freshet's own columns (_version, _deleted,
// _at) are not among a dataset's columns.
type Column struct {
	Name     string
	Property Property
	// Type is the column's own type; a zero one stands for the type that the property's kind has by default.
	Type ColumnType
	// Key: the column is part of the primary key and never NULL. All others are nullable.
	Key bool
}

// Replica is the table that mirrors a dataset.
type Replica struct {
	// Table is a checked SQL identifier.
	Table string
	// Columns holds the key columns first, in the order of the dataset's key, then the others by name.
	Columns []Column
	// KeyColumns is the number of leading key columns.
	KeyColumns int
}

// CacheRules are the cache section of a dataset.
type CacheRules struct {
	// Key is the template of the record's own entry; it uses every key property and nothing else.
	Key string
	// Derived, Tags and External are templates over any string, integer or boolean property. External ones make keys of other
	// applications.
	Derived, Tags, External []string
	// Common is a tag that every entry of the dataset carries, those of lookups too; "": none. Caches add it by themselves.
	Common string
}

// Dataset is one kind of record: a topic, a JSON Schema, a replica table, cache keys and tags. LoadDatasets makes it from
// its YAML declaration; it is immutable and safe for concurrent use afterwards.
type Dataset struct {
	Name string
	// Topic is the Kafka topic. With CDC.Table it is "TOPIC#DATASET", the name of what this dataset reads of a topic that others may
	// read, too; KafkaTopic returns the topic itself.
	Topic  string
	Format Format
	// Key is the list of key properties, in order.
	Key     []string
	Version VersionRule
	// RejectUnknown: properties that the schema does not name are refused (unknown_properties: reject); else they are
	// counted and ignored.
	RejectUnknown bool
	// KeepOnDelete: a deletion leaves the other columns unchanged (on_delete: keep); else they become NULL.
	KeepOnDelete bool
	// ResyncOnDataLoss: on_data_loss: resync; else the partition stops.
	ResyncOnDataLoss bool
	// FlowInStorms: on_storm: flow; else the dataset pauses when its dead letters come in a storm.
	FlowInStorms bool
	// Replica is never nil.
	Replica *Replica
	// Cache is nil when the dataset has no cache section: then it has no lane state at all.
	Cache *CacheRules
	// CDC is nil for CloudEvents, and set for the formats of capture tools.
	CDC *CDCRules
	// File is the declaration's file name, for messages.
	File string

	schema   *Schema
	compiled *compiled // schema, templates and other prepared parts
}

// Row is a checked event in the form that the replica table wants.
type Row struct {
	// Values has one value per Replica.Columns: nil, int64, uint64, float64, string, or []byte for a declared type of bytes. For
	// a delete only the key columns are set. Date-times are text "2006-01-02 15:04:05.999999" in UTC, JSON is its text.
	Values []any
	// UnknownProperties counts properties that the schema does not name and that were ignored.
	UnknownProperties int
}
