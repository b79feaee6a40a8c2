package cdc

import (
	"encoding/base64"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/schemas"
)

// unavailable is what Debezium writes for a value that the database's log does not have, as text and as bytes.
func unavailable(s string) bool {
	return s == "__debezium_unavailable_value" || s == "X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ==" ||
		s == "5f5f646562657a69756d5f756e617661696c61626c655f76616c7565"
}

// converter converts values by their schema, if the record has one, else by the column's type.
func (r debezium) converter(desc *described) func(*column, schemas.JSON) (cell, error) {
	return func(c *column, v schemas.JSON) (cell, error) {
		switch {
		case v.Kind == schemas.JSONNull:
			return cell{}, nil
		case v.Kind == schemas.JSONString && unavailable(v.Text),
			v.Kind == schemas.JSONArray && strings.Contains(v.Text, "debezium_unavailable_value"):
			return cell{}, partial(c.Name)
		}
		if desc != nil {
			if f, ok := desc.fields[c.Name]; ok {
				return r.bySchema(c, v, f)
			}
		}
		return r.byType(c, v)
	}
}

// bySchema converts a value that Connect's schema explains; what it leaves open, the column's type explains.
func (r debezium) bySchema(c *column, v schemas.JSON, f field) (cell, error) {
	switch f.name {
	case "org.apache.kafka.connect.data.Decimal":
		return c.preciseDecimal(v, f.scale)
	case "io.debezium.time.Date", "org.apache.kafka.connect.data.Date":
		return c.days(v)
	case "io.debezium.time.Timestamp", "org.apache.kafka.connect.data.Timestamp":
		return c.moment(v, time.Millisecond)
	case "io.debezium.time.MicroTimestamp":
		return c.moment(v, time.Microsecond)
	case "io.debezium.time.NanoTimestamp":
		return c.moment(v, time.Nanosecond)
	case "io.debezium.time.Time", "org.apache.kafka.connect.data.Time":
		return c.clock(v, time.Millisecond)
	case "io.debezium.time.MicroTime":
		return c.clock(v, time.Microsecond)
	case "io.debezium.time.NanoTime":
		return c.clock(v, time.Nanosecond)
	case "io.debezium.time.Year":
		return c.integer(v, r.d.rules.PreciseDecimals, wide{told: true})
	case "io.debezium.time.IsoDate":
		return c.days(v)
	case "io.debezium.time.IsoTime":
		return c.clock(v, time.Microsecond)
	case "io.debezium.data.Bits":
		return c.bits(v)
	case "io.debezium.data.Enum":
		return c.enum(v)
	case "io.debezium.time.ZonedTimestamp", "io.debezium.time.IsoTimestamp":
		if v.Kind == schemas.JSONString && (c.Kind == schemas.KindDateTime || c.Kind == schemas.KindString) {
			return c.isoMoment(v.Text)
		}
	}
	switch f.typ {
	case "bytes":
		b, ok := readBinary(v.Text, schemas.BinaryBase64)
		if v.Kind != schemas.JSONString || !ok {
			return cell{}, c.mismatch()
		}
		return padded(b, c.typ), nil
	case "int8", "int16", "int32":
		return c.integer(v, r.d.rules.PreciseDecimals, wide{told: true})
	case "int64":
		w := c.wide()
		if f.source.Base != "" && !c.declared {
			w = wide{told: true, unsigned: f.source.Base == "bigint" && f.source.Unsigned}
		}
		return c.integer(v, r.d.rules.PreciseDecimals, w)
	}
	return r.byType(c, v)
}

// byType converts a value by the type that the column is declared to have, or that its property suggests.
func (r debezium) byType(c *column, v schemas.JSON) (cell, error) {
	switch t := c.typ; {
	case v.Kind == schemas.JSONObject && t.Base != "json" && t.Base != "":
		return c.variableScale(v)
	case t.IsInteger():
		return c.integer(v, r.d.rules.PreciseDecimals, c.wide())
	case t.IsBinary():
		b, ok := readBinary(v.Text, r.d.rules.Binary)
		if v.Kind != schemas.JSONString || !ok {
			return cell{}, c.mismatch()
		}
		return padded(b, t), nil
	default:
		return r.byBase(c, v)
	}
}

