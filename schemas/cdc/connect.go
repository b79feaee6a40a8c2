package cdc

import (
	"strconv"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// field is a column as Kafka Connect's schema part describes it.
type field struct {
	typ   string // "int64", "bytes", "string" …
	name  string // what the value means: "io.debezium.time.MicroTimestamp" …
	scale int
	// source is the captured column's type, "" unless column.propagate.source.type is set.
	source schemas.ColumnType
}

// unwrap takes apart Connect's {schema, payload}; without the wrapper the value is the payload and schema is "".
func unwrap(text string) (payload schemas.JSON, schema string, err error) {
	var have, other int
	var wrapper schemas.JSON
	err = schemas.WalkObject(text, func(name string, v schemas.JSON) error {
		switch {
		case name == "payload":
			payload = v
			have++
		case name == "schema" && (v.Kind == schemas.JSONObject || v.Kind == schemas.JSONNull):
			wrapper = v
			have++
		default:
			other++
		}
		return nil
	})
	if err != nil {
		return payload, "", err
	}
	if have != 2 || other != 0 {
		return schemas.JSON{Kind: schemas.JSONObject, Text: text}, "", nil
	}
	return payload, wrapper.Text, nil
}

// connectSchema is a Connect schema: what it is called, and its fields (for an envelope: those of its rows).
func (d *Decoder) connectSchema(text string) (*described, error) {
	if text == "" || text == "null" {
		return nil, nil //nolint:nilnil // no schema is not a fault
	}
	if last := d.types.Load(); last != nil && last.text == text {
		return last, nil
	}
	desc := &described{text: text, fields: map[string]field{}}
	var list schemas.JSON
	err := schemas.WalkObject(text, func(name string, v schemas.JSON) error {
		switch name {
		case "name":
			desc.name = v.Text
		case "fields":
			list = v
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if list.Kind != schemas.JSONArray {
		return desc, nil
	}
	err = readFields(list.Text, func(name string, f field, inner schemas.JSON) error {
		switch {
		case !strings.HasSuffix(desc.name, envelopeSuffix):
			desc.fields[name] = f
		case (name == "after" || name == "before") && inner.Kind == schemas.JSONArray:
			return readFields(inner.Text, func(name string, f field, _ schemas.JSON) error {
				desc.fields[name] = f
				return nil
			})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	d.types.Store(desc)
	return desc, nil
}

const envelopeSuffix = ".Envelope"

// readFields calls fn with each field of a struct; inner are the fields of a field that is a struct itself.
func readFields(list string, fn func(name string, f field, inner schemas.JSON) error) error {
	return schemas.WalkArray(list, func(item schemas.JSON) error {
		var f field
		var column string
		var inner schemas.JSON
		err := schemas.WalkObject(item.Text, func(name string, v schemas.JSON) error {
			switch name {
			case "field":
				column = v.Text
			case "type":
				f.typ = v.Text
			case "name":
				f.name = v.Text
			case "fields":
				inner = v
			case "parameters":
				if v.Kind == schemas.JSONObject {
					return f.readParameters(v.Text)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		return fn(column, f, inner)
	})
}

func (f *field) readParameters(text string) error {
	return schemas.WalkObject(text, func(name string, v schemas.JSON) error {
		switch name {
		case "__debezium.source.column.type":
			f.source, _ = schemas.ParseColumnType(v.Text)
			return nil
		case "scale":
		default:
			return nil
		}
		n, err := strconv.Atoi(v.Text)
		if err != nil || n < -1000 || n > 1000 {
			return malformed("schema", "has a scale that is not a number")
		}
		f.scale = n
		return nil
	})
}
