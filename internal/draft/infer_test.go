package draft_test

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/cdctest"
	"github.com/freshet/freshet/internal/draft"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

const captures = "../../schemas/cdc/testdata"

// infer reads a capture.
func infer(t *testing.T, file string) (*draft.Capture, []schemas.Record) {
	t.Helper()
	captured, err := cdctest.Read(captures, file)
	if err != nil {
		t.Fatal(err)
	}
	records := make([]schemas.Record, len(captured))
	for i := range captured {
		records[i] = captured[i].Record
	}
	c, err := draft.Infer("t", records)
	if err != nil {
		t.Fatal(err)
	}
	return c, records
}

// load drafts a table and loads the draft as a worker does.
func load(t *testing.T, table *draft.Table, cfg draft.Config) *schemas.Dataset {
	t.Helper()
	d, err := draft.New(table, cfg)
	if err != nil {
		t.Fatal(err)
	}
	set, err := schemas.LoadDatasets(fstest.MapFS{d.Dataset + ".yaml": {Data: []byte(d.YAML)}, d.Dataset + ".json": {Data: []byte(d.JSON)}})
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, d.YAML, d.JSON)
	}
	return set.All()[0]
}

// TestInferFromCaptures: what each tool wrote is recognised, with its tables, keys and columns, and the drafts read the rows.
func TestInferFromCaptures(t *testing.T) {
	for _, c := range []struct {
		file   string
		from   draft.From
		tables map[string]string // to the key
	}{
		{"debezium/plain.customers", draft.Debezium, map[string]string{"shop.customers": "id"}},
		{"debezium/plain.order_lines", draft.Debezium, map[string]string{"shop.order_lines": "order_id,line_no"}},
		{"debezium/schema.customers", draft.Debezium, map[string]string{"shop.customers": "id"}},
		{"debezium/schema.order_lines", draft.Debezium, map[string]string{"shop.order_lines": "order_id,line_no"}},
		{"debezium/unwrap.customers", draft.DebeziumFlat, map[string]string{"shop.customers": "id"}},
		{"debezium/unwrap-rewrite-schema.demo", draft.DebeziumFlat, map[string]string{"shop.demo": "id"}},
		{"canal/flat", draft.Canal, map[string]string{"shop.audit_nopk": "", "shop.customers": "id", "shop.dbz_signal": "id", "shop.order_lines": "order_id,line_no", "shop.outbox": "id"}},
		{"maxwell/default", draft.Maxwell, map[string]string{"shop.audit_nopk": "", "shop.customers": "id", "shop.dbz_signal": "id", "shop.order_lines": "order_id,line_no", "shop.outbox": "id"}},
	} {
		t.Run(c.file, func(t *testing.T) {
			got, records := infer(t, c.file)
			keys := map[string]string{}
			for _, table := range got.Tables {
				keys[table.Database+"."+table.Name] = strings.Join(table.Key, ",")
			}
			if got.From != c.from {
				t.Errorf("from %s, want %s", got.From, c.from)
			}
			if diff := cmp.Diff(c.tables, keys); diff != "" {
				t.Errorf("tables and keys (-want +got):\n%s", diff)
			}
			for _, table := range got.Tables {
				cfg := draft.Config{From: got.From, Topic: "t", RewrittenDeletes: got.RewrittenDeletes}
				if len(table.Key) == 0 {
					if _, err := draft.New(table, cfg); err == nil {
						t.Errorf("%s has a draft without a key", table.Name)
					}
					continue
				}
				readsRows(t, load(t, table, cfg), records)
			}
		})
	}
}

// unread are refusals that only a type of the database would avoid, and that the notes announce.
var unread = []string{"a date that does not exist", "does not explain; declare its type", "data/prefs: breaks the schema's type", "may be text, or bytes", "which Debezium writes so", "in no readable form", "not a value of its column's type"}

// readsRows decodes every row, and counts those that are refused for another reason than an unknown type.
func readsRows(t *testing.T, d *schemas.Dataset, records []schemas.Record) {
	t.Helper()
	dec := cdc.New(cdc.Config{Dataset: d, Partitions: 1})
	rows := 0
	for i := range records {
		res, err := dec.Decode(records[i])
		if err != nil {
			t.Fatal(err)
		}
		for j := range res.Rows {
			err := res.Rows[j].Err
			if err == nil {
				_, err = d.Check(&res.Rows[j].Event)
			}
			if err != nil && !slices.ContainsFunc(unread, func(s string) bool { return strings.Contains(err.Error(), s) }) {
				t.Errorf("%s, record %d: %v", d.Name, i, err)
			}
			rows++
		}
	}
	if rows == 0 {
		t.Errorf("%s: no row was read", d.Name)
	}
}

