package replica_test

import (
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// sourceColumn is a column of a source table: its type, the JSON Schema of its property, and literals of SQL with the JSON that
// each becomes.
type sourceColumn struct {
	name, sql, property string
	values              [][2]string
}

// sourceColumns has every type of column.
func sourceColumns() []sourceColumn {
	return []sourceColumn{
		{"t", "TINYINT", `{"type":"integer"}`, [][2]string{{"-128", "-128"}, {"127", "127"}}},
		{"flag", "TINYINT(1)", `{"type":"boolean"}`, [][2]string{{"0", "false"}, {"1", "true"}}},
		{"filled", "INT(8) UNSIGNED ZEROFILL", `{"type":"integer"}`, [][2]string{{"42", "42"}, {"4294967295", "4294967295"}}},
		{"big", "BIGINT UNSIGNED", `{"type":"integer","minimum":0,"maximum":18446744073709551615}`, [][2]string{{"18446744073709551615", "18446744073709551615"}, {"0", "0"}}},
		{"f", "FLOAT", `{"type":"number"}`, [][2]string{{"0.1", "0.1"}, {"16777217", "16777216"}}},
		{"d", "DOUBLE", `{"type":"number"}`, [][2]string{{"0.1", "0.1"}, {"-1e300", "-1e+300"}}},
		{"dec", "DECIMAL(20,5)", `{"type":"string","x-decimal":"20,5"}`, [][2]string{{"-0.50000", `"-0.50000"`}, {"123456789012345.12345", `"123456789012345.12345"`}}},
		{"num", "DECIMAL(30,10)", `{"type":"number"}`, [][2]string{{"12345678901234567890.5", "12345678901234567890.5000000000"}, {"0", "0.0000000000"}}},
		{"zdec", "DECIMAL(8,2) UNSIGNED ZEROFILL", `{"type":"string","x-decimal":"8,2"}`, [][2]string{{"7.5", `"7.50"`}, {"0", `"0.00"`}}},
		{"bits", "BIT(12)", `{"type":"integer"}`, [][2]string{{"b'101010101010'", "2730"}, {"b'1'", "1"}}},
		{"onebit", "BIT(1)", `{"type":"boolean"}`, [][2]string{{"b'0'", "false"}, {"b'1'", "true"}}},
		{"y", "YEAR", `{"type":"integer"}`, [][2]string{{"2024", "2024"}, {"1901", "1901"}}},
		{"day", "DATE", `{"type":"string","format":"date"}`, [][2]string{{"'2024-02-29'", `"2024-02-29"`}, {"'1000-01-01'", `"1000-01-01"`}}},
		{"dt", "DATETIME", `{"type":"string","format":"date-time"}`, [][2]string{{"'2024-02-29 23:59:59'", `"2024-02-29T23:59:59Z"`}, {"'1000-01-01'", `"1000-01-01T00:00:00Z"`}}},
		{"dt6", "DATETIME(6)", `{"type":"string","format":"date-time"}`, [][2]string{{"'2024-02-29 23:59:59.000010'", `"2024-02-29T23:59:59.00001Z"`}, {"'9999-12-31 23:59:59.999999'", `"9999-12-31T23:59:59.999999Z"`}}},
		{"ts", "TIMESTAMP(3) NULL", `{"type":"string","format":"date-time"}`, [][2]string{{"'2024-02-29 23:59:59.250'", `"2024-02-29T23:59:59.25Z"`}, {"'1970-01-01 00:00:01'", `"1970-01-01T00:00:01Z"`}}},
		{"plaindt", "DATETIME(2)", `{"type":"string"}`, [][2]string{{"'2024-02-29 23:59:59'", `"2024-02-29 23:59:59.00"`}, {"'2024-01-01 00:00:00.5'", `"2024-01-01 00:00:00.50"`}}},
		{"tm", "TIME", `{"type":"string"}`, [][2]string{{"'-838:59:59'", `"-838:59:59"`}, {"'01:02:03'", `"01:02:03"`}}},
		{"tm3", "TIME(3)", `{"type":"string"}`, [][2]string{{"'-01:02:03.5'", `"-01:02:03.500"`}, {"'100:00:00'", `"100:00:00.000"`}}},
		{"c", "CHAR(10)", `{"type":"string"}`, [][2]string{{"'a\"b'", `"a\"b"`}, {"'grün'", `"grün"`}}},
		{"latin", "VARCHAR(10) CHARACTER SET latin1", `{"type":"string"}`, [][2]string{{"'grün €'", `"grün €"`}, {"''", `""`}}},
		{"tt", "TINYTEXT", `{"type":"string"}`, [][2]string{{"'x'", `"x"`}, {"'\U0001F600'", `"` + "\U0001F600" + `"`}}},
		{"lt", "LONGTEXT", `{"type":"string"}`, [][2]string{{"REPEAT('y', 3)", `"yyy"`}, {"''", `""`}}},
		{"bin", "BINARY(4)", `{"type":"string"}`, [][2]string{{"x'00FF'", `"AP8AAA=="`}, {"x'61626364'", `"YWJjZA=="`}}},
		{"vbin", "VARBINARY(9)", `{"type":"string"}`, [][2]string{{"x'00FF'", `"AP8="`}, {"''", `""`}}},
		{"blb", "BLOB", `{"type":"string"}`, [][2]string{{"x'FFFEFD'", `"//79"`}, {"'abc'", `"YWJj"`}}},
		{"e", "ENUM('red','it''s','a,b')", `{"type":"string"}`, [][2]string{{"'it''s'", `"it's"`}, {"'a,b'", `"a,b"`}}},
		{"s", "SET('a','b','c')", `{"type":"string"}`, [][2]string{{"'c,a'", `"a,c"`}, {"''", `""`}}},
		{"js", "JSON", `{"type":"object"}`, [][2]string{{`'{"a": [1, 2.5]}'`, `{"a":[1,2.5]}`}, {`'{}'`, `{}`}}},
		{"jstext", "JSON", `{"type":"string"}`, [][2]string{{`'[1]'`, `"[1]"`}, {`'[]'`, `"[]"`}}},
		{"place", "POINT", `{"type":"string"}`, [][2]string{{"ST_GeomFromText('POINT(1 2)')", `"AAAAAAEBAAAAAAAAAAAA8D8AAAAAAAAAQA=="`}, {"ST_GeomFromText('POINT(0 0)')", `"AAAAAAEBAAAAAAAAAAAAAAAAAAAAAAAAAA=="`}}},
	}
}

// readState reads every row of a source table in the order of id as the full states of records.
func readState(t *testing.T, db mysql.Querier, ds *schemas.Dataset, table string) []string {
	t.Helper()
	types := map[string]schemas.ColumnType{}
	err := mysql.Each(t.Context(), db, "read types", "SELECT column_name, column_type FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?",
		[]any{table}, func(scan func(...any) error) error {
			var name, text string
			if err := scan(&name, &text); err != nil {
				return err
			}
			typ, ok := schemas.ParseColumnType(text)
			if !ok {
				t.Errorf("type %s of column %s is not known", text, name)
			}
			types[name] = typ
			return nil
		})
	if err != nil {
		t.Fatal(err)
	}
	names := make([]string, 0, len(ds.Replica.Columns))
	list := make([]schemas.ColumnType, 0, len(ds.Replica.Columns))
	raw := make([]any, len(ds.Replica.Columns))
	dest := make([]any, len(raw))
	for i, c := range ds.Replica.Columns {
		names = append(names, "`"+c.Property.Name+"`")
		list = append(list, types[c.Property.Name])
		dest[i] = &raw[i]
	}
	var states []string
	err = mysql.Each(t.Context(), db, "read rows", "SELECT "+strings.Join(names, ", ")+" FROM `"+table+"` WHERE id >= ? ORDER BY id", []any{0}, func(scan func(...any) error) error {
		if err := scan(dest...); err != nil {
			return err
		}
		state, err := ds.AppendState(nil, list, raw)
		states = append(states, string(state))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return states
}

// sourceDataset declares a dataset for columns.
func sourceDataset(t *testing.T, columns []sourceColumn) *schemas.Dataset {
	t.Helper()
	props := []string{`"id":{"type":"integer"}`}
	for _, c := range columns {
		props = append(props, `"`+c.name+`":`+c.property)
	}
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"zoo.yaml": {Data: []byte("dataset: zoo\nschema: zoo.json\nkey: [id]\n")},
		"zoo.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{` + strings.Join(props, ",") + `}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set.All()[0]
}

func TestStateOfEveryColumnType(t *testing.T) {
	b := newBed(t, replica.Config{})
	columns := sourceColumns()
	ds := sourceDataset(t, columns)
	defs := make([]string, 0, len(columns))
	rows := [2][]string{{"1"}, {"2"}}
	want := [3][]string{{`"id":1`}, {`"id":2`}, {`"id":3`}}
	byName := map[string]sourceColumn{}
	for _, c := range columns {
		byName[c.name] = c
		defs = append(defs, "`"+c.name+"` "+c.sql)
		rows[0], rows[1] = append(rows[0], c.values[0][0]), append(rows[1], c.values[1][0])
	}
	for _, c := range ds.Replica.Columns[1:] {
		for i, v := range byName[c.Name].values {
			want[i] = append(want[i], `"`+c.Name+`":`+v[1])
		}
	}
	for _, text := range []string{
		"CREATE TABLE src (id INT PRIMARY KEY, " + strings.Join(defs, ", ") + ") DEFAULT CHARACTER SET utf8mb4",
		"INSERT INTO src VALUES (" + strings.Join(rows[0], ", ") + "), (" + strings.Join(rows[1], ", ") + ")",
		"INSERT INTO src (id) VALUES (3)",
	} {
		if _, err := b.db.ExecContext(t.Context(), text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
	}
	got := readState(t, b.db, ds, "src")
	var all []string
	for _, members := range want {
		all = append(all, "{"+strings.Join(members, ",")+"}")
	}
	if diff := cmp.Diff(all, got); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
	for i, state := range got {
		ev := schemas.Event{Dataset: "zoo", Op: schemas.Upsert, Version: 1, Key: []string{"1", "2", "3"}[i], Data: []byte(state)}
		if _, err := ds.Check(&ev); err != nil {
			t.Errorf("row %d: %v", i+1, err)
		}
	}
}

func TestStateLeavesOutNull(t *testing.T) {
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"zoo.yaml": {Data: []byte("dataset: zoo\nschema: zoo.json\nkey: [id]\n")},
		"zoo.json": {Data: []byte(`{"type":"object","required":["id","must"],"properties":{"id":{"type":"integer"},
			"must":{"type":["string","null"]},"may":{"type":["string","null"]}}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	got, err := set.All()[0].AppendState([]byte("data: "), nil, []any{int64(1), nil, nil})
	if want := `data: {"id":1,"must":null}`; err != nil || string(got) != want {
		t.Errorf("got %s and error %v, want %s", got, err, want)
	}
}

func TestStateRefusesWhatItWouldAlter(t *testing.T) {
	for _, c := range []struct {
		name, property, typ string
		value               any
		want                string
	}{
		{"a boolean that is 2", `{"type":"boolean"}`, "tinyint(1)", int64(2), "is neither 0 nor 1"},
		{"a date that does not exist", `{"type":"string","format":"date"}`, "date", []byte("0000-00-00"), "does not exist"},
		{"a date-time that does not exist", `{"type":"string","format":"date-time"}`, "datetime", []byte("2024-00-01 00:00:00"), "does not exist"},
		{"an unsigned number in a signed property", `{"type":"integer"}`, "bigint unsigned", uint64(1 << 63), "not a number that the property can hold"},
		{"a text in an integer", `{"type":"integer"}`, "varchar(9)", []byte("1"), "values it cannot hold"},
		{"a float in a decimal", `{"type":"string","x-decimal":"5,2"}`, "float", float32(0.5), "values it cannot hold"},
		{"bytes that are not text", `{"type":"string"}`, "varchar(9)", []byte{0xFF}, "not valid UTF-8"},
		{"a damaged document", `{"type":"object"}`, "json", []byte(`{"a":`), "not valid JSON"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ds := sourceDataset(t, []sourceColumn{{name: "v", property: c.property}})
			typ, _ := schemas.ParseColumnType(c.typ)
			_, err := ds.AppendState(nil, []schemas.ColumnType{{Base: "int"}, typ}, []any{int64(1), c.value})
			if err == nil || !strings.Contains(err.Error(), c.want) || !strings.HasPrefix(err.Error(), "data/v: ") {
				t.Errorf("got %v, want an error of data/v with %q", err, c.want)
			}
		})
	}
}
