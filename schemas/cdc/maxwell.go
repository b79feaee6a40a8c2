package cdc

import (
	"cmp"
	"encoding/base64"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// maxwell reads a record of Maxwell.
type maxwell struct{ *reading }

// decode reads a message of Maxwell: one row, and of the old row the changed columns alone.
func (r maxwell) decode() error {
	if r.rec.Value == nil {
		return malformed("value", "is missing: declare Maxwell's own deletes, not tombstones")
	}
	var typ, database, table string
	var data, old schemas.JSON
	err := schemas.WalkObject(r.text, func(name string, v schemas.JSON) error {
		switch name {
		case "type":
			typ = v.Text
		case "database":
			database = v.Text
		case "table":
			table = v.Text
		case "data":
			data = v
		case "old":
			old = v
		case "ts":
			r.setTime(v) // seconds for rows, milliseconds for DDL
		}
		return nil
	})
	if err != nil {
		return err
	}
	from := origin{database: database, table: table}
	switch typ { // before the key: control records have keys without values
	case "bootstrap-start", "bootstrap-complete":
		return r.ignore(Bootstrap)
	case "insert", "update", "delete", "bootstrap-insert", "table-drop":
		ours, err := r.d.belongs(from)
		switch {
		case err != nil:
			return err
		case !ours:
			return r.otherTable(from)
		case typ == "table-drop":
			return r.emptied()
		}
		return r.row(typ, data, old)
	case "table-create", "table-alter", "database-create", "database-alter", "database-drop":
		return r.ignore(SchemaChange)
	}
	return malformed("type", "is none that Maxwell writes")
}

func (r maxwell) row(typ string, data, old schemas.JSON) error {
	r.convert = r.value
	r.bootstrap = typ == "bootstrap-insert"
	values, columns := r.key()
	var unfit error
	if len(columns) > 0 {
		unfit = r.d.sameKey(columns)
	}
	if typ == "delete" {
		st := r.read(data, false, nil)
		st.err = cmp.Or(unfit, st.err)
		r.finishKey(&st)
		r.agree(&st, recordKey{values: values}, false)
		r.add(schemas.Delete, &st)
		return nil
	}
	st := r.read(data, true, nil)
	st.err = cmp.Or(unfit, st.err)
	r.finishKey(&st)
	r.agree(&st, recordKey{values: values}, false)
	var before *state
	if typ == "update" {
		before = r.overlay(&st, old)
	}
	r.change(before, &st)
	return nil
}

// key reads {"database":…,"table":…,"pk.id":1} and ["shop","customers",[{"id":1}]]: the values of the dataset's key,
// and the columns of the table's. Whatever else a record is keyed by says nothing about the row.
func (r maxwell) key() (keys []any, columns []string) {
	keys = make([]any, len(r.d.ds.Key))
	one := func(name string, v schemas.JSON) {
		columns = append(columns, name)
		i, known := r.d.byName[name]
		if !known || r.d.columns[i].key < 0 {
			return
		}
		c := &r.d.columns[i]
		if cl, err := r.value(c, v); err == nil && cl.kind != cellNull {
			if k, err := c.keyValue(cl); err == nil {
				keys[c.key] = k
			}
		}
	}
	v, err := schemas.ReadJSON(string(r.rec.Key))
	if err != nil {
		return keys, nil
	}
	member := func(name string, v schemas.JSON) error {
		one(name, v)
		return nil
	}
	switch v.Kind {
	case schemas.JSONObject:
		_ = schemas.WalkObject(v.Text, func(name string, v schemas.JSON) error { // it was read before
			if column, ok := strings.CutPrefix(name, "pk."); ok {
				one(column, v)
			}
			return nil
		})
	case schemas.JSONArray:
		parts, _ := items(v) // it was read before
		if len(parts) != 3 || parts[2].Kind != schemas.JSONArray {
			break
		}
		list, _ := items(parts[2])
		for _, column := range list {
			if column.Kind == schemas.JSONObject {
				_ = schemas.WalkObject(column.Text, member)
			}
		}
	default:
	}
	return keys, columns
}

// value converts a value by the declared type, or the one that the property suggests.
func (r maxwell) value(c *column, v schemas.JSON) (cell, error) {
	t := c.typ
	switch {
	case v.Kind == schemas.JSONNull:
		return cell{}, nil
	case t.Base == "json":
		return cell{cellJSON, string(appendRaw(nil, v))}, nil
	case t.IsInteger(), t.Base == "bit", t.Base == "year":
		if v.Kind == schemas.JSONBoolean {
			return cell{cellBoolean, v.Text}, nil
		}
		if v.Kind != schemas.JSONNumber {
			return cell{}, c.mismatch()
		}
		if t.Base == "bit" && r.bootstrap {
			return c.integerText(swappedBits(v.Text, t.Length))
		}
		return c.integerText(v.Text)
	case t.Base == "decimal", t.Base == "float", t.Base == "double":
		if v.Kind != schemas.JSONNumber {
			return cell{}, c.mismatch()
		}
		if t.Base == "decimal" || !c.declared {
			return cell{cellNumber, v.Text}, nil
		}
		return cell{cellFloat, v.Text}, nil
	case t.Base == "set":
		return c.setLabels(v, t.Labels)
	case v.Kind != schemas.JSONString:
		if t.Base == "" {
			return cell{}, c.undeclared()
		}
		return cell{}, c.mismatch()
	case t.Base == "" && c.Kind == schemas.KindString && doubtfulText(v.Text):
		return cell{}, c.undeclared()
	case t.Base == "enum":
		return cell{cellText, label(v.Text, t.Labels)}, nil
	case t.IsBinary():
		b, err := base64.StdEncoding.DecodeString(v.Text)
		if err != nil {
			return cell{}, c.mismatch()
		}
		return padded(b, t), nil
	}
	return r.timeText(c, v.Text, t)
}

// doubtfulText: only the column's type tells a text from the base64 of bytes, of which Maxwell's stream leaves the zeros of
// BINARY(n) out, and from a label whose quotes it doubles.
func doubtfulText(text string) bool {
	if strings.Contains(text, "''") {
		return true
	}
	if !strings.HasSuffix(text, "=") {
		return false
	}
	_, err := base64.StdEncoding.DecodeString(text)
	return err == nil
}

// label finds the label that Maxwell wrote with its quotes doubled.
func label(text string, labels []string) string {
	for _, l := range labels {
		if strings.ReplaceAll(l, "'", "''") == text {
			return l
		}
	}
	return text
}

func (c *column) setLabels(v schemas.JSON, labels []string) (cell, error) {
	if v.Kind != schemas.JSONArray {
		return cell{}, c.mismatch()
	}
	var set []string
	err := schemas.WalkArray(v.Text, func(item schemas.JSON) error {
		if item.Kind != schemas.JSONString {
			return c.mismatch()
		}
		set = append(set, label(item.Text, labels))
		return nil
	})
	return cell{cellText, strings.Join(set, ",")}, err
}