// TestInferTypes: Canal states the server's types, schemas of Connect most of them.
func TestInferTypes(t *testing.T) {
	for file, want := range map[string]map[string]string{
		"canal/flat": {"id": "bigint", "email": "varchar(120)", "balance": "decimal(12,2)", "vip": "tinyint(1)", "updated_at": "timestamp(6)", "big": "bigint unsigned", "yr": "year"},
		"debezium/schema.customers": {
			"id": "bigint", "balance": "decimal(12,2)", "birthday": "date", "flags": "bit(12)", "color": "enum('red','green','blue','it''s, \"x\"')", "tags": "set('a','b','c d')", "ratio": "double",
		},
	} {
		got, _ := infer(t, file)
		for _, table := range got.Tables {
			for _, c := range table.Columns {
				if w := want[c.Name]; table.Name == "customers" && w != "" && c.Type.String() != w {
					t.Errorf("%s: column %s is %s, want %s", file, c.Name, c.Type, w)
				}
			}
		}
	}
}

// TestInferNamesAndNotes: a table that no record names has the name of the topic, and what a reader has to know is said.
func TestInferNamesAndNotes(t *testing.T) {
	key := []byte(`{"id":1}`)
	records := []schemas.Record{
		{Key: key, Value: []byte(`{"id":1,"n":-5,"when":null,"mixed":1,"big":1,"late":2,"__deleted":"false"}`)},
		{Key: key, Value: []byte(`{"id":2,"n":5,"when":null,"mixed":"a","big":18446744073709551615,"__deleted":"false"}`)},
		{Key: key, Value: nil},
	}
	got, err := draft.Infer("server.shop.things", records)
	if err != nil || len(got.Tables) != 1 || got.Tables[0].Name != "things" || !got.RewrittenDeletes || got.From != draft.DebeziumFlat {
		t.Fatalf("got %+v, %v", got, err)
	}
	notes := strings.Join(got.Notes, "\n")
	for _, want := range []string{
		"things: column when is left out: it was null in every record", "things: column mixed is left out: it has values of several types (integer, string)",
		"things: column n has negative numbers, or the upper half of BIGINT UNSIGNED", "things: its types were inferred from 2 rows",
	} {
		if !strings.Contains(notes, want) {
			t.Errorf("%q is not in\n%s", want, notes)
		}
	}
	d := load(t, got.Tables[0], draft.Config{From: got.From, Topic: "server.shop.things", RewrittenDeletes: true})
	required, _ := d.Schema().Document()["required"].([]any)
	if diff := cmp.Diff([]any{"id", "n", "big"}, required); diff != "" {
		t.Errorf("required (-want +got):\n%s", diff)
	}
	for _, p := range d.Schema().Properties() {
		if p.Name == "big" && !p.Unsigned {
			t.Error("a number above 2^63-1 did not make the property unsigned")
		}
	}
	if !d.CDC.RewrittenDeletes || d.CDC.Table != "" {
		t.Errorf("cdc is %+v", d.CDC)
	}
}

func TestInferRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		record schemas.Record
		want   string
	}{
		"CloudEvents":     {schemas.Record{Headers: []schemas.Header{{Key: "ce_type", Value: []byte("x")}}, Value: []byte(`{"id":1}`)}, "has CloudEvents"},
		"schema registry": {schemas.Record{Value: []byte{0, 0, 0, 0, 1, 2, 3}}, "frame of a schema registry"},
		"plain JSON":      {schemas.Record{Key: []byte("1"), Value: []byte(`{"id":1}`)}, "none of 1 records"},
		"no JSON":         {schemas.Record{Value: []byte("hello")}, "none of 1 records"},
	} {
		if _, err := draft.Infer("t", []schemas.Record{c.record}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", name, err, c.want)
		}
	}
	if _, err := draft.Infer("t", nil); err == nil || !strings.Contains(err.Error(), "has no records yet") {
		t.Errorf("no records: %v", err)
	}
	for _, file := range []string{"debezium/plain.heartbeat", "debezium/plain.transaction", "debezium/plain.schema-changes", "maxwell/ddl"} {
		captured, err := cdctest.Read(captures, filepath.FromSlash(file))
		if err != nil {
			t.Fatal(err)
		}
		records := make([]schemas.Record, len(captured))
		for i := range captured {
			records[i] = captured[i].Record
		}
		if c, err := draft.Infer("t", records); err == nil {
			t.Errorf("%s: tables %v", file, c.Tables)
		}
	}
}
