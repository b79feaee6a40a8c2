package cdc

import (
	"strconv"
	"time"

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

// what says which of Debezium's other records it is.
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

// debezium reads an envelope.
func (r *reading) debezium() error {
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
		return malformed("value", "is no change event of Debezium")
	}
	desc, err := r.d.connectSchema(schema)
	if err != nil {
		return err
	}
	r.convert = r.debeziumConverter(desc)
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
		return malformed("op", "is missing: the value is no change event of Debezium; flattened rows are format debezium-flat")
	}
	return r.envelope(&e, desc)
}

func (r *reading) envelope(e *envelope, desc *described) error {
	ours, err := r.readSource(e.source)
	if err != nil {
		return err
	}
	switch {
	case e.op == "m":
		return r.ignore(Message)
	case !ours:
		return r.ignore(OtherTable)
	case e.op == "t":
		return r.emptied()
	case e.op == "d":
		return r.debeziumDelete(e)
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

func (r *reading) debeziumDelete(e *envelope) error {
	recordKey, err := r.recordKey()
	if err != nil {
		return err
	}
	st := state{keys: recordKey}
	if e.before.Kind == schemas.JSONObject {
		st = r.read(e.before, false, nil)
		// REPLICA IDENTITY DEFAULT leaves everything but the key null or out.
		for i, v := range recordKey {
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
func (r *reading) tombstone() error {
	if r.rec.Key == nil || r.d.ds.Version.Kind != schemas.VersionOffset {
		return r.ignore(Tombstone)
	}
	if r.convert == nil {
		r.convert = r.debeziumConverter(nil)
	}
	key, err := r.recordKey()
	if err != nil {
		return err
	}
	st := state{keys: key}
	r.finishKey(&st)
	r.add(schemas.Delete, &st)
	return nil
}

// recordKey reads the key properties of the record's key; nil where it does not have them.
func (r *reading) recordKey() ([]any, error) {
	keys := make([]any, len(r.d.ds.Key))
	if r.rec.Key == nil {
		return keys, nil
	}
	text := string(r.rec.Key)
	v, err := schemas.ReadJSON(text)
	if err != nil {
		return nil, &schemas.FieldError{Field: "key", Problem: "of the record is no JSON", Mend: "use Connect's JsonConverter for keys", Reason: schemas.ReasonKey}
	}
	if v.Kind == schemas.JSONObject {
		if v, _, err = unwrap(text); err != nil {
			return nil, err
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
			return keys, one(&r.d.columns[0], v)
		}
		return keys, nil
	}
	return keys, schemas.WalkObject(v.Text, func(name string, v schemas.JSON) error {
		if i, known := r.d.byName[name]; known && r.d.columns[i].key >= 0 {
			return one(&r.d.columns[i], v)
		}
		return nil
	})
}

// readSource reads the time, and says whether the table is the dataset's.
func (r *reading) readSource(source schemas.JSON) (ours bool, err error) {
	if source.Kind != schemas.JSONObject {
		return r.d.rules.Table == "", nil
	}
	var db, schema, table string
	err = schemas.WalkObject(source.Text, func(name string, v schemas.JSON) error {
		switch name {
		case "db":
			db = v.Text
		case "schema":
			schema = v.Text
		case "table":
			table = v.Text
		case "ts_ms":
			r.setTime(v)
		}
		return nil
	})
	want := r.d.rules.Table
	return want == "" || want == db+"."+table || want == schema+"."+table, err
}

// setTime takes a time of Unix seconds or milliseconds.
func (r *reading) setTime(v schemas.JSON) {
	if n, err := strconv.ParseInt(v.Text, 10, 64); err == nil && n > 0 && n < 1<<47 {
		r.at = time.UnixMilli(unixMillis(n)).UTC()
	}
}
