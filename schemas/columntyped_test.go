package schemas_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/freshet/freshet/schemas"
)

// typed declares a dataset with one property v in a column of that type.
func typed(property, typ string) (*schemas.Datasets, error) {
	return schemas.LoadDatasets(folder(map[string]string{
		"d.yaml": "dataset: d\nschema: s.json\nkey: [id]\nreplica:\n  columns:\n    v: {type: \"" + typ + "\"}\n",
		"s.json": `{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"v":{` + property + `}}}`,
	}))
}

// TestTypeKeepsProperty: a type is taken only where it keeps every value that the schema allows.
func TestTypeKeepsProperty(t *testing.T) {
	for _, c := range []struct{ typ, property, problem string }{
		{"int", `"type":"integer","minimum":-2147483648,"maximum":2147483647`, ""},
		{"int", `"type":"integer","minimum":-2147483649,"maximum":2147483647`, "outside of its range"},
		{"int", `"type":"integer","minimum":0,"maximum":2147483648`, "outside of its range"},
		{"int", `"type":"integer"`, "no bounds"},
		{"int", `"type":"integer","minimum":0`, "no bounds"},
		{"int(11) unsigned zerofill", `"type":"integer","minimum":0,"maximum":4294967295`, ""},
		{"tinyint unsigned", `"type":"integer","minimum":-1,"maximum":255`, "outside of its range"},
		{"mediumint", `"type":"integer","exclusiveMinimum":-8388608,"exclusiveMaximum":8388607`, ""},
		{"bigint", `"type":"integer"`, ""},
		{"bigint unsigned", `"type":"integer","minimum":0`, ""},
		{"bigint unsigned", `"type":"integer"`, "outside of its range"},
		{"bit(12)", `"type":"integer","minimum":0,"maximum":4095`, ""},
		{"bit(12)", `"type":"integer","minimum":0,"maximum":4096`, "outside of its range"},
		{"bit(1)", `"type":"boolean"`, ""},
		{"bit(2)", `"type":"boolean"`, "does not hold a boolean"},
		{"year", `"type":"integer","minimum":1901,"maximum":2155`, ""},
		{"decimal(10,0)", `"type":"integer","minimum":0,"maximum":9999999999`, ""},
		{"decimal(10,2)", `"type":"integer","minimum":0,"maximum":9`, "does not hold an integer"},
		{"float", `"type":"number"`, ""},
		{"float(7,2)", `"type":"number"`, "rounds to its digits"},
		{"double", `"type":"number"`, ""},
		{"decimal(10,2)", `"type":"number"`, "does not hold a number"},
		{"int", `"type":"number"`, "does not hold a number"},
		{"decimal(10,2) unsigned", `"type":"string","x-decimal":"10,2"`, ""},
		{"decimal(12,4)", `"type":"string","x-decimal":"10,2"`, ""},
		{"decimal(11,4)", `"type":"string","x-decimal":"10,2"`, "narrower"},
		{"datetime", `"type":"string","format":"date-time"`, ""},
		{"timestamp(3)", `"type":"string","format":"date-time"`, ""},
		{"date", `"type":"string","format":"date-time"`, "does not hold a date-time"},
		{"date", `"type":"string","format":"date"`, ""},
		{"time(3)", `"type":"string"`, ""},
		{"char(10)", `"type":"string","maxLength":10`, ""},
		{"char(10)", `"type":"string","maxLength":11`, `"maxLength": 10 or less`},
		{"varchar(10)", `"type":"string"`, `"maxLength": 10 or less`},
		{"text", `"type":"string","maxLength":16383`, ""},
		{"text", `"type":"string","maxLength":16384`, `"maxLength": 16383 or less`},
		{"mediumtext", `"type":"string"`, ""},
		{"mediumtext", `"type":"object"`, ""},
		{"text", `"type":"object"`, "does not hold an object"},
		{"enum('a','b')", `"type":"string","enum":["a"]`, ""},
		{"enum('a','b')", `"type":["string","null"],"enum":["a",null]`, ""},
		{"enum('a','b')", `"type":"string","const":"b"`, ""},
		{"enum('a','b')", `"type":"string","enum":["a","A"]`, "lacks values"},
		{"enum('a','b')", `"type":"string"`, "may be any"},
		{"set('a','b')", `"type":"string"`, ""},
		{"varbinary(16)", `"type":"string","contentEncoding":"base64","maxLength":24`, ""},
		{"varbinary(16)", `"type":"string","contentEncoding":"base64","maxLength":25`, `"maxLength": 24 or less`},
		{"varbinary(16)", `"type":"string","maxLength":16`, "contentEncoding"},
		{"longblob", `"type":"string","contentEncoding":"base64"`, ""},
		{"point", `"type":"string","contentEncoding":"base64"`, "does not write"},
		{"money", `"type":"integer"`, "is not a column type"},
	} {
		t.Run(c.typ+" "+c.property, func(t *testing.T) {
			_, err := typed(c.property, c.typ)
			switch {
			case c.problem == "" && err != nil:
				t.Errorf("got %v, want no error", err)
			case c.problem != "" && (err == nil || !strings.Contains(err.Error(), c.problem) || !strings.HasPrefix(err.Error(), "d.yaml:6: replica.columns.v.type: ")):
				t.Errorf("got %v, want an error of d.yaml:6 with %q", err, c.problem)
			}
		})
	}
}

