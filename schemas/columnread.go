package schemas

import (
	"encoding/base64"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/freshet/freshet/internal/jsontext"
)

// The layout of date-times in Row.Values, and of those that a driver returns as text.
const columnMoment = "2006-01-02 15:04:05.999999"

// ColumnValue brings what a driver of database/sql returns for a column of type t into the form of Row.Values. A zero t is the
// type that the property has by default. Values are those of a session in UTC whose character set is utf8mb4; FLOAT needs a
// prepared statement, since the server rounds it when it writes text. Errors are FieldErrors.
func (p *Property) ColumnValue(t ColumnType, v any) (any, error) {
	if b, ok := v.([]byte); ok && t.IsBinary() {
		return append([]byte{}, b...), nil // the driver's memory
	}
	text, ok := columnText(t, v)
	switch {
	case v == nil:
		return nil, nil //nolint:nilnil // NULL is a value
	case !ok:
		return nil, p.unread("has a value of an unexpected type", "")
	}
	var got any
	var err error
	switch p.Kind {
	case KindInteger:
		if p.Unsigned {
			got, err = strconv.ParseUint(text, 10, 64)
		} else {
			got, err = strconv.ParseInt(text, 10, 64)
		}
	case KindBoolean:
		got, err = strconv.ParseInt(text, 10, 64)
	case KindNumber:
		var f float64
		if f, err = strconv.ParseFloat(text, 64); t.Base == "float" {
			f = float64(float32(f))
		}
		got = f
	case KindDate:
		got = text[:min(len(text), len(time.DateOnly))]
	case KindString, KindDecimal, KindDateTime, KindJSON:
		got = text
	}
	if err != nil {
		return nil, p.unread("is not a number that the property can hold", "compare the property with the column: a BIGINT UNSIGNED needs its maximum")
	}
	return got, nil
}

// columnText returns the text of a driver's value, as the server would write it.
func columnText(t ColumnType, v any) (string, bool) {
	switch v := v.(type) {
	case []byte:
		if t.Base == "bit" {
			return bitsText(v)
		}
		return string(v), true
	case string:
		return v, true
	case time.Time: // a connector with parseTime
		return v.UTC().Format(columnMoment), true
	case int64:
		return strconv.FormatInt(v, 10), true
	case uint64:
		return strconv.FormatUint(v, 10), true
	case float64:
		return strconv.FormatFloat(v, 'g', -1, 64), true
	case float32:
		return strconv.FormatFloat(float64(v), 'g', -1, 32), true
	case bool:
		if v {
			return "1", true
		}
		return "0", true
	}
	return "", false
}

// bitsText is the number of a BIT column, whose bytes come in the order of the network.
func bitsText(b []byte) (string, bool) {
	var n uint64
	for _, c := range b {
		n = n<<8 | uint64(c)
	}
	return strconv.FormatUint(n, 10), len(b) <= 8
}

// JSONValue returns the property's value in a record, ready for encoding/json, from what a driver returns for a column of type t:
// bytes become base64 text, BIT and YEAR integers, date-times RFC 3339 in UTC, SET its labels joined by commas, TIME its text, and
// NULL nil. A zero t is the type that the property has by default; Row.Values are values, too. It converts columns of every type
// whose values the property can hold, also of the database that a record comes from, and never rounds. Errors are FieldErrors.
func (p *Property) JSONValue(t ColumnType, v any) (any, error) {
	if v == nil {
		return nil, nil //nolint:nilnil // NULL is a value
	}
	if t.Base != "" && !t.fits(p.Kind) {
		return nil, p.unread("is in a column whose values it cannot hold", "change the property in the schema")
	}
	if p.Kind == KindNumber {
		return p.jsonNumber(t, v)
	}
	value, err := p.ColumnValue(t, v)
	if err != nil {
		return nil, err
	}
	switch value := value.(type) {
	case []byte:
		if p.Kind == KindString {
			return base64.StdEncoding.EncodeToString(value), nil
		}
	case string:
		return p.jsonText(value)
	case int64:
		if p.Kind == KindBoolean && value != 0 && value != 1 {
			return nil, p.unread("is neither 0 nor 1", "make the property an integer")
		} else if p.Kind == KindBoolean {
			return value == 1, nil
		}
	}
	return value, nil
}

