package cdc

import (
	"strings"

	"github.com/freshet/freshet/schemas"
)

// flat reads a row that Debezium's ExtractNewRecordState took out of its envelope. Nothing in such a record reports what it
// is, so the dataset must; only contradictions show.
func (r debezium) flat() error {
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
	desc, err := r.d.connectSchema(schema)
	if err != nil {
		return err
	}
	if desc != nil && strings.HasSuffix(desc.name, envelopeSuffix) {
		return malformed("value", "is an envelope, not a flattened row; write format: debezium")
	}
	r.convert = r.converter(desc)
	m := flatMeta{d: r.d}
	st := r.read(payload, true, m.take)
	if why := m.foreign.what(); why != NotIgnored && !st.hasKey() {
		return r.ignore(why)
	}
	if payload.Kind != schemas.JSONObject {
		return malformed("value", "is not a row")
	}
	m.from.noteHeaders(r.rec.Headers)
	if desc != nil && m.from.database == "" && m.from.schema == "" {
		m.from.qualified, _ = strings.CutSuffix(desc.name, rowSuffix)
	}
	switch ours, err := r.d.belongs(m.from); {
	case err != nil:
		return err
	case !ours:
		return r.otherTable(m.from)
	}
	if st.hasKey() { // what has none is not a row of ours, whatever else it is
		if err := m.contradiction(r.reading); err != nil {
			return err
		}
	}
	r.setTime(m.time)
	recordKey, err := r.recordKey()
	if err != nil {
		return err
	}
	if m.deleted == "true" {
		st = r.read(payload, false, m.take) // a deleted row's other columns do not matter
	} else {
		r.whole(&st, desc.hasField)
	}
	r.finishKey(&st)
	r.agree(&st, recordKey, true)
	if m.deleted == "true" {
		r.add(schemas.Delete, &st)
		return nil
	}
	r.add(schemas.Upsert, &st)
	return nil
}

// flatMeta are the members that the transform adds.
type flatMeta struct {
	d       *Decoder
	deleted string
	from    origin
	time    schemas.JSON
	foreign foreign
}

// take takes what is not a column: members with the transform's prefix, unless the schema declares them.
func (m *flatMeta) take(name string, v schemas.JSON) bool {
	m.foreign.note(name)
	if !strings.HasPrefix(name, "__") {
		return false
	}
	m.from.note(name, v.Text)
	switch name {
	case "__deleted":
		m.deleted = v.Text
	case "__source_ts_ms", "__ts_ms":
		if m.time.Text == "" {
			m.time = v
		}
	}
	_, declared := m.d.byName[name]
	return !declared
}

// contradiction: a topic whose deletions come in another way than declared would lose them all silently.
func (m *flatMeta) contradiction(r *reading) error {
	switch {
	case m.d.rules.RewrittenDeletes && m.deleted == "":
		return r.pause("cdc.deletes is rewrite, but a row comes without __deleted: its connector would not send deletions that way",
			"set delete.tombstone.handling.mode to rewrite and start over with a new topic, or write cdc.deletes: tombstone if deletions are tombstones")
	case !m.d.rules.RewrittenDeletes && m.deleted != "":
		return r.pause("cdc.deletes is tombstone, but rows come with __deleted: a deletion is a row there", "write cdc.deletes: rewrite")
	}
	return nil
}

func (st *state) hasKey() bool {
	for _, k := range st.keys {
		if k == nil {
			return false
		}
	}
	return true
}