// TestTypeOfColumnElsewhere: a type is refused where a name or a key depends on the text of the value.
func TestTypeOfColumnElsewhere(t *testing.T) {
	const schema = `{"type":"object","required":["id"],"properties":{"id":{"type":"string","maxLength":9},
		"n":{"type":"integer","minimum":0,"maximum":9},"at":{"type":"string"},"raw":{"type":"string","contentEncoding":"base64"}}}`
	for columns, want := range map[string]string{
		"key: [id]\nreplica: {columns: {id: {type: varchar(9)}}}":                                                         "d.yaml:4: replica.columns.id.type: is the type of a key column",
		"key: [n]\nreplica: {columns: {n: {type: bit(4)}}}":                                                               "replica.columns.n.type: is the type of a key column",
		"key: [n]\nreplica: {columns: {n: {type: tinyint}}}":                                                              "",
		"key: [n]\nreplica: {columns: {at: {type: time}}}\ncache: {key: \"d:{n}\", tags: [\"t:{at}\"]}":                   "cache: uses {at} in a template, and its column is time",
		"key: [n]\nreplica: {columns: {raw: {type: blob}}}\ncache: {key: \"d:{n}\", derived: [\"r:{raw}\"]}":              "cache: uses {raw} in a template, and its column is blob",
		"key: [n]\nreplica: {columns: {when: {property: at, type: time}, at: {property: at}}}":                            "maps at a second time",
		"key: [n]\nreplica: {columns: {at: {property: raw, type: longblob, size: 3}, other: {property: at, type: time}}}": "replica.columns.at.size: is an unknown field",
		"key: [n]\nreplica: {columns: {stamp: {property: at}, n: {}}}":                                                    "",
	} {
		_, err := schemas.LoadDatasets(folder(map[string]string{"d.yaml": "dataset: d\nschema: s.json\n" + columns, "s.json": schema}))
		if got := fmt.Sprint(err); want == "" && err != nil || want != "" && !strings.Contains(got, want) {
			t.Errorf("%s: got %v, want %q", columns, err, want)
		}
	}
}

