package schemas_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/schemas"
)

const cdcSchema = `{"type": "object", "properties": {
  "id": {"type": "integer"}, "rev": {"type": "integer"}, "at": {"type": "string", "format": "date-time"},
  "price": {"type": "string", "x-decimal": "10,2"}, "flags": {"type": "integer"}}}`

const cdcYAML = "dataset: d\nschema: s.json\nkey: [id]\nreplica: {table: d}\n"

func TestLoadCDC(t *testing.T) {
	d := load(t, cdcYAML+`format: canal
cdc:
  table: shop.d
  truncates: ignore
  partition_by: table
  columns: {at: timestamp(6), flags: bit(12)}
  zero_dates: clear
  damaged_text: refuse
  zone: "+08:00"
`, cdcSchema)
	want := &schemas.CDCRules{
		Table: "shop.d", IgnoreTruncates: true, PartitionedByTable: true, ClearZeroDates: true, RefuseDamaged: true, Zone: 480,
		Binary:  schemas.BinaryBase64,
		Columns: map[string]schemas.ColumnType{"at": {Base: "timestamp", Length: 6}, "flags": {Base: "bit", Length: 12}},
	}
	if diff := cmp.Diff(want, d.CDC); diff != "" {
		t.Error(diff)
	}
	d = load(t, cdcYAML+"format: debezium-flat\nversion: {column: rev}\ncdc: {deletes: rewrite, decimals: precise, times: connect, binary: hex}\n", cdcSchema)
	want = &schemas.CDCRules{RewrittenDeletes: true, PreciseDecimals: true, ConnectTimes: true, Binary: schemas.BinaryHex}
	if diff := cmp.Diff(want, d.CDC); diff != "" {
		t.Error(diff)
	}
	if len(d.Unbuilt()) != 0 {
		t.Errorf("unbuilt: %v", d.Unbuilt())
	}
	if d := load(t, cdcYAML+"format: debezium\n", cdcSchema); d.CDC == nil || d.CDC.Binary != schemas.BinaryBase64 {
		t.Errorf("without a section: %+v", d.CDC)
	}
	if d := load(t, cdcYAML, cdcSchema); d.CDC != nil {
		t.Errorf("cloudevents: %+v", d.CDC)
	}
}

