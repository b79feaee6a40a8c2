package draft

import (
	"strconv"
	"strings"

	"github.com/freshet/freshet/schemas"
)

// fieldOf returns a field of a Connect struct.
func fieldOf(schema members, name string) members {
	var found members
	if schema["fields"].Kind != schemas.JSONArray {
		return nil
	}
	_ = schemas.WalkArray(schema["fields"].Text, func(v schemas.JSON) error { // it was read before
		if m, err := membersOf(v.Text); err == nil && m["field"].Text == name {
			found = m
		}
		return nil
	})
	return found
}

// connectTypes are the column types that the fields of a Connect struct stand for, as far as they say.
func connectTypes(schema members) map[string]schemas.ColumnType {
	types := map[string]schemas.ColumnType{}
	if schema["fields"].Kind != schemas.JSONArray {
		return types
	}
	_ = schemas.WalkArray(schema["fields"].Text, func(v schemas.JSON) error { // it was read before
		if m, err := membersOf(v.Text); err == nil {
			types[m["field"].Text] = connectType(m)
		}
		return nil
	})
	return types
}

func connectType(field members) schemas.ColumnType {
	params := field.object("parameters")
	length, _ := strconv.Atoi(params["length"].Text) // absent is 0
	if text := params["__debezium.source.column.type"].Text; text != "" {
		if t, ok := sourceType(text, params["__debezium.source.column.length"].Text, params["__debezium.source.column.scale"].Text); ok {
			return t
		}
	}
	switch field["name"].Text {
	case "org.apache.kafka.connect.data.Decimal":
		precision, _ := strconv.Atoi(params["connect.decimal.precision"].Text)
		scale, _ := strconv.Atoi(params["scale"].Text)
		if precision > 0 {
			return schemas.ColumnType{Base: "decimal", Precision: precision, Scale: scale}
		}
	case "io.debezium.time.Date", "org.apache.kafka.connect.data.Date", "io.debezium.time.IsoDate":
		return schemas.ColumnType{Base: "date"}
	case "io.debezium.time.Timestamp", "org.apache.kafka.connect.data.Timestamp", "io.debezium.time.MicroTimestamp", "io.debezium.time.NanoTimestamp",
		"io.debezium.time.ZonedTimestamp", "io.debezium.time.IsoTimestamp":
		return schemas.ColumnType{Base: "datetime", Length: 6}
	case "io.debezium.time.Time", "io.debezium.time.MicroTime", "io.debezium.time.NanoTime", "org.apache.kafka.connect.data.Time", "io.debezium.time.IsoTime":
		return schemas.ColumnType{Base: "time", Length: 6}
	case "io.debezium.time.Year":
		return schemas.ColumnType{Base: "year"}
	case "io.debezium.data.Bits":
		return schemas.ColumnType{Base: "bit", Length: length}
	case "io.debezium.data.Enum":
		return schemas.ColumnType{Base: "enum", Labels: labelsOf(params["allowed"].Text)}
	case "io.debezium.data.EnumSet":
		return schemas.ColumnType{Base: "set", Labels: labelsOf(params["allowed"].Text)}
	case "io.debezium.data.Json":
		return schemas.ColumnType{Base: "json"}
	}
	return map[string]schemas.ColumnType{
		"int8": {Base: "tinyint"}, "int16": {Base: "smallint"}, "int32": {Base: "int"}, "int64": {Base: "bigint"}, "float": {Base: "float"}, "float32": {Base: "float"},
		"double": {Base: "double"}, "float64": {Base: "double"}, "boolean": {Base: "bit", Length: 1}, "bytes": {Base: "longblob"}, // of a string only values show more
	}[field["type"].Text]
}

// sourceType is the type that column.propagate.source.type adds: its name, and its length and scale apart.
func sourceType(name, length, scale string) (schemas.ColumnType, bool) {
	base, rest, _ := strings.Cut(name, " ")
	if length != "" && !strings.Contains(base, "(") {
		if scale != "" {
			length += "," + scale
		}
		base += "(" + length + ")"
	}
	return schemas.ParseColumnType(base + " " + rest)
}

// labelsOf splits the labels of an enum; a comma within one has a backslash.
func labelsOf(text string) []string {
	parts := strings.Split(strings.ReplaceAll(text, `\,`, "\x00"), ",")
	for i := range parts {
		parts[i] = strings.ReplaceAll(parts[i], "\x00", ",")
	}
	return parts
}