// TestTypedValues: what a column keeps only in another form is refused, and everything else has the form that the server returns.
func TestTypedValues(t *testing.T) {
	for _, c := range []struct {
		typ, property, value string
		want                 any // nil: refused
	}{
		{"float", `"type":"number"`, `0.1`, float64(float32(0.1))},
		{"float", `"type":"number"`, `0.10000000149011612`, float64(float32(0.1))},
		{"float", `"type":"number"`, `0.12345678901`, nil},
		{"float", `"type":"number"`, `16777217`, nil},
		{"float", `"type":"number"`, `1e39`, nil},
		{"float unsigned", `"type":"number"`, `-0.5`, nil},
		{"double unsigned", `"type":"number"`, `-0.5`, nil},
		{"decimal(5,2) unsigned", `"type":"string","x-decimal":"5,2"`, `"-1.00"`, nil},
		{"decimal(5,2) unsigned", `"type":"string","x-decimal":"5,2"`, `"-0.00"`, "-0.00"},
		{"year", `"type":"integer","minimum":0,"maximum":2155`, `0`, int64(0)},
		{"year", `"type":"integer","minimum":0,"maximum":2155`, `1900`, nil},
		{"char(5)", `"type":"string","maxLength":5`, `" a"`, " a"},
		{"char(5)", `"type":"string","maxLength":5`, `"a "`, nil},
		{"datetime", `"type":"string","format":"date-time"`, `"2024-01-01T00:00:00.000Z"`, "2024-01-01 00:00:00.000000"},
		{"datetime", `"type":"string","format":"date-time"`, `"2024-01-01T00:00:00.1Z"`, nil},
		{"datetime(2)", `"type":"string","format":"date-time"`, `"2024-01-01T00:00:00.12Z"`, "2024-01-01 00:00:00.120000"},
		{"datetime(2)", `"type":"string","format":"date-time"`, `"2024-01-01T00:00:00.123Z"`, nil},
		{"timestamp", `"type":"string","format":"date-time"`, `"1970-01-01T00:00:00Z"`, nil},
		{"timestamp", `"type":"string","format":"date-time"`, `"1970-01-01T00:00:01Z"`, "1970-01-01 00:00:01.000000"},
		{"timestamp", `"type":"string","format":"date-time"`, `"2038-01-19T03:14:08Z"`, nil},
		{"time", `"type":"string"`, `"-838:59:59"`, "-838:59:59"},
		{"time", `"type":"string"`, `"839:00:00"`, nil},
		{"time", `"type":"string"`, `"1:00:00"`, nil},
		{"time", `"type":"string"`, `"001:00:00"`, nil},
		{"time", `"type":"string"`, `"01:60:00"`, nil},
		{"time", `"type":"string"`, `"01:00:00.5"`, nil},
		{"time", `"type":"string"`, `"-00:00:00"`, nil},
		{"time", `"type":"string"`, `"01:00"`, nil},
		{"time(3)", `"type":"string"`, `"01:00:00"`, "01:00:00.000"},
		{"time(3)", `"type":"string"`, `"01:00:00.25"`, "01:00:00.250"},
		{"time(3)", `"type":"string"`, `"838:59:59.1"`, nil},
		{"set('a','b','c')", `"type":"string"`, `"a,c"`, "a,c"},
		{"set('a','b','c')", `"type":"string"`, `""`, ""},
		{"set('a','b','c')", `"type":"string"`, `"c,a"`, nil},
		{"set('a','b','c')", `"type":"string"`, `"a,a"`, nil},
		{"set('a','b','c')", `"type":"string"`, `"A"`, nil},
		{"varbinary(2)", `"type":"string","contentEncoding":"base64","maxLength":4`, `"AP8="`, []byte{0, 0xFF}},
		{"varbinary(2)", `"type":"string","contentEncoding":"base64","maxLength":4`, `"AP//"`, nil},
		{"varbinary(2)", `"type":"string","contentEncoding":"base64","maxLength":4`, `"AP9="`, nil},
		{"varbinary(2)", `"type":"string","contentEncoding":"base64","maxLength":4`, `"AP8"`, nil},
		{"varbinary(9)", `"type":"string","contentEncoding":"base64","maxLength":12`, `"AP8=\n"`, nil},
		{"binary(2)", `"type":"string","contentEncoding":"base64","maxLength":4`, `"AA=="`, nil},
		{"uuid", `"type":"string"`, `"123e4567-e89b-12d3-a456-426655440000"`, "123e4567-e89b-12d3-a456-426655440000"},
		{"uuid", `"type":"string"`, `"123E4567-e89b-12d3-a456-426655440000"`, nil},
		{"inet4", `"type":"string"`, `"10.0.0.1"`, "10.0.0.1"},
		{"inet4", `"type":"string"`, `"::1"`, nil},
		{"inet6", `"type":"string"`, `"2001:db8::1"`, "2001:db8::1"},
		{"inet6", `"type":"string"`, `"2001:db8:0::1"`, nil},
	} {
		t.Run(c.typ+" "+c.value, func(t *testing.T) {
			set, err := typed(c.property, c.typ)
			if err != nil {
				t.Fatal(err)
			}
			ev := schemas.Event{Dataset: "d", Key: "1", Op: schemas.Upsert, Version: 1, Data: []byte(`{"id":1,"v":` + c.value + `}`)}
			row, err := set.All()[0].Check(&ev)
			if verdict := set.All()[0].Verify(&ev); fmt.Sprint(verdict) != fmt.Sprint(err) {
				t.Errorf("Verify returns %v, Check %v", verdict, err)
			}
			switch {
			case c.want == nil && (err == nil || !strings.HasPrefix(err.Error(), "data/v: ")):
				t.Errorf("got %v and error %v, want a refusal of data/v", row.Values, err)
			case c.want != nil && (err != nil || fmt.Sprint(row.Values[1]) != fmt.Sprint(c.want)):
				t.Errorf("got %v and error %v, want %v", row.Values, err, c.want)
			}
		})
	}
}

func TestColumnTypeString(t *testing.T) {
	for text, want := range map[string]string{
		"INT(11) UNSIGNED": "int unsigned", "tinyint(1)": "tinyint(1)", "tinyint(4)": "tinyint", "numeric(10)": "decimal(10,0)", "year(4)": "year",
		"bit(3)": "bit(3)", "datetime": "datetime", "time(3)": "time(3)", "float(7,2)": "float(7,2)", "enum('a','it''s')": "enum('a','it''s')", "varchar(20)": "varchar(20)",
		`enum('a\\b','x\ny','c\d')`: `enum('a\\b','x\ny','c\\d')`,
	} {
		typ, ok := schemas.ParseColumnType(text)
		if got := typ.String(); !ok || got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
		if again, _ := schemas.ParseColumnType(typ.String()); again.String() != want {
			t.Errorf("%s: read again it is %s", want, again)
		}
	}
}