func TestLoadCDCRefuses(t *testing.T) {
	for name, tc := range map[string]struct{ yaml, want string }{
		"cloudevents":    {"cdc: {table: a.b}\n", "cdc: belongs to the formats"},
		"no table":       {"format: maxwell\n", "cdc.table: is missing"},
		"table":          {"format: maxwell\ncdc: {table: users}\n", "cdc.table: is not a database and table"},
		"deletes":        {"format: debezium-flat\n", "cdc.deletes: is missing"},
		"drop":           {"format: debezium-flat\ncdc: {deletes: drop}\n", "cdc.deletes: is none of tombstone, rewrite"},
		"not flat":       {"format: debezium\ncdc: {deletes: rewrite}\n", "cdc.deletes: is an unknown field"},
		"not debezium":   {"format: canal\ncdc: {table: a.b, decimals: precise}\n", "cdc.decimals: is an unknown field"},
		"not canal":      {"format: debezium\ncdc: {zone: \"+01:00\"}\n", "cdc.zone: is an unknown field"},
		"zone":           {"format: canal\ncdc: {table: a.b, zone: CET}\n", "cdc.zone: is not an offset from UTC"},
		"type":           {"format: debezium\ncdc: {columns: {at: datetim}}\n", "cdc.columns.at: is not a column type"},
		"property":       {"format: debezium\ncdc: {columns: {nope: int}}\n", "cdc.columns.nope: is not a property"},
		"kind":           {"format: debezium\ncdc: {columns: {at: bigint}}\n", "cdc.columns.at: has values that the property cannot hold"},
		"wide":           {"format: debezium\ncdc: {columns: {price: \"decimal(12,3)\"}}\n", "cdc.columns.price: is wider"},
		"tombstone":      {"format: debezium-flat\nversion: {column: rev}\ncdc: {deletes: tombstone}\n", "version: is a column, which a delete without a row does not have"},
		"not a section":  {"format: debezium\ncdc: [a]\n", "cdc: is not a mapping"},
		"event versions": {"format: debezium\nversion: event\n", "version: is event"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := schemas.LoadDatasets(folder(map[string]string{"d.yaml": cdcYAML + tc.yaml, "s.json": cdcSchema}))
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestParseColumnType(t *testing.T) {
	for text, want := range map[string]schemas.ColumnType{
		"bigint(20) unsigned":              {Base: "bigint", Length: 20, Unsigned: true},
		"BIGINT unsigned":                  {Base: "bigint", Unsigned: true},
		"INTEGER":                          {Base: "int"},
		"DECIMAL(12, 2)":                   {Base: "decimal", Precision: 12, Scale: 2},
		"numeric":                          {Base: "decimal", Precision: 10},
		"double(5,2)":                      {Base: "double", Precision: 5, Scale: 2},
		"datetime(3)":                      {Base: "datetime", Length: 3},
		"timestamp":                        {Base: "timestamp"},
		"year(4)":                          {Base: "year", Length: 4},
		"json":                             {Base: "json"},
		`enum('red','it''s, "x"','a)b')`:   {Base: "enum", Labels: []string{"red", `it's, "x"`, "a)b"}},
		"set( 'a' , '' )":                  {Base: "set", Labels: []string{"a", ""}},
		"varchar(10) CHARACTER SET latin1": {Base: "varchar", Length: 10},
		"int(5) zerofill":                  {Base: "int", Length: 5, Unsigned: true},
	} {
		got, ok := schemas.ParseColumnType(text)
		if !ok {
			t.Errorf("%s: refused", text)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", text, diff)
		}
	}
	for _, text := range []string{
		"", "thing", "enum", "enum(", "enum()", "enum('a'", "enum('a' 'b')", "enum(a)", "enum('a',)", "decimal(1,2)", "decimal(66,0)", "decimal(a)",
		"int(", "int(x)", "decimal(5,x)", "set('",
	} {
		if got, ok := schemas.ParseColumnType(text); ok {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}

func TestPositionVersion(t *testing.T) {
	for _, tc := range []struct {
		epoch, offset, want int64
	}{
		{0, 0, 1}, {0, 41, 42}, {1, 0, 1<<40 + 1}, {1<<13 - 2, 1<<40 - 3, (1<<13-2)<<40 + 1<<40 - 2},
	} {
		got, err := schemas.PositionVersion(tc.epoch, tc.offset)
		if got != tc.want || err != nil || got > schemas.MaxVersion || got < schemas.MinVersion {
			t.Errorf("%d, %d: got %d, %v", tc.epoch, tc.offset, got, err)
		}
	}
	last, _ := schemas.PositionVersion(3, 1<<40-3)
	if first, _ := schemas.PositionVersion(4, 0); first <= last {
		t.Errorf("a new epoch begins at %d, below %d", first, last)
	}
	for _, bad := range [][2]int64{{-1, 0}, {0, -1}, {1<<13 - 1, 0}, {0, 1<<40 - 2}} {
		if v, err := schemas.PositionVersion(bad[0], bad[1]); err == nil || schemas.ReasonOf(err) != schemas.ReasonVersion {
			t.Errorf("%v: got %d, %v", bad, v, err)
		}
	}
}

func TestWalk(t *testing.T) {
	var got []string
	err := schemas.WalkObject(` {"a": 1.50, "b\u00e9": "x\ny", "c": {"d": [1, 2 ]}, "e": null, "f": true} `, func(name string, v schemas.JSON) error {
		got = append(got, name+"="+v.Text)
		return nil
	})
	if diff := cmp.Diff([]string{"a=1.50", "bé=x\ny", `c={"d":[1,2]}`, "e=null", "f=true"}, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
	for _, bad := range []string{`[1]`, `{"a":1,"a":2}`, `{"a":1}x`, `{"a":"\ud800"}`, "{\"a\":\"\xff\"}", `{"a"`, ``, `{"a":1e999}`} {
		if err := schemas.WalkObject(bad, func(string, schemas.JSON) error { return nil }); err == nil || schemas.ReasonOf(err) != schemas.ReasonMalformed {
			t.Errorf("%q: got %v", bad, err)
		}
	}
	n := 0
	if err := schemas.WalkArray(`[1, "a", []]`, func(schemas.JSON) error { n++; return nil }); err != nil || n != 3 {
		t.Errorf("%d items, %v", n, err)
	}
	if v, err := schemas.ReadJSON(` { "a": [ 1 ] } `); err != nil || v.Kind != schemas.JSONObject || v.Text != `{"a":[1]}` {
		t.Errorf("got %+v, %v", v, err)
	}
	if _, err := schemas.ReadJSON(`{} {}`); err == nil {
		t.Error("two values are one")
	}
}

func TestDatasetsShareATopic(t *testing.T) {
	files := func(rules ...string) map[string]string {
		out := map[string]string{"s.json": cdcSchema}
		for i, r := range rules {
			name := string(rune('a' + i))
			out[name+".yaml"] = "dataset: " + name + "\ntopic: shop\nschema: s.json\nkey: [id]\nreplica: {table: " + name + "}\n" + r
		}
		return out
	}
	set, err := schemas.LoadDatasets(folder(files("format: canal\ncdc: {table: x.a}\n", "format: canal\ncdc: {table: x.b}\n")))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range set.All() {
		if got, _ := set.ByTopic("shop#" + d.Name); got != d || schemas.KafkaTopic(d.Topic) != "shop" {
			t.Errorf("dataset %s has the topic %s", d.Name, d.Topic)
		}
		source := schemas.SourceName(d.Topic, "id", 3)
		if topic, _, _, err := schemas.ParseSource(source); err != nil || topic != d.Topic {
			t.Errorf("source %s: topic %q, %v", source, topic, err)
		}
	}
	// Whether others come and go must not change the name: positions are kept by it.
	if d := load(t, cdcYAML+"topic: shop\nformat: canal\ncdc: {table: x.a}\n", cdcSchema); d.Topic != "shop#"+d.Name {
		t.Errorf("a dataset that has the topic alone reads %s", d.Topic)
	}
	if d := load(t, cdcYAML+"topic: shop\nformat: debezium\n", cdcSchema); d.Topic != "shop" {
		t.Errorf("a dataset that cannot share its topic reads %s", d.Topic)
	}
	long := files("format: canal\ncdc: {table: x.a}\n")
	long["a.yaml"] = strings.Replace(long["a.yaml"], "topic: shop", "topic: "+strings.Repeat("t", 248), 1)
	if _, err := schemas.LoadDatasets(folder(long)); err == nil || !strings.Contains(err.Error(), "use shorter names") {
		t.Errorf("a name of 250 bytes: %v", err)
	}
	for want, rules := range map[string][]string{
		"give each dataset its own": {"", ""},
		"use one format":            {"format: canal\ncdc: {table: x.a}\n", "format: maxwell\ncdc: {table: x.b}\n"},
		"set cdc.table in both":     {"format: debezium\n", "format: debezium\ncdc: {table: x.b}\n"},
		"set another cdc.table":     {"format: canal\ncdc: {table: x.a}\n", "format: canal\ncdc: {table: x.a}\n"},
	} {
		if _, err := schemas.LoadDatasets(folder(files(rules...))); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", rules, err, want)
		}
	}
	if _, _, _, err := schemas.ParseSource("shop#Not a dataset/id/0"); err == nil {
		t.Error("a source with a name after # that is no dataset's is accepted")
	}
}
