package cdc

import (
	"strings"
	"unicode/utf8"

	"github.com/freshet/freshet/schemas"
)

// mysqlTypes reads the column types of a message; some variants leave them out.
func (d *Decoder) mysqlTypes(types, sqlTypes schemas.JSON) (*described, error) {
	var text, sql string
	if types.Kind == schemas.JSONObject {
		text = types.Text
	}
	if sqlTypes.Kind == schemas.JSONObject {
		sql = sqlTypes.Text
	}
	if text == "" && sql == "" {
		return &described{}, nil
	}
	if last := d.types.Load(); last != nil && last.text == text && last.sql == sql {
		return last, nil
	}
	desc := &described{text: text, sql: sql, types: map[string]schemas.ColumnType{}, bytes: map[string]bool{}, unlabelled: map[string]bool{}}
	if text != "" {
		err := schemas.WalkObject(text, func(name string, v schemas.JSON) error {
			t, ok := schemas.ParseColumnType(v.Text)
			desc.types[name] = t
			base, _, _ := strings.Cut(strings.ToLower(v.Text), "(")
			desc.unlabelled[name] = !ok && (base == "enum" || base == "set")
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	if sql != "" {
		err := schemas.WalkObject(sql, func(name string, v schemas.JSON) error {
			switch v.Text { // java.sql.Types
			case "2004", "-2", "-3", "-4": // BLOB, BINARY, VARBINARY, LONGVARBINARY
				desc.bytes[name] = true
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	d.types.Store(desc)
	return desc, nil
}

// converter converts texts by the type that the message names, else by the declared one.
func (r canal) converter(desc *described) func(*column, schemas.JSON) (cell, error) {
	return func(c *column, v schemas.JSON) (cell, error) {
		switch v.Kind {
		case schemas.JSONNull:
			return cell{}, nil
		case schemas.JSONArray, schemas.JSONObject:
			return cell{}, c.mismatch()
		default:
		}
		t, told := desc.types[c.Name]
		switch {
		case told && t.Base != "":
		case told && !c.declared && (desc.unlabelled[c.Name] || c.typ.Base == ""):
			return cell{}, c.undeclared() // a number of a label, or a type that is not known here
		default:
			t = c.typ
		}
		text, bytes := v.Text, desc.bytes[c.Name]
		switch {
		case bytes && t.Base == "":
			return cell{}, c.undeclared()
		case t.IsText() || t.Base == "json":
			var err error
			if text, err = c.canalText(text, t, bytes); err != nil {
				return cell{}, err
			}
		}
		return r.value(c, text, t)
	}
}

// canalText undoes what Canal does to texts whose type it does not know for text: JSON of a table that was created while
// it ran, and TEXT(n). It writes their bytes as the characters of the same code points and says sqlType 2004. One sqlType
// serves all rows of a message, and NULL changes it, so the text itself has to agree.
func (c *column) canalText(text string, t schemas.ColumnType, bytes bool) (string, error) {
	doubtful := t.Base == "json" || t.Length > 0 && strings.HasSuffix(t.Base, "text")
	if !bytes && !doubtful {
		return text, nil
	}
	b, ok := latin1(text)
	switch {
	case !ok || len(b) == len(text): // not bytes, or all of it ASCII
		return text, nil
	case bytes && utf8.Valid(b):
		return string(b), nil
	case bytes:
		return "", c.refuse("holds bytes that are no UTF-8", "let the column be utf8mb4")
	case utf8.Valid(b):
		return "", c.refuse("may be text, or bytes that Canal wrote as text: its sqlType does not agree", "restart Canal so that it reads the table's types again, then write the row again")
	}
	return text, nil
}
