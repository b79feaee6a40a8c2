package cdc

import (
	"cmp"
	"strconv"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// canalMessage is Canal's flat message.
type canalMessage struct {
	typ, database, table string
	isDDL                bool
	data, old            schemas.JSON
	types, sqlTypes      schemas.JSON
	keys                 []string // pkNames
	keyOnly              bool
}

// canal reads a record of Canal.
type canal struct{ *reading }

// decode reads a flat message: several rows, every value a text, and of the old row the changed columns alone.
func (r canal) decode() error {
	if r.rec.Value == nil {
		return malformed("value", "is missing: Canal writes none without")
	}
	var m canalMessage
	if err := m.read(r.reading); err != nil {
		return err
	}
	switch m.typ {
	case "QUERY": // MariaDB's annotations name no table, and their text is that of any statement of any database
		if m.isDDL {
			return r.ignore(SchemaChange)
		}
		return r.ignore(Statement)
	case "INSERT", "INIT", "UPDATE", "DELETE", "TRUNCATE", "ERASE":
		from := origin{database: m.database, table: m.table}
		ours, err := r.d.belongs(from)
		switch {
		case err != nil:
			return err
		case !ours:
			return r.otherTable(from)
		case m.typ == "TRUNCATE" || m.typ == "ERASE":
			return r.emptied()
		}
		return r.rows(&m)
	case "TIDB_WATERMARK":
		return r.ignore(Heartbeat)
	case "CREATE", "ALTER", "RENAME", "CINDEX", "DINDEX", "INIT_DDL":
		return r.ignore(SchemaChange)
	}
	if m.isDDL {
		return r.ignore(SchemaChange)
	}
	return malformed("type", "is none that Canal writes")
}

// read reads the members of a message.
func (m *canalMessage) read(r *reading) error {
	var es, ts schemas.JSON
	err := schemas.WalkObject(r.text, func(name string, v schemas.JSON) error {
		switch name {
		case "type":
			m.typ = v.Text
		case "database":
			m.database = v.Text
		case "table":
			m.table = v.Text
		case "isDdl":
			m.isDDL = v.Text == "true"
		case "data":
			m.data = v
		case "old":
			m.old = v
		case "mysqlType":
			m.types = v
		case "sqlType":
			m.sqlTypes = v
		case "pkNames":
			return m.readKeys(v)
		case "_tidb":
			return m.readTiDB(v)
		case "es":
			es = v
		case "ts":
			ts = v
		}
		return nil
	})
	r.setTime(ts)
	r.setTime(es)
	return err
}

func (m *canalMessage) readKeys(v schemas.JSON) error {
	names, err := items(v)
	for _, name := range names {
		m.keys = append(m.keys, name.Text)
	}
	return err
}

// readTiDB reads TiCDC's extension: a row above Kafka's limit is sent with its key alone, and perhaps a place where the
// rest is.
func (m *canalMessage) readTiDB(v schemas.JSON) error {
	if v.Kind != schemas.JSONObject {
		return nil
	}
	return schemas.WalkObject(v.Text, func(name string, v schemas.JSON) error {
		switch name {
		case "onlyHandleKey":
			m.keyOnly = m.keyOnly || v.Text == "true"
		case "claimCheckLocation":
			m.keyOnly = m.keyOnly || v.Text != "" && v.Kind == schemas.JSONString
		}
		return nil
	})
}

// unfit is what is wrong with every row of a message.
func (m *canalMessage) unfit(d *Decoder) error {
	if len(m.keys) > 0 {
		if err := d.sameKey(m.keys); err != nil {
			return err
		}
	}
	if m.keyOnly && m.typ != "DELETE" {
		return &schemas.FieldError{
			Field: "data", Problem: "is the row's key alone, as the record says", Reason: schemas.ReasonPartial,
			Fix: "let the tool send whole rows: raise Kafka's max.message.bytes, and leave large-message-handle-option out",
		}
	}
	return nil
}

func (r canal) rows(m *canalMessage) error {
	desc, err := r.d.mysqlTypes(m.types, m.sqlTypes)
	if err != nil {
		return err
	}
	unfit := m.unfit(r.d)
	r.convert = r.converter(desc)
	rows, err := items(m.data)
	if err != nil {
		return err
	}
	old, err := items(m.old)
	if err != nil {
		return err
	}
	if m.typ == "UPDATE" && len(old) != len(rows) {
		return malformed("old", "does not have an item for each row, so changes of keys cannot be seen")
	}
	for i, row := range rows {
		if m.typ == "DELETE" {
			st := r.read(row, false, nil)
			st.err = cmp.Or(unfit, st.err)
			r.finishKey(&st)
			r.add(schemas.Delete, &st)
			continue
		}
		st := r.read(row, true, nil)
		st.err = cmp.Or(unfit, st.err)
		r.whole(&st, desc.hasType)
		r.finishKey(&st)
		var before *state
		if m.typ == "UPDATE" {
			before = r.overlay(&st, old[i])
		}
		r.change(before, &st)
	}
	return nil
}

// items lists an array; null is empty.
func items(v schemas.JSON) ([]schemas.JSON, error) {
	if v.Kind == schemas.JSONNull || v.Kind == 0 {
		return nil, nil
	}
	var list []schemas.JSON
	err := schemas.WalkArray(v.Text, func(item schemas.JSON) error {
		list = append(list, item)
		return nil
	})
	return list, err
}

func (r canal) value(c *column, text string, t schemas.ColumnType) (cell, error) {
	switch t.Base {
	case "bit", "year":
		if t.Base == "year" && text == "0000" {
			text = "0"
		}
		return c.integerText(text)
	case "enum":
		return c.enumIndex(text, t.Labels)
	case "set":
		return c.setMask(text, t.Labels)
	case "json":
		return cell{cellJSON, text}, nil
	case "uuid", "inet4", "inet6":
		return cell{}, c.refuse("has a type whose bytes Canal destroys", "leave the column out of the schema")
	case "decimal", "float", "double":
		if !isNumber(text) {
			return cell{}, c.mismatch()
		}
		if t.Base == "decimal" {
			return cell{cellNumber, text}, nil
		}
		return cell{cellFloat, text}, nil
	}
	switch {
	case t.IsInteger():
		return c.integerText(text)
	case t.IsBinary():
		b, ok := latin1(text)
		if !ok {
			return cell{}, c.refuse("holds characters that are no bytes", "")
		}
		return padded(b, t), nil
	}
	return r.timeText(c, text, t)
}

func (c *column) integerText(text string) (cell, error) {
	if !isInteger(text) {
		return cell{}, c.mismatch()
	}
	return cell{cellInteger, text}, nil
}

// enumIndex returns the label of an index that counts from 1; 0 is the empty value of a label that the server did not know.
func (c *column) enumIndex(text string, labels []string) (cell, error) {
	n, err := strconv.Atoi(text)
	switch {
	case err != nil || n < 0 || n > len(labels):
		return cell{}, c.mismatch()
	case n == 0:
		return cell{cellText, ""}, nil
	}
	return cell{cellText, labels[n-1]}, nil
}

// setMask returns the labels of a bit mask, as the server prints a set.
func (c *column) setMask(text string, labels []string) (cell, error) {
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || len(labels) < 64 && n>>len(labels) != 0 {
		return cell{}, c.mismatch()
	}
	var set []string
	for i, label := range labels {
		if n&(1<<i) != 0 {
			set = append(set, label)
		}
	}
	return cell{cellText, strings.Join(set, ",")}, nil
}