// jsonNumber keeps the digits of a DECIMAL, and those by which a FLOAT is known.
func (p *Property) jsonNumber(t ColumnType, v any) (any, error) {
	text, ok := columnText(t, v)
	if ok && t.Base == "decimal" {
		text = trimZeros(text)
	}
	switch v := v.(type) {
	case float64:
		if t.Base != "float" {
			return v, nil
		}
		return shortest(float32(v)), nil
	case float32:
		return shortest(v), nil
	}
	if n, err := jsontext.ParseValue(text); !ok || err != nil || n.Shape != jsontext.Number {
		return nil, p.unread("has a value of an unexpected type", "")
	}
	return json.Number(text), nil
}

// shortest is the number of the fewest digits that a FLOAT is known by.
func shortest(v float32) float64 {
	f, err := strconv.ParseFloat(strconv.FormatFloat(float64(v), 'g', -1, 32), 64)
	if err != nil {
		return float64(v)
	}
	return f
}

// jsonText converts what Row.Values has as text.
func (p *Property) jsonText(text string) (any, error) {
	switch p.Kind {
	case KindDateTime:
		t, err := time.Parse(columnMoment, text)
		if err != nil || t.Year() < 1 {
			return nil, p.unread("is a date that does not exist", "correct the row, or make the property a plain string")
		}
		return t.Format(time.RFC3339Nano), nil
	case KindDate:
		if year, _, _, ok := readDate(text); !ok || year < 1 {
			return nil, p.unread("is a date that does not exist", "correct the row, or make the property a plain string")
		}
	case KindDecimal:
		return trimZeros(text), nil
	case KindJSON:
		v, err := ReadJSON(text)
		if err != nil {
			return nil, p.unread("is not valid JSON", "correct the row, or make the property a plain string")
		}
		if v.Kind == JSONString {
			return v.Text, nil
		}
		return json.RawMessage(v.Text), nil
	default:
	}
	if !utf8.ValidString(text) {
		return nil, p.unread("is not valid UTF-8", "read it over a connection whose character set is utf8mb4")
	}
	return text, nil
}

// trimZeros takes away the zeros that ZEROFILL puts before a number.
func trimZeros(text string) string {
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	for len(text) > 1 && text[0] == '0' && jsontext.IsDigit(text[1]) {
		text = text[1:]
	}
	return sign + text
}

// unread is the refusal of a column's value.
func (p *Property) unread(problem, fix string) error {
	return &FieldError{Field: "data/" + nameForError(p.Name), Problem: problem, Fix: fix, Reason: ReasonSchema}
}

// AppendState appends the JSON object of a record's full state, made from a row: values has what a driver returns for each of
// Replica.Columns, or Row.Values. types are the types of the columns that the values come from, in the same order; nil stands for
// the replica's own. A property that is NULL is left out unless the schema requires it. What it returns is Event.Data of an upsert,
// which Check has still to see. Errors are FieldErrors.
func (d *Dataset) AppendState(buf []byte, types []ColumnType, values []any) ([]byte, error) {
	buf = append(buf, '{')
	first := true
	for i := range d.Replica.Columns {
		c := &d.Replica.Columns[i]
		t := c.Type
		if types != nil {
			t = types[i]
		}
		v, err := c.Property.JSONValue(t, values[i])
		if err != nil {
			return buf, err
		}
		if v == nil && !d.requires(c.Property.Name) {
			continue
		}
		if !first {
			buf = append(buf, ',')
		}
		first = false
		buf = append(appendJSONString(buf, c.Property.Name), ':')
		if buf, err = appendValue(buf, v); err != nil {
			return buf, c.Property.unread("cannot be written as JSON", "")
		}
	}
	return append(buf, '}'), nil
}

// appendValue appends what JSONValue returned.
func appendValue(buf []byte, v any) ([]byte, error) {
	switch v := v.(type) {
	case nil:
		return append(buf, "null"...), nil
	case string:
		return appendJSONString(buf, v), nil
	case int64:
		return strconv.AppendInt(buf, v, 10), nil
	case uint64:
		return strconv.AppendUint(buf, v, 10), nil
	case bool:
		return strconv.AppendBool(buf, v), nil
	case json.RawMessage:
		return append(buf, v...), nil
	case json.Number:
		return append(buf, v...), nil
	}
	text, err := json.Marshal(v)
	return append(buf, text...), err
}

// requires reports whether the schema wants a property to be present, if only as null.
func (d *Dataset) requires(property string) bool {
	r := d.compiled.rules
	i, ok := r.index[property]
	return ok && slices.Contains(r.required, i)
}
