package cdc

import (
	"strconv"
	"time"

	"github.com/freshet/freshet/schemas"
)

// reading is one record while it is read.
type reading struct {
	d    *Decoder
	rec  *schemas.Record
	text string // the record's value
	res  Result
	// at is when the change was committed, if the record says so.
	at time.Time
	// convert makes a cell of a value as the format writes it.
	convert func(c *column, v schemas.JSON) (cell, error)
	// bootstrap: Maxwell read the row with a query.
	bootstrap bool
}

// state is a row object of a record, read.
type state struct {
	data       []byte // JSON object of the properties
	keys       []any  // values of the key properties, nil where missing
	key        string // canonical, "" if it could not be made
	version    int64
	hasVersion bool
	seen       []bool // by column: the object has it
	err        error  // the first problem
}

// read reads a row object. A full one is converted as a whole; else only the key and the version are. meta, if not nil,
// takes members that are no columns.
func (r *reading) read(object schemas.JSON, full bool, meta func(name string, v schemas.JSON) bool) state {
	st := state{keys: make([]any, len(r.d.ds.Key)), seen: make([]bool, len(r.d.columns))}
	if object.Kind != schemas.JSONObject {
		st.err = malformed("row", "is not an object")
		return st
	}
	if full {
		st.data = append(make([]byte, 0, len(object.Text)+len(object.Text)/8), '{')
	}
	err := schemas.WalkObject(object.Text, func(name string, v schemas.JSON) error {
		if meta != nil && meta(name, v) {
			return nil
		}
		i, known := r.d.byName[name]
		if !known {
			if full {
				st.data = appendRaw(appendName(st.data, name), v)
			}
			return nil
		}
		st.seen[i] = true
		c := &r.d.columns[i]
		if !full && c.key < 0 && name != r.d.version {
			return nil
		}
		if err := r.member(&st, c, v, full); err != nil && st.err == nil {
			st.err = err
		}
		return nil
	})
	if err != nil {
		st.err = err
	}
	if full {
		st.data = append(st.data, '}')
	}
	return st
}

// member converts one column into st.
func (r *reading) member(st *state, c *column, v schemas.JSON, full bool) error {
	cl, err := r.convert(c, v)
	if err != nil {
		return err
	}
	if cl.kind == cellText && damaged(cl.text) {
		if full {
			r.res.Damaged++
		}
		if r.d.rules.RefuseDamaged {
			return c.refuse("holds U+FFFD: its text was lost before Kafka", "let the tool read the column as utf8")
		}
	}
	if c.key >= 0 && cl.kind != cellNull {
		if st.keys[c.key], err = c.keyValue(cl); err != nil {
			return err
		}
	}
	if c.Name == r.d.version && cl.kind == cellInteger {
		n, err := strconv.ParseInt(cl.text, 10, 64)
		st.version, st.hasVersion = n, err == nil
	}
	if full {
		st.data, err = c.write(appendName(st.data, c.Name), cl, &r.d.rules)
	}
	return err
}

// finishKey makes the canonical key.
func (r *reading) finishKey(st *state) {
	for i, v := range st.keys {
		if v == nil {
			if st.err == nil {
				st.err = &schemas.FieldError{
					Field: "data/" + r.d.ds.Key[i], Problem: "is a key property and missing or null", Reason: schemas.ReasonKey,
				}
			}
			return
		}
	}
	key, err := r.d.ds.FormatKey(st.keys...)
	if err != nil && st.err == nil {
		st.err = err
	}
	st.key = key
}

// add makes an event of a state whose key is finished.
func (r *reading) add(op schemas.Op, st *state) {
	row := Row{Event: schemas.Event{Dataset: r.d.ds.Name, Key: st.key, Op: op, Time: r.at}, Err: st.err}
	if op == schemas.Upsert && st.err == nil {
		row.Event.Data = st.data
	}
	var err error
	switch {
	case r.d.ds.Version.Kind == schemas.VersionOffset:
		row.Event.Version, err = schemas.PositionVersion(r.d.epoch, r.rec.Offset)
	case st.hasVersion:
		err = setColumnVersion(&row.Event, st.version, r.d.version)
	default:
		err = noVersion(r.d.version)
	}
	if row.Err == nil {
		row.Err = err
	}
	r.res.Rows = append(r.res.Rows, row)
}

// change makes the events of an update: a row that got another key is deleted under the old one first. old may be nil.
func (r *reading) change(old, st *state) {
	if old != nil && old.key != "" && st.key != "" && old.key != st.key {
		r.leave(old)
	}
	r.add(schemas.Upsert, st)
}

