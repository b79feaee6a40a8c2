package cdc

import (
	"github.com/freshet/freshet/schemas"
)

// envelope is a change event of Debezium.
type envelope struct {
	op            string
	before, after schemas.JSON
	source        schemas.JSON
	foreign       foreign
}

// foreign is what tells apart the records that are no rows.
type foreign struct {
	members                  int
	tsOnly                   bool // ts_ms is a member
	ddl, changes             bool
	status, events, collects bool
}

func (f *foreign) note(name string) {
	f.members++
	switch name {
	case "ts_ms":
		f.tsOnly = true
	case "ddl":
		f.ddl = true
	case "tableChanges":
		f.changes = true
	case "status":
		f.status = true
	case "event_count":
		f.events = true
	case "data_collections":
		f.collects = true
	}
}

// what reports which of Debezium's other records it is.
func (f *foreign) what() Ignored {
	switch {
	case f.ddl && f.changes:
		return SchemaChange
	case f.status && f.events && f.collects:
		return Transaction
	case f.tsOnly && f.members == 1:
		return Heartbeat
	}
	return NotIgnored
}

// debezium reads a record of Debezium.
type debezium struct{ *reading }

// decode reads an envelope.
func (r debezium) decode() error {
	if r.rec.Value == nil {
		return r.tombstone()
	}
	payload, schema, err := unwrap(r.text)
	if err != nil {
		return err
	}
	if payload.Kind == schemas.JSONNull {
		return r.tombstone()
	}
	if payload.Kind != schemas.JSONObject {
		return malformed("value", "is not a change event of Debezium")
	}
	desc, err := r.d.connectSchema(schema)
	if err != nil {
		return err
	}
	r.convert = r.converter(desc)
	var e envelope
	err = schemas.WalkObject(payload.Text, func(name string, v schemas.JSON) error {
		switch name {
		case "op":
			e.op = v.Text
		case "before":
			e.before = v
		case "after":
			e.after = v
		case "source":
			e.source = v
		}
		e.foreign.note(name)
		return nil
	})
	if err != nil {
		return err
	}
	if e.op == "" {
		if why := e.foreign.what(); why != NotIgnored {
			return r.ignore(why)
		}
		return malformed("op", "is missing: the value is not a change event of Debezium; flattened rows are format debezium-flat")
	}
	return r.envelope(&e, desc)
}

func (r debezium) envelope(e *envelope, desc *described) error {
	from, err := r.readSource(e.source)
	if err != nil {
		return err
	}
	if e.op == "m" {
		return r.ignore(Message)
	}
	ours, err := r.d.belongs(from)
	switch {
	case err != nil:
		return err
	case !ours:
		return r.otherTable(from)
	case e.op == "t":
		return r.emptied()
	case e.op == "d":
		return r.deletion(e)
	case e.op != "c" && e.op != "u" && e.op != "r":
		return malformed("op", "is none of c, u, r, d, t, m")
	}
	recordKey, err := r.recordKey()
	if err != nil {
		return err
	}
	st := r.read(e.after, true, nil)
	r.whole(&st, desc.hasField)
	r.finishKey(&st)
	r.agree(&st, recordKey, true)
	var old *state
	if e.op == "u" && e.before.Kind == schemas.JSONObject {
		before := r.read(e.before, false, nil)
		r.finishKey(&before)
		old = &before
	}
	r.change(old, &st)
	return nil
}

func (r debezium) deletion(e *envelope) error {
	recordKey, err := r.recordKey()
	if err != nil {
		return err
	}
	st := state{keys: recordKey.values}
	if e.before.Kind == schemas.JSONObject {
		st = r.read(e.before, false, nil)
		// REPLICA IDENTITY DEFAULT leaves everything but the key null or out.
		for i, v := range recordKey.values {
			if st.keys[i] == nil {
				st.keys[i] = v
			}
		}
	}
	r.finishKey(&st)
	r.agree(&st, recordKey, true)
	r.add(schemas.Delete, &st)
	return nil
}

