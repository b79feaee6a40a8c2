package cdc_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// decoded is a row in one line, or why there is none.
func decoded(t *testing.T, ds *schemas.Dataset, rec schemas.Record) string {
	t.Helper()
	res, err := cdc.New(cdc.Config{Dataset: ds}).Decode(rec)
	if err != nil {
		t.Fatal(err)
	}
	if len(res.Rows) == 0 {
		return "ignored: " + res.Ignored.String()
	}
	return strings.Join(lines(res), "\n")
}

// With several tables in a topic a record without a value may be of any of them. None may delete our row but our own.
func TestTombstonesOfOtherTables(t *testing.T) {
	const (
		envelope  = "format: debezium\ncdc: {table: shop.items}\n"
		flat      = "format: debezium-flat\ncdc: {table: shop.items, deletes: tombstone}\n"
		rewritten = "format: debezium-flat\ncdc: {table: shop.items, deletes: rewrite}\n"
	)
	schemaKey := func(table string) string {
		return `{"schema":{"type":"struct","name":"dbz.` + table + `.Key"},"payload":{"id":1}}`
	}
	for name, tc := range map[string]struct{ rules, key, want string }{
		"envelope, key alone":          {envelope, `{"id":1}`, "ignored: tombstone"},
		"envelope, our key":            {envelope, schemaKey("shop.items"), "delete 1 @10"},
		"envelope, another's key":      {envelope, schemaKey("shop.users"), "ignored: other_table"},
		"envelope, another database's": {envelope, schemaKey("depot.items"), "ignored: other_table"},
		"envelope, routed":             {envelope, `{"id":1,"__dbz__physicalTableIdentifier":"dbz.shop.items"}`, "delete 1 @10"},
		"envelope, another's routed":   {envelope, `{"id":1,"__dbz__physicalTableIdentifier":"dbz.shop.users"}`, "ignored: other_table"},
		"envelope, one table":          {"format: debezium\n", `{"id":1}`, "delete 1 @10"},
		"flat, key alone":              {flat, `{"id":1}`, "unknown  @0 key: key: names no table, which cdc.table asks for, so the deletion may be of another table's row; write keys with schemas, set delete.tombstone.handling.mode to rewrite, or leave cdc.table out if the topic carries one table"},
		"flat, our key":                {flat, schemaKey("shop.items"), "delete 1 @10"},
		"flat, another's key":          {flat, schemaKey("shop.users"), "ignored: other_table"},
		"flat, one table":              {"format: debezium-flat\ncdc: {deletes: tombstone}\n", `{"id":1}`, "delete 1 @10"},
		"rewritten, key alone":         {rewritten, `{"id":1}`, "ignored: tombstone"},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, decoded(t, item(t, tc.rules), record(tc.key, ""))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A record that does not say of which table it is cannot be ignored as another table's, nor applied as ours.
func TestRecordsOfNoTable(t *testing.T) {
	const (
		debezium = "format: debezium\ncdc: {table: shop.items}\n"
		flat     = "format: debezium-flat\ncdc: {table: shop.items, deletes: rewrite}\n"
		canal    = "format: canal\ncdc: {table: shop.items}\n"
		maxwell  = "format: maxwell\ncdc: {table: shop.items}\n"
		noTable  = "malformed: record: names no table, which cdc.table asks for; "
		noDB     = "malformed: record: states its table without the database, which cdc.table asks for; "
		flatFix  = "set add.fields=table,db in the transform, or leave cdc.table out if the topic carries one table"
		toolFix  = "let the tool write database and table"
	)
	row := func(members string) string { return `{"id":1,"__deleted":"false"` + members + `}` }
	withSchema := func(table string) string {
		return `{"schema":{"type":"struct","name":"dbz.` + table + `.Value"},"payload":` + row("") + `}`
	}
	for name, tc := range map[string]struct {
		rules, value string
		headers      []schemas.Header
		want         string
	}{
		"debezium without source":  {debezium, `{"op":"c","after":{"id":1}}`, nil, "unknown  @0 " + noTable + "let the tool write source.db and source.table, or leave cdc.table out if the topic carries one table"},
		"flat":                     {flat, row(""), nil, "unknown  @0 " + noTable + flatFix},
		"flat, table alone":        {flat, row(`,"__table":"items"`), nil, "unknown  @0 " + noDB + flatFix},
		"flat, another table":      {flat, row(`,"__table":"users"`), nil, "ignored: other_table"},
		"flat, ours":               {flat, row(`,"__table":"items","__db":"shop"`), nil, `upsert 1 @10 {"id":1}`},
		"flat, another database":   {flat, row(`,"__table":"items","__db":"depot"`), nil, "ignored: other_table"},
		"flat, source fields":      {flat, row(`,"__source_table":"items","__source_db":"shop"`), nil, `upsert 1 @10 {"id":1}`},
		"flat, schema":             {flat, row(`,"__table":"items","__db":"x","__schema":"shop"`), nil, `upsert 1 @10 {"id":1}`},
		"flat, database in header": {flat, row(`,"__table":"items"`), []schemas.Header{{Key: "__db", Value: []byte("depot")}}, "ignored: other_table"},
		"flat, ours in headers":    {flat, row(""), []schemas.Header{{Key: "__db", Value: []byte(`"shop"`)}, {Key: "__table", Value: []byte("items")}}, `upsert 1 @10 {"id":1}`},
		"flat, ours by schema":     {flat, withSchema("shop.items"), nil, `upsert 1 @10 {"id":1}`},
		"flat, another by schema":  {flat, withSchema("depot.items"), nil, "ignored: other_table"},
		"canal row":                {canal, `{"data":[{"id":"1"}],"type":"INSERT"}`, nil, "unknown  @0 " + noTable + toolFix},
		"canal truncate":           {canal, `{"type":"TRUNCATE","isDdl":true}`, nil, "unknown  @0 " + noTable + toolFix},
		"canal watermark":          {canal, `{"type":"TIDB_WATERMARK","isDdl":false,"database":"","table":"","data":null,"_tidb":{"watermarkTs":1}}`, nil, "ignored: heartbeat"},
		"maxwell row":              {maxwell, `{"type":"insert","data":{"id":1}}`, nil, "unknown  @0 " + noTable + toolFix},
	} {
		t.Run(name, func(t *testing.T) {
			rec := record(`{"id":1}`, tc.value)
			rec.Headers = tc.headers
			if diff := cmp.Diff(tc.want, decoded(t, item(t, tc.rules), rec)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A declared key that is not the captured table's own makes one record of several rows, or leaves rows behind.
func TestKeyThatIsNotTheTables(t *testing.T) {
	const debezium, canal, maxwell = "format: debezium\n", "format: canal\ncdc: {table: shop.items}\n", "format: maxwell\ncdc: {table: shop.items}\n"
	envelope := `{"op":"c","before":null,"after":{"id":1,"rev":2},"source":{"db":"shop","table":"items"}}`
	deletion := `{"op":"d","before":{"id":1,"rev":2},"after":null,"source":{"db":"shop","table":"items"}}`
	canalOf := func(typ, pkNames string) string {
		return `{"type":"` + typ + `","database":"shop","table":"items","isDdl":false,"data":[{"id":"1","rev":"2"}],"old":[{}],"pkNames":` + pkNames + `}`
	}
	maxwellOf := func(typ string) string {
		return `{"database":"shop","table":"items","type":"` + typ + `","data":{"id":1,"rev":2},"old":{}}`
	}
	other := func(list string) string {
		return "key: key: declares other columns than the captured table's key (" + list + "); write key: [" + list + "], or let the tool key the table by the declared columns"
	}
	for name, tc := range map[string]struct{ rules, key, value, want string }{
		"debezium, more columns":  {debezium, `{"id":1,"rev":2}`, envelope, "upsert 1 @10 " + other("id, rev")},
		"debezium, another one":   {debezium, `{"rev":2}`, envelope, "upsert 1 @10 " + other("rev")},
		"debezium, deletion":      {debezium, `{"id":1,"rev":2}`, deletion, "delete 1 @10 " + other("id, rev")},
		"debezium, tombstone":     {debezium, `{"id":1,"rev":2}`, "", "delete 1 @10 " + other("id, rev")},
		"debezium, with schema":   {debezium, `{"schema":{},"payload":{"id":1,"rev":2}}`, envelope, "upsert 1 @10 " + other("id, rev")},
		"debezium, the same":      {debezium, `{"id":1}`, envelope, `upsert 1 @10 {"id":1,"rev":2}`},
		"debezium, routed":        {debezium, `{"id":1,"__dbz__physicalTableIdentifier":"a.b.c"}`, envelope, `upsert 1 @10 {"id":1,"rev":2}`},
		"flat":                    {"format: debezium-flat\ncdc: {deletes: tombstone}\n", `{"id":1,"rev":2}`, `{"id":1}`, "upsert 1 @10 " + other("id, rev")},
		"canal, more columns":     {canal, "", canalOf("INSERT", `["id","rev"]`), "upsert 1 @10 " + other("id, rev")},
		"canal, another one":      {canal, "", canalOf("UPDATE", `["rev"]`), "upsert 1 @10 " + other("rev")},
		"canal, deletion":         {canal, "", canalOf("DELETE", `["rev"]`), "delete 1 @10 " + other("rev")},
		"canal, the same":         {canal, "", canalOf("INSERT", `["id"]`), `upsert 1 @10 {"id":1,"rev":2}`},
		"canal, none":             {canal, "", canalOf("INSERT", `null`), `upsert 1 @10 {"id":1,"rev":2}`},
		"maxwell, more columns":   {maxwell, `{"database":"shop","table":"items","pk.id":1,"pk.rev":2}`, maxwellOf("insert"), "upsert 1 @10 " + other("id, rev")},
		"maxwell, array":          {maxwell, `["shop","items",[{"rev":2}]]`, maxwellOf("update"), "upsert 1 @10 " + other("rev")},
		"maxwell, deletion":       {maxwell, `{"database":"shop","table":"items","pk.rev":2}`, maxwellOf("delete"), "delete 1 @10 " + other("rev")},
		"maxwell, no primary key": {maxwell, `{"database":"shop","table":"items","_uuid":"u"}`, maxwellOf("insert"), `upsert 1 @10 {"id":1,"rev":2}`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, decoded(t, item(t, tc.rules), record(tc.key, tc.value))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Canal writes texts whose type it does not know as the characters of their bytes, and marks them as BLOB.
func TestCanalBytesOfText(t *testing.T) {
	const mojibake = `"\u00c3\u00bc"` // the bytes of ü
	message := func(mysqlType, sqlType, data string) string {
		return `{"type":"INSERT","database":"shop","table":"items","isDdl":false,"data":` + data +
			`,"old":null,"mysqlType":` + mysqlType + `,"sqlType":` + sqlType + `}`
	}
	one := func(column, mysqlType, sqlType, value string) string {
		return message(`{"id":"int","`+column+`":"`+mysqlType+`"}`, `{"id":4,"`+column+`":`+sqlType+`}`, `[{"id":"1","`+column+`":`+value+`}]`)
	}
	const unclear = "upsert 1 @10 schema: data/name: may be text, or bytes that Canal wrote as text: its sqlType does not agree; restart Canal so that it reads the table's types again, then write the row again"
	for name, tc := range map[string]struct{ rules, value, want string }{
		"JSON as object":             {"", one("more", "JSON", "2004", `"{\"a\":\"\u00c3\u00bc\"}"`), `upsert 1 @10 {"id":1,"more":{"a":"ü"}}`},
		"JSON as string":             {"", one("name", "JSON", "2004", mojibake), `upsert 1 @10 {"id":1,"name":"ü"}`},
		"JSON of MySQL":              {"", one("name", "json", "12", `"\u4f60"`), `upsert 1 @10 {"id":1,"name":"你"}`},
		"TEXT(n)":                    {"", one("name", "TEXT(100)", "2004", mojibake), `upsert 1 @10 {"id":1,"name":"ü"}`},
		"TEXT by number":             {"", one("name", "text", "-4", mojibake), `upsert 1 @10 {"id":1,"name":"ü"}`},
		"text":                       {"", one("name", "text", "2005", mojibake), `upsert 1 @10 {"id":1,"name":"Ã¼"}`},
		"marked, and is text":        {"", one("name", "JSON", "2004", `"\u4f60"`), `upsert 1 @10 {"id":1,"name":"你"}`},
		"not UTF-8":                  {"", one("name", "TEXT(9)", "2004", `"\u00ff"`), "upsert 1 @10 schema: data/name: holds bytes that are no UTF-8; let the column be utf8mb4"},
		"the last row is NULL":       {"", message(`{"id":"int","name":"JSON"}`, `{"id":4,"name":2005}`, `[{"id":"1","name":`+mojibake+`},{"id":"2","name":null}]`), unclear + "\n" + `upsert 2 @10 {"id":2,"name":null}`},
		"ASCII of a doubtful column": {"", one("name", "JSON", "2005", `"{}"`), `upsert 1 @10 {"id":1,"name":"{}"}`},
		"no type at all":             {"", message("null", `{"id":4,"name":2004}`, `[{"id":"1","name":"a"}]`), "upsert 1 @10 schema: data/name: is written in a form that its property does not explain; declare its type: cdc.columns.name: the type by SHOW COLUMNS"},
		"declared":                   {", columns: {name: json}", message("null", `{"id":4,"name":2004}`, `[{"id":"1","name":`+mojibake+`}]`), `upsert 1 @10 {"id":1,"name":"ü"}`},
		"set":                        {"", one("name", "set('a','b')", "2004", `"3"`), `upsert 1 @10 {"id":1,"name":"a,b"}`},
		"blob":                       {"", one("name", "blob", "2004", mojibake), `upsert 1 @10 {"id":1,"name":"w7w="}`},
	} {
		t.Run(name, func(t *testing.T) {
			ds := item(t, "format: canal\ncdc: {table: shop.items"+tc.rules+"}\n")
			if diff := cmp.Diff(tc.want, decoded(t, ds, record("", tc.value))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What only a column's type tells is refused until it is declared.
func TestUndeclaredValues(t *testing.T) {
	const undeclared = "upsert 1 @10 schema: data/%: is written in a form that its property does not explain; declare its type: cdc.columns.%: the type by SHOW COLUMNS"
	const negative = "upsert 1 @10 schema: data/rev: is negative, or the upper half of BIGINT UNSIGNED, which Debezium writes so; declare its type: cdc.columns.rev: the type by SHOW COLUMNS; or give the property a minimum"
	refused := func(property string) string { return strings.ReplaceAll(undeclared, "%", property) }
	debezium := func(member string) string {
		return `{"op":"c","before":null,"after":{"id":1,` + member + `},"source":{"db":"shop","table":"items"}}`
	}
	described := func(typ, parameters, value string) string {
		return `{"schema":{"type":"struct","name":"d.shop.items.Envelope","fields":[{"field":"after","type":"struct","fields":[` +
			`{"field":"id","type":"int32"},{"field":"rev","type":"` + typ + `"` + parameters + `}]}]},"payload":` + debezium(`"rev":`+value) + `}`
	}
	canal := func(property, typ, value string) string {
		return `{"type":"INSERT","database":"shop","table":"items","isDdl":false,"data":[{"id":"1","` + property + `":` + value +
			`}],"old":null,"mysqlType":{"id":"int","` + property + `":"` + typ + `"},"sqlType":{"id":4,"` + property + `":4}}`
	}
	maxwell := func(value string) string {
		return `{"database":"shop","table":"items","type":"insert","data":{"id":1,"name":` + value + `},"old":{}}`
	}
	for name, tc := range map[string]struct{ format, columns, value, want string }{
		"debezium, bigint unsigned?":    {"debezium", "", debezium(`"rev":-1`), negative},
		"debezium, declared signed":     {"debezium", "rev: bigint", debezium(`"rev":-1`), `upsert 1 @10 {"id":1,"rev":-1}`},
		"debezium, int64 of a schema":   {"debezium", "", described("int64", "", "-1"), negative},
		"debezium, int32 of a schema":   {"debezium", "", described("int32", "", "-1"), `upsert 1 @10 {"id":1,"rev":-1}`},
		"debezium, source type":         {"debezium", "", described("int64", `,"parameters":{"__debezium.source.column.type":"BIGINT"}`, "-1"), `upsert 1 @10 {"id":1,"rev":-1}`},
		"debezium, source type no sign": {"debezium", "", described("int64", `,"parameters":{"__debezium.source.column.type":"BIGINT UNSIGNED"}`, "-1"), `upsert 1 @10 {"id":1,"rev":18446744073709551615}`},
		"debezium, label with comma?":   {"debezium", "", debezium(`"name":"a\\,b"`), refused("name")},
		"debezium, text with backslash": {"debezium", "name: varchar(9)", debezium(`"name":"a\\,b"`), `upsert 1 @10 {"id":1,"name":"a\\,b"}`},
		"canal, enum without labels":    {"canal", "", canal("name", "enum", `"2"`), refused("name")},
		"canal, set without labels":     {"canal", "", canal("name", "SET", `"2"`), refused("name")},
		"canal, enum as integer":        {"canal", "", canal("rev", "enum", `"2"`), refused("rev")},
		"canal, enum null":              {"canal", "", canal("name", "enum", `null`), `upsert 1 @10 {"id":1,"name":null}`},
		"canal, enum declared":          {"canal", "name: \"enum('a','b')\"", canal("name", "enum", `"2"`), `upsert 1 @10 {"id":1,"name":"b"}`},
		"canal, unknown type":           {"canal", "", canal("name", "hologram(3)", `"2"`), refused("name")},
		"canal, a type's other name":    {"canal", "", canal("name", "CHARACTER VARYING(9)", `"2"`), `upsert 1 @10 {"id":1,"name":"2"}`},
		"maxwell, binary?":              {"maxwell", "", maxwell(`"YWI="`), refused("name")},
		"maxwell, binary declared":      {"maxwell", "name: binary(4)", maxwell(`"YWI="`), `upsert 1 @10 {"id":1,"name":"YWIAAA=="}`},
		"maxwell, text declared":        {"maxwell", "name: varchar(9)", maxwell(`"YWI="`), `upsert 1 @10 {"id":1,"name":"YWI="}`},
		"maxwell, no base64":            {"maxwell", "", maxwell(`"a = b ="`), `upsert 1 @10 {"id":1,"name":"a = b ="}`},
		"maxwell, label with a quote?":  {"maxwell", "", maxwell(`"it''s"`), refused("name")},
	} {
		t.Run(name, func(t *testing.T) {
			rules := "format: " + tc.format + "\ncdc: {columns: {" + tc.columns + "}, table: shop.items}\n"
			if diff := cmp.Diff(tc.want, decoded(t, item(t, rules), record(`{"id":1}`, tc.value))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A message that reports that it carries the key alone must not make the other columns NULL.
func TestKeyOnlyMessages(t *testing.T) {
	message := func(typ, more string) string {
		return `{"type":"` + typ + `","database":"shop","table":"items","isDdl":false,"data":[{"id":"1"}],"old":[{"id":"1"}],"mysqlType":{"id":"int"},"_tidb":{"commitTs":1` + more + `}}`
	}
	const partial = "upsert 1 @10 partial: data: is the row's key alone, as the record says; let the tool send whole rows: raise Kafka's max.message.bytes, and leave large-message-handle-option out"
	for name, tc := range map[string]struct{ value, want string }{
		"update":      {message("UPDATE", `,"onlyHandleKey":true`), partial},
		"claim check": {message("INSERT", `,"claimCheckLocation":"s3:/bucket/1.json"`), partial},
		"delete":      {message("DELETE", `,"onlyHandleKey":true`), "delete 1 @10"},
		"whole":       {message("UPDATE", `,"onlyHandleKey":false`), `upsert 1 @10 {"id":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(tc.want, decoded(t, item(t, "format: canal\ncdc: {table: shop.items}\n"), record("", tc.value))); diff != "" {
				t.Error(diff)
			}
		})
	}
}
