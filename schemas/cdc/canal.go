package cdc

import (
	"strconv"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// canalMessage is Canal's flat message.
type canalMessage struct {
	typ, database, table string
	isDDL                bool
	data, old, types     schemas.JSON
}

// canal reads a flat message: several rows, every value a text, and of the old row the changed columns alone.
func (r *reading) canal() error {
	if r.rec.Value == nil {
		return malformed("value", "is missing: Canal writes none without")
	}
	var m canalMessage
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
		case "es":
			es = v
		case "ts":
			ts = v
		}
		return nil
	})
	if err != nil {
		return err
	}
	r.setTime(ts)
	r.setTime(es)
	ours := m.database+"."+m.table == r.d.rules.Table
	switch m.typ {
	case "QUERY": // MariaDB's annotations name no table, and their text is that of any statement of any database
		if m.isDDL {
			return r.ignore(SchemaChange)
		}
		return r.ignore(Statement)
	case "INSERT", "INIT", "UPDATE", "DELETE":
		if !ours {
			return r.ignore(OtherTable)
		}
		return r.canalRows(&m)
	case "TRUNCATE", "ERASE":
		if !ours {
			return r.ignore(OtherTable)
		}
		return r.emptied()
	case "CREATE", "ALTER", "RENAME", "CINDEX", "DINDEX", "INIT_DDL":
		return r.ignore(SchemaChange)
	}
	if m.isDDL {
		return r.ignore(SchemaChange)
	}
	return malformed("type", "is none that Canal writes")
}

func (r *reading) canalRows(m *canalMessage) error {
	desc, err := r.d.mysqlTypes(m.types)
	if err != nil {
		return err
	}
	r.convert = r.canalConverter(desc)
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
			r.finishKey(&st)
			r.add(schemas.Delete, &st)
			continue
		}
		st := r.read(row, true, nil)
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

// mysqlTypes reads the column types of a message; some variants leave them out.
func (d *Decoder) mysqlTypes(v schemas.JSON) (*described, error) {
	if v.Kind != schemas.JSONObject {
		return &described{}, nil
	}
	if last := d.types.Load(); last != nil && last.text == v.Text {
		return last, nil
	}
	desc := &described{text: v.Text, types: map[string]schemas.ColumnType{}}
	err := schemas.WalkObject(v.Text, func(name string, v schemas.JSON) error {
		desc.types[name], _ = schemas.ParseColumnType(v.Text)
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.types.Store(desc)
	return desc, nil
}

// canalConverter converts texts by the type that the message names, else by the declared one.
func (r *reading) canalConverter(desc *described) func(*column, schemas.JSON) (cell, error) {
	return func(c *column, v schemas.JSON) (cell, error) {
		t, told := desc.types[c.Name]
		if !told || t.Base == "" {
			t = c.typ
		}
		switch v.Kind {
		case schemas.JSONNull:
			return cell{}, nil
		case schemas.JSONArray, schemas.JSONObject:
			return cell{}, c.mismatch()
		default:
		}
		return r.canalValue(c, v.Text, t)
	}
}

func (r *reading) canalValue(c *column, text string, t schemas.ColumnType) (cell, error) {
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

func (c *column) integerText(text string) (cell, error) {
	if !isInteger(text) {
		return cell{}, c.mismatch()
	}
	return cell{cellInteger, text}, nil
}

// enumIndex gives the label of an index that counts from 1; 0 is the empty value of a label that the server did not know.
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

// setMask gives the labels of a bit mask, as the server prints a set.
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
