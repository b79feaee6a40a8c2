package cdc_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/cdctest"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

const itemSchema = `{"type": "object", "required": ["id"], "properties": {
  "id": {"type": "integer"}, "rev": {"type": ["integer", "null"]}, "name": {"type": ["string", "null"]},
  "price": {"type": ["string", "null"], "x-decimal": "10,2"}, "ratio": {"type": ["number", "null"]},
  "big": {"type": ["integer", "null"], "minimum": 0, "maximum": 18446744073709551615},
  "at": {"type": ["string", "null"], "format": "date-time"}, "day": {"type": ["string", "null"], "format": "date"},
  "on": {"type": ["boolean", "null"]}, "more": {"type": ["object", "array", "null"]}}}`

func item(t testing.TB, rules string) *schemas.Dataset {
	t.Helper()
	return load(t, map[string]string{"items.yaml": "dataset: items\nschema: s.json\nkey: [id]\nreplica: {table: items}\n" + rules, "s.json": itemSchema})
}

func record(key, value string) schemas.Record {
	rec := schemas.Record{Offset: 9}
	if key != "" {
		rec.Key = []byte(key)
	}
	if value != "" {
		rec.Value = []byte(value)
	}
	return rec
}

// said is a row in one line.
func said(r cdc.Row) string {
	s := fmt.Sprintf("%s %s @%d", r.Event.Op, r.Event.Key, r.Event.Version)
	if r.Event.Data != nil {
		s += " " + string(r.Event.Data)
	}
	if r.Err != nil {
		s += " " + string(schemas.ReasonOf(r.Err)) + ": " + r.Err.Error()
	}
	return s
}

func lines(res cdc.Result) []string {
	var out []string
	for _, r := range res.Rows {
		out = append(out, said(r))
	}
	return out
}