// tombstone is a record without a value. Behind an envelope's or a rewritten delete it is one more delete of that key, which
// only a position can order.
func (r debezium) tombstone() error {
	if r.rec.Key == nil || r.d.ds.Version.Kind != schemas.VersionOffset {
		return r.ignore(Tombstone)
	}
	if r.convert == nil {
		r.convert = r.converter(nil)
	}
	if ours, err := r.tombstoneBelongs(); err != nil || r.res.Ignored != NotIgnored || !ours {
		return err
	}
	key, err := r.recordKey()
	if err != nil {
		return err
	}
	st := state{keys: key.values, err: key.err}
	r.finishKey(&st)
	r.add(schemas.Delete, &st)
	return nil
}

// tombstoneBelongs reports whether a record without a value is of the declared table, or notes why it is ignored. Its key
// seldom says so, and a key of another table may equal one of ours.
func (r debezium) tombstoneBelongs() (bool, error) {
	if r.d.rules.Table == "" {
		return true, nil
	}
	from, err := r.keyOrigin()
	if err != nil {
		return false, err
	}
	if !from.stated() {
		if r.d.ds.Format == schemas.FormatDebezium || r.d.rules.RewrittenDeletes {
			return false, r.ignore(Tombstone) // the delete before it names its table and did the work
		}
		return false, &schemas.FieldError{
			Field: "key", Problem: "names no table, which cdc.table asks for, so the deletion may be of another table's row", Reason: schemas.ReasonKey,
			Fix: "write keys with schemas, set delete.tombstone.handling.mode to rewrite, or leave cdc.table out if the topic carries one table",
		}
	}
	ours, err := r.d.belongs(from)
	if err == nil && !ours {
		err = r.otherTable(from)
	}
	return ours, err
}

// recordKey is what a record's key says: the values of the key properties, nil where it does not have them, and what is
// wrong with its columns.
type recordKey struct {
	values []any
	err    error
}

// recordKey reads the record's key.
func (r debezium) recordKey() (recordKey, error) {
	keys := make([]any, len(r.d.ds.Key))
	if r.rec.Key == nil {
		return recordKey{values: keys}, nil
	}
	text := string(r.rec.Key)
	v, err := schemas.ReadJSON(text)
	if err != nil {
		return recordKey{}, &schemas.FieldError{Field: "key", Problem: "of the record is not JSON", Fix: "use Connect's JsonConverter for keys", Reason: schemas.ReasonKey}
	}
	if v.Kind == schemas.JSONObject {
		if v, _, err = unwrap(text); err != nil {
			return recordKey{}, err
		}
	}
	one := func(c *column, v schemas.JSON) error {
		cl, err := r.convert(c, v)
		if err != nil || cl.kind == cellNull {
			return err
		}
		keys[c.key], err = c.keyValue(cl)
		return err
	}
	if v.Kind != schemas.JSONObject {
		if len(keys) == 1 { // a transform took the only field out of its object
			return recordKey{values: keys}, one(&r.d.columns[0], v)
		}
		return recordKey{values: keys}, nil
	}
	var columns []string
	err = schemas.WalkObject(v.Text, func(name string, v schemas.JSON) error {
		if name == physicalTable {
			return nil
		}
		columns = append(columns, name)
		if i, known := r.d.byName[name]; known && r.d.columns[i].key >= 0 {
			return one(&r.d.columns[i], v)
		}
		return nil
	})
	return recordKey{values: keys, err: r.d.sameKey(columns)}, err
}

// readSource reads the time, and where the row comes from.
func (r debezium) readSource(source schemas.JSON) (from origin, err error) {
	if source.Kind != schemas.JSONObject {
		return origin{}, nil
	}
	err = schemas.WalkObject(source.Text, func(name string, v schemas.JSON) error {
		switch name {
		case "db":
			from.database = v.Text
		case "schema":
			from.schema = v.Text
		case "table":
			from.table = v.Text
		case "ts_ms":
			r.setTime(v)
		}
		return nil
	})
	return from, err
}
