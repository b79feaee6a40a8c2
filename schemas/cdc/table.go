package cdc

import (
	"slices"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// origin is the table that a record says it comes from; what it does not state is "".
type origin struct {
	database, schema, table string
	// qualified ends in database.table or schema.table, as the names of Connect's schemas do; then nothing else is known.
	qualified string
}

// stated reports whether the record identifies its table at all.
func (o *origin) stated() bool { return o.table != "" || o.qualified != "" }

// String is the table's name as far as the record states it.
func (o *origin) String() string {
	switch {
	case o.qualified != "":
		return o.qualified
	case o.schema != "":
		return o.schema + "." + o.table
	}
	return o.database + "." + o.table
}

// belongs reports whether a record of that origin is of the declared table. A record that does not state where it comes
// from is unknown: to ignore it would lose rows silently, and to apply it could write another table's rows.
func (d *Decoder) belongs(o origin) (bool, error) {
	want := d.rules.Table
	switch {
	case want == "":
		return true, nil
	case o.qualified != "":
		return o.qualified == want || strings.HasSuffix(o.qualified, "."+want), nil
	case o.table == "":
		return false, d.noOrigin("names no table, which cdc.table asks for")
	case o.database != "" && o.database+"."+o.table == want, o.schema != "" && o.schema+"."+o.table == want:
		return true, nil
	case o.database == "" && o.schema == "" && strings.HasSuffix(want, "."+o.table):
		return false, d.noOrigin("states its table without the database, which cdc.table asks for")
	}
	return false, nil
}

func (d *Decoder) noOrigin(problem string) error {
	fix := "let the tool write database and table"
	switch d.ds.Format {
	case schemas.FormatDebezium:
		fix = "let the tool write source.db and source.table, or leave cdc.table out if the topic carries one table"
	case schemas.FormatDebeziumFlat:
		fix = "set add.fields=table,db in the transform, or leave cdc.table out if the topic carries one table"
	default:
	}
	return &schemas.FieldError{Field: "record", Problem: problem, Fix: fix, Reason: schemas.ReasonMalformed}
}

// note takes a member or header that Debezium's transforms add to say where a row comes from.
func (o *origin) note(name, text string) {
	switch name {
	case "__table", "__source_table":
		o.table = text
	case "__db", "__source_db":
		o.database = text
	case "__schema", "__source_schema":
		o.schema = text
	}
}

// noteHeaders takes the record's headers; they count where the row itself does not say.
func (o *origin) noteHeaders(headers []schemas.Header) {
	var h origin
	for i := range headers {
		h.note(headers[i].Key, strings.Trim(string(headers[i].Value), `"`))
	}
	if o.table == "" {
		o.table = h.table
	}
	if o.database == "" {
		o.database = h.database
	}
	if o.schema == "" {
		o.schema = h.schema
	}
}

// The members and schema names by which Debezium's record keys and rows tell their table.
const (
	physicalTable = "__dbz__physicalTableIdentifier" // ByLogicalTableRouter
	keySuffix     = ".Key"
	rowSuffix     = ".Value"
)

// keyOrigin is where a record's key reports that it comes from: all that a record without a value has.
func (r debezium) keyOrigin() (o origin, err error) {
	o.noteHeaders(r.rec.Headers)
	text := string(r.rec.Key)
	v, err := schemas.ReadJSON(text)
	if err != nil || v.Kind != schemas.JSONObject {
		return o, nil //nolint:nilerr // recordKey reports a key that cannot be read
	}
	v, schema, err := unwrap(text)
	if err != nil {
		return o, err
	}
	if schema != "" && schema != "null" {
		err = schemas.WalkObject(schema, func(name string, v schemas.JSON) error {
			if name == "name" {
				o.qualified, _ = strings.CutSuffix(v.Text, keySuffix)
			}
			return nil
		})
	}
	if err != nil || v.Kind != schemas.JSONObject {
		return o, err
	}
	return o, schemas.WalkObject(v.Text, func(name string, v schemas.JSON) error {
		if name == physicalTable {
			o.qualified = v.Text
		}
		return nil
	})
}

// sameKey compares the columns of the captured table's key, as a record states them, with the dataset's key. Rows that
// differ in a column which is not declared would overwrite each other; a declared column beyond the key may change
// although the tool did not delete the previous row.
func (d *Decoder) sameKey(columns []string) error {
	same := len(columns) == len(d.ds.Key)
	for _, c := range columns {
		same = same && slices.Contains(d.ds.Key, c)
	}
	if same {
		return nil
	}
	list := strings.Join(columns, ", ")
	return &schemas.FieldError{
		Field: "key", Problem: "declares other columns than the captured table's key (" + list + ")",
		Fix: "write key: [" + list + "], or let the tool key the table by the declared columns", Reason: schemas.ReasonKey,
	}
}