func TestDecode(t *testing.T) {
	const debezium, canal, maxwell = "format: debezium\n", "format: canal\ncdc: {table: shop.items}\n", "format: maxwell\ncdc: {table: shop.items}\n"
	canalOf := func(typ, data, old string) string {
		return `{"type":"` + typ + `","database":"shop","table":"items","isDdl":false,"data":` + data + `,"old":` + old + `,"mysqlType":null}`
	}
	maxwellOf := func(typ, data, old string) string {
		return `{"database":"shop","table":"items","type":"` + typ + `","ts":1,"data":` + data + `,"old":` + old + `}`
	}
	envelope := func(op, before, after string) string {
		return `{"op":"` + op + `","before":` + before + `,"after":` + after + `,"source":{"db":"shop","table":"items","ts_ms":5000}}`
	}
	for name, tc := range map[string]struct {
		rules, key, value string
		partitions        int32
		want              []string
		ignored           cdc.Ignored
	}{
		"debezium insert":          {rules: debezium, key: `{"id":1}`, value: envelope("c", "null", `{"id":1,"name":"a"}`), want: []string{`upsert 1 @10 {"id":1,"name":"a"}`}},
		"debezium snapshot":        {rules: debezium, key: `{"id":1}`, value: envelope("r", "null", `{"id":1}`), want: []string{`upsert 1 @10 {"id":1}`}},
		"debezium delete":          {rules: debezium, key: `{"id":1}`, value: envelope("d", `{"id":1,"name":"a"}`, "null"), want: []string{"delete 1 @10"}},
		"debezium delete by key":   {rules: debezium, key: `{"id":1}`, value: envelope("d", `null`, "null"), want: []string{"delete 1 @10"}},
		"debezium tombstone":       {rules: debezium, key: `{"id":1}`, want: []string{"delete 1 @10"}},
		"debezium key text":        {rules: debezium, key: `1`, want: []string{"delete 1 @10"}},
		"debezium wrapped key":     {rules: debezium, key: `{"schema":{"type":"struct"},"payload":{"id":1}}`, want: []string{"delete 1 @10"}},
		"debezium keyless":         {rules: debezium, ignored: cdc.Tombstone},
		"debezium other key":       {rules: debezium, key: `{"id":2}`, value: envelope("c", "null", `{"id":1}`), want: []string{`upsert 1 @10 key: key: contradicts the record's key`}},
		"debezium no key":          {rules: debezium, value: envelope("c", "null", `{"id":1}`), want: []string{`upsert 1 @10 {"id":1}`}},
		"debezium no key, several": {rules: debezium, value: envelope("c", "null", `{"id":1}`), partitions: 2, want: []string{`upsert 1 @10 key: key: the record is not keyed by the dataset's key, so its order is not kept over several partitions; key the topic by the dataset's key, use one partition, or a version column`}},
		"debezium other table":     {rules: "format: debezium\ncdc: {table: shop.others}\n", key: `{"id":1}`, value: envelope("c", "null", `{"id":1}`), ignored: cdc.OtherTable},
		"debezium message":         {rules: debezium, key: `{"prefix":"a"}`, value: `{"op":"m","message":{}}`, ignored: cdc.Message},
		"debezium unavailable":     {rules: debezium, key: `{"id":1}`, value: envelope("u", "null", `{"id":1,"name":"__debezium_unavailable_value"}`), want: []string{`upsert 1 @10 partial: data/name: is not in the record, though the row has it; capture full rows: binlog_row_image=FULL, or REPLICA IDENTITY FULL`}},
		"debezium no op":           {rules: debezium, key: `{"id":1}`, value: `{"id":1}`, want: []string{`unknown  @0 malformed: op: is missing: the value is not a change event of Debezium; flattened rows are format debezium-flat`}},
		"debezium bad JSON":        {rules: debezium, key: `{"id":1}`, value: `{"id":1`, want: []string{`unknown  @0 malformed: data: is not valid JSON: a comma or closing bracket is missing at byte 7`}},
		"column":                   {rules: debezium + "version: {column: rev}\n", key: `{"id":1}`, value: envelope("u", "null", `{"id":1,"rev":7}`), want: []string{`upsert 1 @7 {"id":1,"rev":7}`}},
		"column of a delete":       {rules: debezium + "version: {column: rev}\n", key: `{"id":1}`, value: envelope("d", `{"id":1,"rev":7}`, "null"), want: []string{`delete 1 @8`}},
		"column null":              {rules: debezium + "version: {column: rev}\n", key: `{"id":1}`, value: envelope("u", "null", `{"id":1,"rev":null}`), want: []string{`upsert 1 @0 {"id":1,"rev":null} version: data/rev: holds the version and is missing or no integer; every row, deleted ones too, needs the version column`}},
		"column zero":              {rules: debezium + "version: {column: rev}\n", key: `{"id":1}`, value: envelope("u", "null", `{"id":1,"rev":0}`), want: []string{`upsert 1 @0 {"id":1,"rev":0} version: data/rev: is outside 1 … 2^53-2; the version column grows with each change of the record`}},
		"column tombstone":         {rules: debezium + "version: {column: rev}\n", key: `{"id":1}`, ignored: cdc.Tombstone},
		"flat":                     {rules: "format: debezium-flat\ncdc: {deletes: tombstone}\n", key: `{"id":1}`, value: `{"id":1,"__op":"c"}`, want: []string{`upsert 1 @10 {"id":1}`}},
		"flat heartbeat":           {rules: "format: debezium-flat\ncdc: {deletes: rewrite}\n", key: `{"serverName":"x"}`, value: `{"ts_ms":5}`, ignored: cdc.Heartbeat},
		"flat rewritten":           {rules: "format: debezium-flat\ncdc: {deletes: rewrite}\nversion: {column: rev}\n", key: `{"id":1}`, value: `{"id":1,"price":7,"rev":3,"__deleted":"true"}`, want: []string{`delete 1 @4`}},
		"flat rewritten tombstone": {rules: "format: debezium-flat\ncdc: {deletes: rewrite}\nversion: {column: rev}\n", key: `{"id":1}`, ignored: cdc.Tombstone},
		"flat other table":         {rules: "format: debezium-flat\ncdc: {deletes: rewrite, table: shop.items}\n", key: `{"id":1}`, value: `{"id":1,"__deleted":"false","__table":"b"}`, ignored: cdc.OtherTable},
		"canal rows":               {rules: canal, value: canalOf("INSERT", `[{"id":"1","name":"a"},{"id":"2","name":null}]`, "null"), want: []string{`upsert 1 @10 {"id":1,"name":"a"}`, `upsert 2 @10 {"id":2,"name":null}`}},
		"canal last wins":          {rules: canal, value: canalOf("INSERT", `[{"id":"1","name":"a"},{"id":"1","name":"b"}]`, "null"), want: []string{`upsert 1 @10 {"id":1,"name":"b"}`}},
		"canal key cycle":          {rules: canal, value: canalOf("UPDATE", `[{"id":"3"},{"id":"2"}]`, `[{"id":"2"},{"id":"1"}]`), want: []string{`upsert 3 @10 {"id":3}`, "delete 1 @10", `upsert 2 @10 {"id":2}`}},
		"canal key change, several": {rules: canal, partitions: 3, value: canalOf("UPDATE", `[{"id":"3"}]`, `[{"id":"2"}]`), want: []string{
			`delete 2 @0 key: key: was given up for another one, and the topic's partitions do not keep the order of the two; use one partition, cdc.partition_by: table if all rows of the table share one, or a version column`,
			`upsert 3 @10 {"id":3}`,
		}},
		"canal key change, one partition of several": {rules: "format: canal\ncdc: {table: shop.items, partition_by: table}\n", partitions: 3, value: canalOf("UPDATE", `[{"id":"3"}]`, `[{"id":"2"}]`), want: []string{"delete 2 @10", `upsert 3 @10 {"id":3}`}},
		"canal key change by column":                 {rules: canal + "version: {column: rev}\n", partitions: 3, value: canalOf("UPDATE", `[{"id":"3","rev":"8"}]`, `[{"id":"2","rev":"6"}]`), want: []string{"delete 2 @7", `upsert 3 @8 {"id":3,"rev":8}`}},
		"canal bad row":                              {rules: canal, value: canalOf("INSERT", `[{"id":"1","price":"x"},{"id":"2"}]`, "null"), want: []string{`upsert 1 @10 schema: data/price: is not a value of its column's type; compare cdc.columns and the schema with the captured table`, `upsert 2 @10 {"id":2}`}},
		"canal partial":                              {rules: canal, value: canalOf("UPDATE", `[{"id":"1"}]`, `[{"name":"a"}]`), want: []string{`upsert 1 @10 partial: data/name: is not in the record, though the row has it; capture full rows: binlog_row_image=FULL, or REPLICA IDENTITY FULL`}},
		"canal partial by types":                     {rules: canal, value: strings.Replace(canalOf("INSERT", `[{"id":"1"}]`, `null`), `"mysqlType":null`, `"mysqlType":{"id":"int","name":"text"}`, 1), want: []string{`upsert 1 @10 partial: data/name: is not in the record, though the row has it; capture full rows: binlog_row_image=FULL, or REPLICA IDENTITY FULL`}},
		"canal no old":                               {rules: canal, value: canalOf("UPDATE", `[{"id":"1"}]`, `null`), want: []string{`unknown  @0 malformed: old: does not have an item for each row, so changes of keys cannot be seen`}},
		"canal delete":                               {rules: canal, value: canalOf("DELETE", `[{"id":"1","price":"x"}]`, `null`), want: []string{`delete 1 @10`}},
		"canal statement":                            {rules: canal, value: `{"type":"QUERY","isDdl":false,"database":"","table":"","data":null,"sql":"INSERT"}`, ignored: cdc.Statement},
		"canal create database":                      {rules: canal, value: "{\"type\":\"QUERY\",\"isDdl\":true,\"database\":\"`shop`\",\"table\":\"\",\"data\":null}", ignored: cdc.SchemaChange},
		"canal other truncate":                       {rules: canal, value: `{"type":"TRUNCATE","isDdl":true,"database":"shop","table":"b"}`, ignored: cdc.OtherTable},
		"canal truncate ignored":                     {rules: "format: canal\ncdc: {table: shop.items, truncates: ignore}\n", value: `{"type":"TRUNCATE","isDdl":true,"database":"shop","table":"items"}`, ignored: cdc.Truncate},
		"canal strange":                              {rules: canal, value: canalOf("XY", `[]`, `null`), want: []string{`unknown  @0 malformed: type: is none that Canal writes`}},
		"maxwell insert":                             {rules: maxwell, key: `{"database":"shop","table":"items","pk.id":1}`, value: maxwellOf("insert", `{"id":1,"more":{"a": 1.50}}`, "null"), want: []string{`upsert 1 @10 {"id":1,"more":{"a":1.50}}`}},
		"maxwell other key":                          {rules: maxwell, key: `{"pk.id":2}`, value: maxwellOf("insert", `{"id":1}`, "null"), want: []string{`upsert 1 @10 key: key: contradicts the record's key`}},
		"maxwell array key":                          {rules: maxwell, key: `["shop","items",[{"id":2}]]`, value: maxwellOf("delete", `{"id":1}`, "null"), want: []string{`delete 1 @10 key: key: contradicts the record's key`}},
		"maxwell hash key":                           {rules: maxwell, key: `d9f1`, value: maxwellOf("insert", `{"id":1}`, "null"), want: []string{`upsert 1 @10 {"id":1}`}},
		"maxwell key change":                         {rules: maxwell, value: maxwellOf("update", `{"id":3,"name":"a"}`, `{"id":2}`), want: []string{"delete 2 @10", `upsert 3 @10 {"id":3,"name":"a"}`}},
		"maxwell bootstrap":                          {rules: maxwell, value: maxwellOf("bootstrap-insert", `{"id":1}`, `null`), want: []string{`upsert 1 @10 {"id":1}`}},
		"maxwell bootstrap begins":                   {rules: maxwell, key: `{"pk.id":null}`, value: maxwellOf("bootstrap-start", `{}`, `null`), ignored: cdc.Bootstrap},
		"maxwell DDL":                                {rules: maxwell, key: "x", value: `{"type":"table-alter","database":"shop","table":"items","old":{},"def":{},"ts":1}`, ignored: cdc.SchemaChange},
		"maxwell other drop":                         {rules: maxwell, value: `{"type":"table-drop","database":"shop","table":"b","ts":1}`, ignored: cdc.OtherTable},
		"cloudevents by position":                    {rules: "version: offset\n", key: "1", want: []string{"delete 1 @10"}},
	} {
		t.Run(name, func(t *testing.T) {
			dec := cdc.New(cdc.Config{Dataset: item(t, tc.rules), Partitions: tc.partitions})
			res, err := dec.Decode(record(tc.key, tc.value))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tc.want, lines(res)); diff != "" || res.Ignored != tc.ignored {
				t.Errorf("%s\nignored: %v", diff, res.Ignored)
			}
		})
	}
}