func (r debezium) byBase(c *column, v schemas.JSON) (cell, error) {
	unit := time.Microsecond
	if r.d.rules.ConnectTimes {
		unit = time.Millisecond
	}
	switch c.typ.Base {
	case "year":
		return c.integer(v, r.d.rules.PreciseDecimals, wide{told: true})
	case "bit":
		return c.bits(v)
	case "decimal":
		return r.decimal(c, v)
	case "float", "double":
		if v.Kind == schemas.JSONNumber {
			return cell{cellFloat, v.Text}, nil
		}
		if v.Kind == schemas.JSONString && r.d.rules.PreciseDecimals {
			return cell{}, c.undeclared() // the bytes mean nothing without a scale
		}
		return r.decimal(c, v) // a decimal whose property is a number
	case "date":
		return c.days(v)
	case "datetime", "timestamp":
		if c.typ.Length <= 3 {
			unit = time.Millisecond
		}
		return c.moment(v, unit)
	case "time":
		return c.clock(v, unit)
	case "enum":
		return c.enum(v)
	case "json":
		switch v.Kind {
		case schemas.JSONString, schemas.JSONArray, schemas.JSONObject:
			return cell{cellJSON, v.Text}, nil
		default:
		}
		return cell{}, c.mismatch()
	case "":
		if v.Kind == schemas.JSONString && c.Kind == schemas.KindDateTime {
			return c.isoMoment(v.Text)
		}
		if v.Kind != schemas.JSONString || strings.Contains(v.Text, `\,`) { // text, or a label of an enum with a comma
			return cell{}, c.undeclared()
		}
	}
	if v.Kind != schemas.JSONString {
		return cell{}, c.mismatch()
	}
	return cell{cellText, v.Text}, nil
}

// wide is what is known of a column that Debezium writes as a 64-bit integer.
type wide struct {
	// unsigned: it is BIGINT UNSIGNED, whose upper half comes as negative numbers.
	unsigned bool
	// told: something reports whether it is, so that a negative number is one.
	told bool
}

// wide is what the declaration says of the column. A property alone says it by its bounds.
func (c *column) wide() wide {
	unsigned := c.typ.Unsigned && c.typ.Base == "bigint"
	return wide{unsigned: unsigned, told: unsigned || c.declared || c.Signed}
}

// integer also undoes what bigint.unsigned.handling.mode does: long wraps at 2^63, precise writes bytes. A text that begins
// with a digit would be a negative number as bytes, so the two forms of text cannot be confused.
func (c *column) integer(v schemas.JSON, precise bool, w wide) (cell, error) {
	unsigned := w.unsigned
	switch v.Kind {
	case schemas.JSONBoolean:
		return cell{cellBoolean, v.Text}, nil
	case schemas.JSONNumber:
		text := v.Text
		if !isInteger(text) {
			return cell{}, c.mismatch()
		}
		switch {
		case text[0] != '-':
		case unsigned:
			var ok bool
			if text, ok = wrapped(text); !ok {
				return cell{}, c.mismatch()
			}
		case !w.told:
			return cell{}, c.refuse("is negative, or the upper half of BIGINT UNSIGNED, which Debezium writes so",
				"declare its type: cdc.columns."+c.Name+": the type by SHOW COLUMNS; or give the property a minimum")
		}
		return cell{cellInteger, text}, nil
	case schemas.JSONString:
		if isInteger(v.Text) && (unsigned || !precise) {
			return cell{cellInteger, v.Text}, nil
		}
		if b, err := base64.StdEncoding.DecodeString(v.Text); err == nil && unsigned && len(b) > 0 && len(b) <= 9 {
			if text := bigEndian(b, 0); text[0] != '-' {
				return cell{cellInteger, text}, nil
			}
		}
	default:
	}
	return cell{}, c.mismatch()
}

func (r debezium) decimal(c *column, v schemas.JSON) (cell, error) {
	switch {
	case v.Kind == schemas.JSONNumber: // decimal.handling.mode double: writeDecimal refuses it, a number property takes it
		return cell{cellFloat, v.Text}, nil
	case v.Kind != schemas.JSONString:
		return cell{}, c.mismatch()
	case r.d.rules.PreciseDecimals:
		return c.preciseDecimal(v, c.typ.Scale)
	case !isNumber(v.Text):
		return cell{}, c.refuse("is a decimal in no readable form", "set decimal.handling.mode to string; or write cdc.decimals: precise, if the column's scale never changes")
	}
	return cell{cellNumber, v.Text}, nil
}

