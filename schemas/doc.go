// Package schemas holds the words that everybody shares: datasets, events, keys, the CloudEvents codec, the check of an
// event against its dataset's JSON Schema, and tokens. It imports nothing else of Freshet.
//
// # Datasets
//
// A dataset is declared in one YAML file beside the JSON Schema of its records' full state. The same files serve
// services, workers and nodes:
//
//	dataset: users
//	schema: users.json
//	key: [id]
//	replica:
//	  table: users
//	  columns: {display_name: name}
//	cache:
//	  key: "user:{id}"
//
// LoadDatasets reads a folder of them and refuses whatever it does not understand, with file, line and fix:
//
//	datasets, err := schemas.LoadDatasets(os.DirFS("datasets"))
//	users, ok := datasets.Get("users")
//
// Every top-level property of the schema becomes a column under its own name; replica.columns renames columns (column:
// property). Dataset.Unbuilt lists what a declaration asks for and this release does not have.
//
// # Events
//
// An Event is the full new state of one record, or its deletion. Dataset.Check is the one check for publishers and
// workers alike, so that what passes at the publisher passes at the worker; it returns the Row that the replica wants.
// Dataset.Encode and Dataset.Decode are the way to a Kafka record and back: CloudEvents 1.0, written in binary mode, read
// in binary and structured mode.
//
//	row, err := users.Check(&event)
//	record, err := users.Encode(&event)
//	events, err := users.Decode(record)
//
// Refusals are FieldErrors: field, problem, fix and Reason, never a value.
//
// A schema's keywords type, required, additionalProperties (as a boolean), minLength, maxLength, pattern, enum, const (of
// texts, booleans and null), minimum, maximum, their exclusive forms, and the formats date-time and date are checked in
// the same pass that parses the data. A schema may use all others of JSON Schema 2020-12; they cost more. Patterns follow
// Go's regular expressions. Formats other than date-time and date are annotations.
//
// # Keys
//
// The key of a record is the plain value of its key property, or, of several, their values percent-encoded ("%", "," and
// control bytes) and joined by commas. FormatKey makes it, ParseKey splits it, CacheKey names the record's cache entry.
//
// # Tokens
//
// A Token lists the offsets that a reader must have seen. A publish returns one; tokens merge, travel as text, and a node
// waits for them.
package schemas