func TestPauses(t *testing.T) {
	for name, tc := range map[string]struct{ rules, key, value, want string }{
		"debezium truncate": {"format: debezium\n", "", `{"op":"t","before":null,"after":null,"source":{}}`, "was emptied or dropped"},
		"canal truncate":    {"format: canal\ncdc: {table: shop.items}\n", "", `{"type":"TRUNCATE","isDdl":true,"database":"shop","table":"items"}`, "was emptied or dropped"},
		"canal drop":        {"format: canal\ncdc: {table: shop.items}\n", "", `{"type":"ERASE","isDdl":true,"database":"shop","table":"items"}`, "was emptied or dropped"},
		"maxwell drop":      {"format: maxwell\ncdc: {table: shop.items}\n", "", `{"type":"table-drop","database":"shop","table":"items"}`, "was emptied or dropped"},
		"rewrite without":   {"format: debezium-flat\ncdc: {deletes: rewrite}\n", `{"id":1}`, `{"id":1}`, "without __deleted"},
		"tombstone with":    {"format: debezium-flat\ncdc: {deletes: tombstone}\n", `{"id":1}`, `{"id":1,"__deleted":"false"}`, "come with __deleted"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := cdc.New(cdc.Config{Dataset: item(t, tc.rules)}).Decode(record(tc.key, tc.value))
			var pause *cdc.PauseError
			if !errors.As(err, &pause) || pause.Dataset != "items" || !strings.Contains(pause.Problem, tc.want) || pause.Fix == "" {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestCloudEventsByColumn(t *testing.T) {
	dec := cdc.New(cdc.Config{Dataset: item(t, "version: {column: rev}\n")})
	for _, tc := range []struct{ typ, seq, data, want string }{
		{schemas.TypeUpsert, "", `{"id":1,"rev":5}`, `upsert 1 @5 {"id":1,"rev":5}`},
		{schemas.TypeUpsert, "9", `{"id":1,"rev":5}`, `upsert 1 @5 {"id":1,"rev":5}`},
		{schemas.TypeDelete, "", `{"id":1,"rev":5}`, `delete 1 @6 {"id":1,"rev":5}`},
		{schemas.TypeDelete, "9", `{"id":1}`, `delete 1 @9 {"id":1}`},
		{schemas.TypeDelete, "", `{"id":1}`, `delete 1 @0 {"id":1} version: data/rev: holds the version and is missing or no integer; every row, deleted ones too, needs the version column`},
	} {
		rec := record("1", tc.data)
		for k, v := range map[string]string{"ce_specversion": "1.0", "ce_id": "a", "ce_source": "b", "ce_type": tc.typ, "ce_sequence": tc.seq} {
			if v != "" {
				rec.Headers = append(rec.Headers, schemas.Header{Key: k, Value: []byte(v)})
			}
		}
		res, err := dec.Decode(rec)
		if diff := cmp.Diff([]string{tc.want}, lines(res)); diff != "" || err != nil {
			t.Errorf("%s %v", diff, err)
		}
	}
}

// Values, by format: the property, the declared type, what the tool wrote, what becomes of it ("!" and the reason).
func TestValues(t *testing.T) {
	for _, tc := range []struct{ rules, typ, property, written, want string }{
		{"debezium", "", "big", `-1`, `18446744073709551615`},
		{"debezium", "", "big", `"AP//////////"`, `18446744073709551615`},
		{"debezium", "", "big", `"18446744073709551615"`, `18446744073709551615`},
		{"debezium", "bigint unsigned", "name", `-2`, `"18446744073709551614"`},
		{"debezium", "", "big", `"!"`, `!schema`},
		{"debezium", "", "price", `"12.50"`, `"12.50"`},
		{"debezium", "", "price", `"12.500"`, `"12.50"`},
		{"debezium", "", "price", `"12.505"`, `"12.505"`}, // Check refuses it
		{"debezium", "", "price", `12.5`, `!schema`},
		{"debezium", "", "price", `"AeI6"`, `!schema`},
		{"debezium precise", "", "price", `"AeI6"`, `"1234.50"`},
		{"debezium precise", "", "price", `"/w=="`, `"-0.01"`},
		{"debezium precise", "decimal(5,0)", "price", `"MDk="`, `"12345"`},
		{"debezium precise", "", "ratio", `"MDk="`, `!schema`},
		{"debezium precise", "decimal(5,1)", "ratio", `"MDk="`, `1234.5`},
		{"debezium precise", "decimal(5,1)", "price", `{"scale":1,"value":"MDk="}`, `"1234.5"`},
		{"debezium", "", "ratio", `-1.0E-300`, `-1.0E-300`},
		{"debezium", "", "ratio", `"1.25"`, `1.25`},
		{"debezium", "", "day", `7441`, `"1990-05-17"`},
		{"debezium", "", "day", `"1990-05-17"`, `"1990-05-17"`},
		{"debezium", "", "day", `99999999`, `!schema`},
		{"debezium", "", "at", `1709210096789`, `!schema`},
		{"debezium", "datetime(3)", "at", `1709210096789`, `"2024-02-29T12:34:56.789Z"`},
		{"debezium", "datetime(6)", "at", `-500000`, `"1969-12-31T23:59:59.5Z"`},
		{"debezium connect", "datetime(6)", "at", `1709210096789`, `"2024-02-29T12:34:56.789Z"`},
		{"debezium", "", "at", `"2024-02-29T12:34:56.789012Z"`, `"2024-02-29T12:34:56.789012Z"`},
		{"debezium", "", "at", `"2024-02-29T12:34:56+02:00"`, `"2024-02-29T10:34:56Z"`},
		{"debezium", "time", "name", `-3723000000`, `"-01:02:03"`},
		{"debezium", "time(3)", "name", `3020399999999`, `"838:59:59.999"`},
		{"debezium connect", "time", "name", `27000000`, `"07:30:00"`},
		{"debezium", "", "name", `27000000`, `!schema`},
		{"debezium", "bit(12)", "rev", `"qgo="`, `2730`},
		{"debezium", "bit(1)", "on", `true`, `true`},
		{"debezium", "bit(1)", "rev", `true`, `1`},
		{"debezium", "enum('a,b')", "name", `"a\\,b"`, `"a,b"`},
		{"debezium", "", "on", `2`, `!schema`},
		{"debezium", "", "on", `1`, `true`},
		{"debezium", "", "more", `"{\"a\": 1.50}"`, `{"a":1.50}`},
		{"debezium", "", "more", `"{"`, `!schema`},
		{"debezium", "", "more", `"{},\"id\":5"`, `!schema`},
		{"debezium hex", "binary(4)", "name", `"6162"`, `"YWIAAA=="`},
		{"debezium url", "varbinary(9)", "name", `"_-8"`, `"/+8="`},
		{"debezium", "", "name", `["__debezium_unavailable_value"]`, `!partial`},
		{"canal", "enum('red','it''s, \"x\"')", "name", `"2"`, `"it's, \"x\""`},
		{"canal", "enum('red')", "name", `"0"`, `""`},
		{"canal", "enum('red')", "name", `"2"`, `!schema`},
		{"canal", "set('a','b','c d')", "name", `"5"`, `"a,c d"`},
		{"canal", "set('a','b')", "name", `"4"`, `!schema`},
		{"canal", "binary(4)", "name", `"ab"`, `"YWIAAA=="`},
		{"canal", "blob", "name", "\"Þ\u00ad¾ï\"", `"3q2+7w=="`},
		{"canal", "blob", "name", `"\u2026"`, `!schema`},
		{"canal", "inet6", "name", `"\u0000"`, `!schema`},
		{"canal", "decimal(10,2)", "price", `"0.0"`, `"0"`},
		{"canal", "decimal(10,2)", "price", `"0.000000000"`, `"0"`},
		{"canal", "double", "ratio", `"1.0E-300"`, `1.0E-300`},
		{"canal", "year", "rev", `"0000"`, `0`},
		{"canal", "bit(12)", "rev", `"2730"`, `2730`},
		{"canal", "datetime(3)", "at", `"2024-06-30 23:59:59.999"`, `"2024-06-30T23:59:59.999Z"`},
		{"canal zone", "timestamp", "at", `"2024-06-30 07:00:00"`, `"2024-06-29T23:00:00Z"`},
		{"canal zone", "datetime", "at", `"2024-06-30 07:00:00"`, `"2024-06-30T07:00:00Z"`},
		{"canal", "datetime", "at", `"2024-06-00 07:00:00"`, `!schema`},
		{"canal zero", "datetime", "at", `"2024-06-00 07:00:00"`, `null`},
		{"canal zero", "", "day", `"0000-00-00"`, `null`},
		{"canal", "datetime", "at", `"yesterday"`, `!schema`},
		{"canal refuse", "", "name", `"Gr\ufffde"`, `!schema`},
		{"maxwell", "set('a','it''s')", "name", `["a","it''s"]`, `"a,it's"`},
		{"maxwell", "", "name", `["a"]`, `!schema`},
		{"maxwell", "enum('it''s')", "name", `"it''s"`, `"it's"`},
		{"maxwell", "binary(4)", "name", `"YWI="`, `"YWIAAA=="`},
		{"maxwell", "json", "name", `"text"`, `"\"text\""`},
		{"maxwell", "json", "name", `{"n": 1.50}`, `"{\"n\":1.50}"`},
		{"maxwell", "", "price", `0E-10`, `"0"`},
		{"maxwell", "", "price", `-1E-2`, `"-0.01"`},
		{"maxwell", "", "price", `1234.50`, `"1234.50"`},
		{"maxwell", "", "big", `18446744073709551615`, `18446744073709551615`},
		{"maxwell", "", "rev", `"1"`, `!schema`},
	} {
		format, mode, _ := strings.Cut(tc.rules, " ")
		rules := map[string]string{
			"precise": "decimals: precise", "connect": "times: connect", "hex": "binary: hex", "url": "binary: base64-url-safe",
			"zone": `zone: "+08:00"`, "zero": "zero_dates: clear", "refuse": "damaged_text: refuse",
		}[mode]
		section := "table: shop.items"
		if rules != "" {
			section += ", " + rules
		}
		if tc.typ != "" {
			typ, _ := json.Marshal(tc.typ)
			section += ", columns: {" + tc.property + ": " + string(typ) + "}"
		}
		value := map[string]string{
			"debezium": `{"op":"c","before":null,"after":{"id":1,"%s":%s},"source":{"db":"shop","table":"items"}}`,
			"canal":    `{"type":"INSERT","database":"shop","table":"items","data":[{"id":"1","%s":%s}],"old":null}`,
			"maxwell":  `{"type":"insert","database":"shop","table":"items","data":{"id":1,"%s":%s}}`,
		}[format]
		res, err := cdc.New(cdc.Config{Dataset: item(t, "format: "+format+"\ncdc: {"+section+"}\n")}).Decode(record("", fmt.Sprintf(value, tc.property, tc.written)))
		if err != nil || len(res.Rows) != 1 {
			t.Errorf("%v: got %v, %v", tc, res, err)
			continue
		}
		var got string
		if err := res.Rows[0].Err; err != nil {
			got = "!" + string(schemas.ReasonOf(err))
		} else {
			var row map[string]json.RawMessage
			if err := json.Unmarshal(res.Rows[0].Event.Data, &row); err != nil {
				t.Errorf("%v: %v", tc, err)
			}
			got = string(row[tc.property])
		}
		if got != tc.want {
			t.Errorf("%v: got %s", tc, got)
		}
	}
}

// Records that carry no row are named, in each of the captures that have some.
func TestIgnoredInCaptures(t *testing.T) {
	for name, tc := range map[string]struct {
		rules, file string
		want        cdc.Ignored
	}{
		"heartbeat":      {"format: debezium\n", "debezium/plain.heartbeat", cdc.Heartbeat},
		"schema changes": {"format: debezium\n", "debezium/plain.schema-changes", cdc.SchemaChange},
		"with schemas":   {"format: debezium\n", "debezium/schema.schema-changes", cdc.SchemaChange},
		"transactions":   {"format: debezium\n", "debezium/plain.transaction", cdc.Transaction},
		"flat changes":   {"format: debezium-flat\ncdc: {deletes: rewrite}\n", "debezium/plain.schema-changes", cdc.SchemaChange},
		"statements":     {"format: canal\ncdc: {table: shop.items}\n", "canal/annotate-query", cdc.Statement},
		"DDL":            {"format: maxwell\ncdc: {table: shop.items}\n", "maxwell/ddl", cdc.SchemaChange},
		"control":        {"format: maxwell\ncdc: {table: shop.items}\n", "maxwell/bootstrap-control", cdc.OtherTable},
	} {
		t.Run(name, func(t *testing.T) {
			f := fold{t: t, d: item(t, tc.rules), dec: cdc.New(cdc.Config{Dataset: item(t, tc.rules)})}
			records, err := cdctest.Read("testdata", tc.file)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range records {
				f.add(r.Record)
			}
			if len(f.refused) > 0 || len(f.rows) > 0 || f.ignored[cdc.NotIgnored] > 0 || f.ignored[tc.want] < len(records)-2 {
				t.Errorf("refused %v, %d rows, ignored %v of %d", f.refused, len(f.rows), f.ignored, len(records))
			}
		})
	}
}

// A TRUNCATE that the connector sends stops the dataset: plain.audit_nopk was captured with skipped.operations=none.
func TestCapturedTruncatePauses(t *testing.T) {
	records, err := cdctest.Read("testdata", "debezium/plain.audit_nopk")
	if err != nil {
		t.Fatal(err)
	}
	d := load(t, map[string]string{
		"a.yaml": "dataset: audit\nschema: s.json\nkey: [who]\nreplica: {table: audit}\nformat: debezium\n",
		"s.json": `{"type":"object","properties":{"who":{"type":"string","maxLength":40},"n":{"type":["integer","null"]}}}`,
	})
	dec := cdc.New(cdc.Config{Dataset: d})
	var stops []int64
	for _, r := range records {
		if _, err := dec.Decode(r.Record); err != nil {
			stops = append(stops, r.Record.Offset)
		}
	}
	if diff := cmp.Diff([]int64{8}, stops); diff != "" {
		t.Error(diff)
	}
}

// The transform's modes, by what is left of a table in the end: its delete modes agree, and none of them sends TRUNCATE.
func TestFlattenedModes(t *testing.T) {
	for mode, rules := range map[string]string{
		"default": "deletes: tombstone, decimals: precise", "delete-to-tombstone": "deletes: tombstone, decimals: precise",
		"rewrite-with-tombstone": "deletes: rewrite, decimals: precise", "rewrite-schema": "deletes: rewrite",
	} {
		t.Run(mode, func(t *testing.T) {
			d := load(t, map[string]string{
				"a.yaml": "dataset: demo\nschema: s.json\nkey: [id]\nreplica: {table: demo}\nformat: debezium-flat\ncdc: {" + rules + ", columns: {t: datetime(3)}}\n",
				"s.json": `{"type":"object","properties":{"id":{"type":"integer"},"v":{"type":["string","null"],"x-decimal":"10,2"},"t":{"type":["string","null"],"format":"date-time"}}}`,
			})
			records, err := cdctest.Read("testdata", "debezium/unwrap-"+mode+".demo")
			if err != nil {
				t.Fatal(err)
			}
			f := fold{t: t, d: d, dec: cdc.New(cdc.Config{Dataset: d})}
			for _, r := range cdctest.Twice(records) {
				f.add(r.Record)
			}
			got := map[string]string{}
			for key, row := range f.texts() {
				got[key] = "NULL"
				if v := row["v"]; v != nil {
					got[key] = *v
				}
			}
			want := map[string]string{"9": "20.00", "3": "3.00", "4": "4.00"}
			if diff := cmp.Diff(want, got); diff != "" || len(f.refused) > 0 {
				t.Error(diff, f.refused)
			}
		})
	}
}

func TestIgnoredNames(t *testing.T) {
	seen := map[string]bool{}
	for i := range cdc.Causes {
		seen[cdc.Ignored(i).String()] = true
	}
	if len(seen) != cdc.Causes || seen["unknown"] {
		t.Errorf("names %v", slices.Sorted(maps.Keys(seen)))
	}
}

// Versions follow the epoch: what a topic's predecessor wrote is older.
func TestEpoch(t *testing.T) {
	d := item(t, "format: debezium\n")
	rec := record(`{"id":1}`, "")
	old, _ := cdc.New(cdc.Config{Dataset: d}).Decode(rec)
	rec.Offset = 0
	young, _ := cdc.New(cdc.Config{Dataset: d, Epoch: 1}).Decode(rec)
	if a, b := old.Rows[0].Event.Version, young.Rows[0].Event.Version; a != 10 || b != 1<<40+1 {
		t.Errorf("got %d and %d", a, b)
	}
}

// TestTraceOfACapturedRow: the header counts, also as the JSON string that Kafka Connect writes.
func TestTraceOfACapturedRow(t *testing.T) {
	const parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	d := cdc.New(cdc.Config{Dataset: item(t, "format: debezium\n")})
	rec := record(`{"id":1}`, `{"op":"c","before":null,"after":{"id":1}}`)
	for _, text := range []string{parent, `"` + parent + `"`} {
		rec.Headers = []schemas.Header{{Key: "traceparent", Value: []byte(text)}, {Key: "tracestate", Value: []byte("a=b")}}
		res, err := d.Decode(rec)
		if err != nil || len(res.Rows) != 1 || res.Rows[0].Event.TraceParent != parent || res.Rows[0].Event.TraceState != "a=b" {
			t.Errorf("%s: %+v, %v", text, res.Rows, err)
		}
	}
}