func (c *column) preciseDecimal(v schemas.JSON, scale int) (cell, error) {
	b, err := base64.StdEncoding.DecodeString(v.Text)
	if v.Kind != schemas.JSONString || err != nil || len(b) == 0 || len(b) > 64 {
		return cell{}, c.mismatch()
	}
	text := bigEndian(b, scale)
	if isInteger(text) {
		return cell{cellInteger, text}, nil
	}
	return cell{cellNumber, text}, nil
}

// variableScale reads {scale, value}: decimals of columns without a scale.
func (c *column) variableScale(v schemas.JSON) (cell, error) {
	scale, have := 0, 0
	var value schemas.JSON
	err := schemas.WalkObject(v.Text, func(name string, v schemas.JSON) error {
		switch name {
		case "scale":
			n, err := strconv.Atoi(v.Text)
			if err != nil || n < -100 || n > 100 {
				return c.mismatch()
			}
			scale = n
			have++
		case "value":
			value = v
			have++
		}
		return nil
	})
	if err != nil || have != 2 {
		return cell{}, c.mismatch()
	}
	return c.preciseDecimal(value, scale)
}

func number(v schemas.JSON) (int64, bool) {
	if v.Kind != schemas.JSONNumber {
		return 0, false
	}
	n, err := strconv.ParseInt(v.Text, 10, 64)
	return n, err == nil
}

func (c *column) days(v schemas.JSON) (cell, error) {
	// With time.precision.mode=isostring a date ends with its offset, which is always UTC's.
	if text := strings.TrimSuffix(v.Text, "Z"); v.Kind == schemas.JSONString && isDatePart(text) {
		return cell{cellDate, text}, nil
	}
	if n, ok := number(v); ok {
		if text, ok := dateOf(n); ok {
			return cell{cellDate, text}, nil
		}
	}
	return cell{}, c.mismatch()
}

func (c *column) moment(v schemas.JSON, unit time.Duration) (cell, error) {
	if v.Kind == schemas.JSONString {
		return c.isoMoment(v.Text)
	}
	n, ok := number(v)
	if !ok {
		return cell{}, c.mismatch()
	}
	t := time.UnixMilli(n)
	switch unit {
	case time.Microsecond:
		t = time.UnixMicro(n)
	case time.Nanosecond:
		t = time.Unix(0, n)
	default:
	}
	text, ok := dateTimeOf(t)
	if !ok {
		return cell{}, c.mismatch()
	}
	return cell{cellDateTime, text}, nil
}

func (c *column) isoMoment(s string) (cell, error) {
	text, ok := readMoment(s)
	if !ok {
		return cell{}, c.mismatch()
	}
	return cell{cellDateTime, text}, nil
}

func (c *column) clock(v schemas.JSON, unit time.Duration) (cell, error) {
	if v.Kind == schemas.JSONString {
		return cell{cellText, strings.TrimSuffix(v.Text, "Z")}, nil
	}
	const most = 840 * time.Hour // TIME ends at 838:59:59
	n, ok := number(v)
	if !ok || n > int64(most/unit) || n < -int64(most/unit) {
		return cell{}, c.mismatch()
	}
	return cell{cellText, timeOf((time.Duration(n) * unit).Microseconds(), c.typ.Length)}, nil
}

func (c *column) bits(v schemas.JSON) (cell, error) {
	switch v.Kind {
	case schemas.JSONBoolean:
		return cell{cellBoolean, v.Text}, nil
	case schemas.JSONString:
		b, err := base64.StdEncoding.DecodeString(v.Text)
		if n, ok := littleEndian(b); ok && err == nil {
			return cell{cellInteger, strconv.FormatUint(n, 10)}, nil
		}
	default:
	}
	return cell{}, c.mismatch()
}

// enum undoes the backslash that Debezium puts before a comma in a label.
func (c *column) enum(v schemas.JSON) (cell, error) {
	if v.Kind != schemas.JSONString {
		return cell{}, c.mismatch()
	}
	return cell{cellText, strings.ReplaceAll(v.Text, `\,`, ",")}, nil
}
