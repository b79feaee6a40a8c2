// Package draft writes declarations of datasets and their JSON Schemas: from tables of a database, or from the records that a
// capture tool wrote. What it cannot express it reports instead of guessing.
package draft

import (
	"fmt"
	"slices"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// From is how changes of a table come to Kafka.
type From string

// The ways.
const (
	// Outbox: the service writes events into freshet_outbox, and freshet relay publishes them.
	Outbox From = "outbox"
	// Publish: the service publishes with a client package or over HTTP.
	Publish From = "publish"
	// Debezium, DebeziumFlat, Canal and Maxwell capture the database's log. DebeziumFlat is Debezium with the transform
	// ExtractNewRecordState.
	Debezium     From = "debezium"
	DebeziumFlat From = "debezium-flat"
	Canal        From = "canal"
	Maxwell      From = "maxwell"
)

// Captured reports whether a capture tool writes the records.
func (f From) Captured() bool { return f != Outbox && f != Publish }

// Table is a table of the database that changes come from.
type Table struct {
	Database, Name string
	Columns        []Column
	// Key are the columns of its primary key, in order; none if it has none.
	Key []string
	// Zone is the server's time zone as it is set, "" if it is not known.
	Zone string
	// Unwritable is why no dataset can be made of it, and what to do; "" if one can.
	Unwritable string
	// Inferred: the types were inferred from values, so that replicas have the default types.
	Inferred bool
}

// Column is a column of a Table.
type Column struct {
	Name string
	// Type is its type; Base is "" if the type is not known. Text is the type as the server prints it.
	Type     schemas.ColumnType
	Text     string
	Nullable bool
	// ZeroDate: its default is a date that does not exist.
	ZeroDate bool
	// Generated columns are computed from others.
	Generated bool
	// Prefix: the primary key has only its first characters.
	Prefix bool
	// Optional: not every record has it.
	Optional bool
	// Kind is the JSON type of a column whose type is not known: "integer", "number", "boolean", "string" or "object".
	Kind string
}

// Config says how a dataset is to be declared.
type Config struct {
	From From
	// Dataset is its name; "" stands for the table's name in small letters.
	Dataset string
	// Topic is the topic's name, in which {database} and {table} stand for the table's; "" stands for freshet.<dataset>.
	Topic string
	// Known are the properties that an earlier schema of the dataset has. Others are not required, so that events that were
	// written before them stay valid. nil: there is no earlier schema.
	Known []string
	// RewrittenDeletes: flattened records of deletions are rows with __deleted.
	RewrittenDeletes bool
}

// Draft is a declaration with its schema.
type Draft struct {
	// Dataset is its name, Table the table's as DATABASE.TABLE. YAML and JSON are the texts of NAME.yaml and NAME.json.
	Dataset, Topic, Table string
	YAML, JSON            string
	// Notes are what the reader has to know or to do, one sentence each.
	Notes []string
}

// TableError is why there is no draft of a table.
type TableError struct{ Table, Problem string }

// Error returns "table: problem".
func (p *TableError) Error() string { return p.Table + ": " + p.Problem }

// New drafts the dataset of a table. Its error is a *TableError.
func New(t *Table, cfg Config) (*Draft, error) {
	w := writer{table: t, cfg: cfg, outside: map[string]bool{}}
	if err := w.prepare(); err != nil {
		return nil, err
	}
	for {
		d := &Draft{Dataset: w.dataset, Topic: w.topic, Table: w.name(), YAML: w.yaml(), JSON: w.json(), Notes: w.notes}
		fits, err := w.check(d)
		if err != nil {
			return nil, err
		}
		if fits {
			return d, nil
		}
	}
}

// writer makes one draft.
type writer struct {
	table          *Table
	cfg            Config
	dataset, topic string
	properties     []property
	notes          []string
	outside        map[string]bool // texts that do not fit into the row
}

func (w *writer) note(format string, args ...any) {
	w.notes = append(w.notes, fmt.Sprintf(format, args...))
}

// name is the table's name with its database, if that is known.
func (w *writer) name() string {
	if w.table.Database == "" {
		return w.table.Name
	}
	return w.table.Database + "." + w.table.Name
}

func (w *writer) fail(format string, args ...any) error {
	return &TableError{Table: w.name(), Problem: fmt.Sprintf(format, args...)}
}

// prepare chooses the names and describes the columns.
func (w *writer) prepare() error {
	t := w.table
	if t.Unwritable != "" {
		return w.fail("%s", t.Unwritable)
	}
	w.dataset = w.cfg.Dataset
	if w.dataset == "" {
		w.dataset = strings.ToLower(t.Name)
	}
	if !isDatasetName(w.dataset) {
		return w.fail("its name is not a name of a dataset (a small letter, then up to 63 small letters, digits, _ or -); write --tables %s.%s=NAME", t.Database, t.Name)
	}
	w.topic = strings.NewReplacer("{database}", t.Database, "{table}", t.Name).Replace(w.cfg.Topic)
	if w.topic == "" {
		w.topic = "freshet." + w.dataset
	}
	if len(t.Key) == 0 {
		return w.fail("it has no primary key, and a record needs one: add it, or declare the dataset by hand with columns that are unique and never NULL")
	}
	for i := range t.Columns {
		c := &t.Columns[i]
		key := slices.Contains(t.Key, c.Name)
		p, left := describe(c, key, t.Inferred)
		if left == "" {
			left = nameProblem(c.Name)
		}
		switch {
		case left != "" && key:
			return w.fail("column %s of its primary key %s", c.Name, left)
		case left != "":
			w.note("column %s is left out: it %s", c.Name, left)
			continue
		}
		// Debezium and Maxwell write the year 0 as 1900, and Debezium times of zero as 1970, which these types do not keep.
		if b := c.Type.Base; w.cfg.From.Captured() && (b == "year" || b == "timestamp" && w.cfg.From != Canal && w.cfg.From != Maxwell) {
			p.typ = ""
		}
		if p.note != "" {
			w.note("column %s %s", c.Name, p.note)
		}
		w.properties = append(w.properties, p)
	}
	w.noteZone()
	return nil
}

// nameProblem is why a column's name cannot be one of a replica's.
func nameProblem(name string) string {
	switch strings.ToLower(name) {
	case "_version", "_deleted", "_at":
		return "has the name of one of Freshet's own columns; declare its property by hand, and map it to another column in replica.columns"
	}
	if !isIdentifier(name) {
		return "has a name that is not a plain SQL identifier; declare its property by hand, and map it to another column in replica.columns"
	}
	return ""
}

// noteZone: capture tools write TIMESTAMP in the server's zone.
func (w *writer) noteZone() {
	if w.cfg.From != Canal && w.cfg.From != Maxwell {
		return
	}
	utc := w.table.Zone == "+00:00" || strings.EqualFold(w.table.Zone, "UTC")
	for _, c := range w.table.Columns {
		if c.Type.Base == "timestamp" && !utc && w.zone() == "" {
			w.note("column %s is a TIMESTAMP, which is written in the server's time zone: write its offset from UTC as cdc.zone, and let a server whose zone has summer time run in UTC", c.Name)
			return
		}
	}
}

// zone is the offset for cdc.zone, if the server has a fixed one.
func (w *writer) zone() string {
	z := w.table.Zone
	if len(z) == 6 && (z[0] == '+' || z[0] == '-') && z != "+00:00" && (w.cfg.From == Canal || w.cfg.From == Maxwell) {
		return z
	}
	return ""
}

// isDatasetName: [a-z][a-z0-9_-]{0,63}.
func isDatasetName(s string) bool {
	return s != "" && len(s) <= 64 && s[0] >= 'a' && s[0] <= 'z' && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_-") == ""
}

// isIdentifier: [A-Za-z_][A-Za-z0-9_]{0,63}.
func isIdentifier(s string) bool {
	return s != "" && len(s) <= 64 && (s[0] < '0' || s[0] > '9') && strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}