// leave deletes the key that a row had. Where positions do not compare with those of the key's own partition, it is not known
// whether the record was recreated since, and the deletion becomes a dead letter.
func (r *reading) leave(old *state) {
	if !r.d.ordered && old.err == nil {
		r.res.Rows = append(r.res.Rows, Row{
			Event: schemas.Event{Dataset: r.d.ds.Name, Key: old.key, Op: schemas.Delete, Time: r.at},
			Err: &schemas.FieldError{
				Field: "key", Problem: "was given up for another one, and the topic's partitions do not keep the order of the two",
				Fix:    "use one partition, cdc.partition_by: table if all rows of the table share one, or a version column",
				Reason: schemas.ReasonKey,
			},
		})
		return
	}
	r.add(schemas.Delete, old)
}

// overlay is the state before an update that names the old values of changed columns only.
func (r *reading) overlay(st *state, changed schemas.JSON) *state {
	old := r.read(changed, false, nil)
	for i, seen := range old.seen {
		if seen && !st.seen[i] && st.err == nil {
			st.err = partial(r.d.columns[i].Name)
		}
	}
	for i, v := range st.keys {
		if old.keys[i] == nil {
			old.keys[i] = v
		}
	}
	if old.err != nil && st.err == nil {
		st.err = old.err // the key that the row had may hide behind it
	}
	if !old.hasVersion {
		old.version, old.hasVersion = st.version, st.hasVersion
	}
	r.finishKey(&old)
	return &old
}

// whole checks that the row has every column that its description names.
func (r *reading) whole(st *state, described func(column string) bool) {
	for i := range r.d.columns {
		if name := r.d.columns[i].Name; st.err == nil && !st.seen[i] && described(name) {
			st.err = partial(name)
		}
	}
}

// agree checks a row's key against the record's key, as far as the latter has the properties. all: it must have them, since
// it chooses the partition.
func (r *reading) agree(st *state, key recordKey, all bool) {
	if st.err == nil {
		st.err = key.err
	}
	for i, want := range key.values {
		switch {
		case st.err != nil:
			return
		case want == nil && all && !r.d.ordered:
			st.err = &schemas.FieldError{
				Field: "key", Problem: "the record is not keyed by the dataset's key, so its order is not kept over several partitions",
				Fix: "key the topic by the dataset's key, use one partition, or a version column", Reason: schemas.ReasonKey,
			}
		case want != nil && st.keys[i] != nil && want != st.keys[i]:
			st.err = &schemas.FieldError{Field: "key", Problem: "contradicts the record's key", Reason: schemas.ReasonKey}
		}
	}
}

// ignore notes why the record has no change.
func (r *reading) ignore(why Ignored) error {
	r.res.Ignored = why
	return nil
}

// emptied deals with a table that lost all its rows silently about each.
func (r *reading) emptied() error {
	if r.d.rules.IgnoreTruncates {
		return r.ignore(Truncate)
	}
	return r.pause("its table was emptied or dropped in the captured database, which has no rows",
		"everything before is applied: mark the replica's rows as deleted by hand, as docs/formats.md shows, or start over with a new topic and table; then write cdc.truncates: ignore and restart the worker")
}

// otherTable ignores a record of another table.
func (r *reading) otherTable(from origin) error {
	r.res.Other = from.String()
	return r.ignore(OtherTable)
}

func malformed(field, problem string) error {
	return &schemas.FieldError{Field: field, Problem: problem, Reason: schemas.ReasonMalformed}
}

func partial(property string) error {
	return &schemas.FieldError{
		Field: "data/" + property, Problem: "is not in the record, though the row has it",
		Fix: "capture full rows: binlog_row_image=FULL, or REPLICA IDENTITY FULL", Reason: schemas.ReasonPartial,
	}
}

func appendName(buf []byte, name string) []byte {
	if len(buf) > 1 {
		buf = append(buf, ',')
	}
	return append(schemas.AppendJSONString(buf, name), ':')
}

func appendRaw(buf []byte, v schemas.JSON) []byte {
	if v.Kind == schemas.JSONString {
		return schemas.AppendJSONString(buf, v.Text)
	}
	return append(buf, v.Text...)
}

// setTime takes a time of Unix seconds or milliseconds.
func (r *reading) setTime(v schemas.JSON) {
	if n, err := strconv.ParseInt(v.Text, 10, 64); err == nil && n > 0 && n < 1<<47 {
		r.at = time.UnixMilli(unixMillis(n)).UTC()
	}
}

// timeText converts what is text by nature, and times, which Canal and Maxwell write as the server does.
func (r *reading) timeText(c *column, text string, t schemas.ColumnType) (cell, error) {
	switch {
	case t.Base == "date":
		if isDatePart(text) {
			return cell{cellDate, text}, nil
		}
		return cell{}, c.mismatch()
	case t.Base == "datetime", t.Base == "timestamp", t.Base == "" && c.Kind == schemas.KindDateTime:
		zone := 0
		if t.Base == "timestamp" {
			zone = r.d.rules.Zone
		}
		if text, ok := readDateTime(text, zone); ok {
			return cell{cellDateTime, text}, nil
		}
		return cell{}, c.mismatch()
	}
	return cell{cellText, text}, nil
}
