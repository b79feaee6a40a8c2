package replica_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/migrations"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const (
	group = "g"
	src   = "freshet.items/kR3a_x/0"
)

// declared are the datasets of these tests: items has an integer key and a cache section, names a string key and none,
// kept keeps its columns on deletion, wide has every kind of property and a key of two.
func declared(t testing.TB) *schemas.Datasets {
	t.Helper()
	fsys := fstest.MapFS{
		"items.yaml": {Data: []byte("dataset: items\nschema: items.json\nkey: [id]\nreplica: {table: items}\ncache: {key: \"item:{id}\"}\n")},
		"items.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"integer","minimum":1},
			"name":{"type":"string","maxLength":40},"n":{"type":"integer"}}}`)},
		"people.yaml": {Data: []byte("dataset: people\nschema: people.json\nkey: [id]\nreplica: {table: people}\ncache:\n  key: \"person:{id}\"\n" +
			"  derived: [\"person:mail:{email}\"]\n  tags: [\"org:{org_id}\"]\n  external: [\"old:{email}:{id}\"]\n")},
		"people.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"integer","minimum":1},
			"email":{"type":"string","maxLength":40},"note":{"type":"string","maxLength":10},"org_id":{"type":"integer"}}}`)},
		"names.yaml": {Data: []byte("dataset: names\nschema: names.json\nkey: [name]\nreplica: {table: names}\n")},
		"names.json": {Data: []byte(`{"type":"object","required":["name"],"properties":{"name":{"type":"string","maxLength":100},
			"n":{"type":"integer"}}}`)},
		"kept.yaml": {Data: []byte("dataset: kept\nschema: kept.json\nkey: [id]\non_delete: keep\nreplica: {table: kept}\n")},
		"kept.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"integer"},"name":{"type":"string","maxLength":40}}}`)},
		"wide.yaml": {Data: []byte("dataset: wide\nschema: wide.json\nkey: [shop, number]\nreplica:\n  table: wide\n  columns: {ord: order}\n")},
		"wide.json": {Data: []byte(`{"type":"object","required":["shop","number"],"properties":{
			"shop":{"type":"string","maxLength":32},"number":{"type":"integer","minimum":0,"maximum":18446744073709551615},
			"order":{"type":"string","maxLength":20},"long":{"type":"string"},"price":{"type":"string","x-decimal":"12,2","maxLength":14},
			"ratio":{"type":"number"},"on":{"type":"boolean"},"tags":{"type":"array"},"at":{"type":"string","format":"date-time"},
			"day":{"type":"string","format":"date"}}}`)},
		"captured.yaml": {Data: []byte("dataset: captured\nschema: kept.json\nkey: [id]\nformat: debezium\nreplica: {table: captured}\n")},
	}
	set, err := schemas.LoadDatasets(fsys)
	if err != nil {
		t.Fatalf("load datasets: %v", err)
	}
	return set
}

func dataset(t testing.TB, name string) *schemas.Dataset {
	t.Helper()
	ds, ok := declared(t).Get(name)
	if !ok {
		t.Fatalf("no dataset %s", name)
	}
	return ds
}

// bed is a replica with its tables, in a database of the test alone.
type bed struct {
	*replica.DB
	db  *sql.DB
	cfg replica.Config
	set *schemas.Datasets
	pos replica.Position
	off atomic.Int64 // next offset of src
}

func newBed(t testing.TB, cfg replica.Config) *bed {
	t.Helper()
	if cfg.MySQL.DSN == "" && cfg.MySQL.Connector == nil {
		cfg.MySQL.DSN = testenv.MySQL(t).NewDatabase(t)
	}
	b := &bed{cfg: cfg, set: declared(t)}
	b.DB = open(t, cfg)
	b.db = b.SQL()
	mig, err := migrations.New(b.db, migrations.Config{NoLock: true})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = mig.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	ddl, err := tables.Migrate(t.Context(), b.db, b.set.All(), false)
	if err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate: %v, problems %v", err, ddl.Problems)
	}
	broken, err := b.Prepare(t.Context(), b.set.All())
	if err != nil || len(broken) > 0 {
		t.Fatalf("prepare: %v, broken %v", err, broken)
	}
	b.pos = b.take(t, "a", 1)
	return b
}

func open(t testing.TB, cfg replica.Config) *replica.DB {
	t.Helper()
	m, err := replica.Open(t.Context(), cfg)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return m
}

func (b *bed) take(t testing.TB, owner string, gen int32) replica.Position {
	t.Helper()
	ps, err := b.Positions.Take(t.Context(), group, owner, gen, []replica.Claim{{Source: src}})
	if err != nil {
		t.Fatalf("take: %v", err)
	}
	return ps[0]
}

// event is a change of a record as the worker would make it from a message. Properties of body are JSON.
func (b *bed) event(t testing.TB, name string, version int64, op schemas.Op, body string) *replica.Change {
	t.Helper()
	ds, ok := b.set.Get(name)
	if !ok {
		t.Fatalf("no dataset %s", name)
	}
	var props map[string]json.RawMessage
	if err := json.Unmarshal([]byte(body), &props); err != nil {
		t.Fatal(err)
	}
	parts := make([]any, 0, 2)
	for i, k := range ds.Key {
		text := strings.Trim(string(props[k]), `"`)
		if ds.Replica.Columns[i].Property.Kind != schemas.KindInteger {
			parts = append(parts, text)
		} else if n, err := strconv.ParseUint(text, 10, 64); err == nil {
			parts = append(parts, n)
		}
	}
	key, err := ds.FormatKey(parts...)
	if err != nil {
		t.Fatalf("format key: %v", err)
	}
	ev := &schemas.Event{ID: fmt.Sprintf("id-%s-%d", key, version), Dataset: name, Key: key, Op: op, Version: version, Data: []byte(body)}
	row, err := ds.Check(ev)
	if err != nil {
		t.Fatalf("check %s: %v", body, err)
	}
	off := b.off.Add(1) - 1
	rec := &schemas.Record{
		Key: []byte(key), Value: []byte(body), Headers: []schemas.Header{{Key: "h", Value: []byte("v")}, {Key: "none"}},
		Time: 1_000_000 + off, Offset: off,
	}
	c, err := replica.NewChange(ds, rec, 0, ev, row)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func (b *bed) item(t testing.TB, id int, version int64, name string) *replica.Change {
	t.Helper()
	return b.event(t, "items", version, schemas.Upsert, fmt.Sprintf(`{"id":%d,"name":%q,"n":%d}`, id, name, version))
}

func (b *bed) gone(t testing.TB, id int, version int64) *replica.Change {
	t.Helper()
	return b.event(t, "items", version, schemas.Delete, fmt.Sprintf(`{"id":%d}`, id))
}

// bad makes the table refuse the change, which the schema would have caught.
func bad(c *replica.Change) *replica.Change {
	for i, col := range c.Dataset.Replica.Columns {
		if col.Name == "name" {
			c.Values[i] = strings.Repeat("x", 41)
		}
	}
	return c
}

func (b *bed) batch(changes ...*replica.Change) *replica.Batch {
	return &replica.Batch{Source: src, Fence: b.pos.Fence, Next: b.off.Load(), Changes: changes}
}

func (b *bed) apply(t testing.TB, changes ...*replica.Change) replica.Result {
	t.Helper()
	res, err := b.Apply(t.Context(), b.batch(changes...))
	if err != nil {
		t.Fatalf("apply: %v", err)
	}
	return res
}

// row is "version:name", "version:deleted", or "none".
func (b *bed) row(t testing.TB, id int) string {
	t.Helper()
	ds, _ := b.set.Get("items")
	r, err := b.Rows.Get(t.Context(), ds, strconv.Itoa(id))
	if err != nil {
		t.Fatalf("row: %v", err)
	}
	switch {
	case !r.Found:
		return "none"
	case r.Deleted:
		return fmt.Sprintf("%d:deleted", r.Version)
	}
	return fmt.Sprintf("%d:%v", r.Version, r.Properties(ds)["name"])
}

func (b *bed) wantRow(t testing.TB, id int, want string) {
	t.Helper()
	if got := b.row(t, id); got != want {
		t.Errorf("row %d is %s, want %s", id, got, want)
	}
}

func (b *bed) letters(t testing.TB) []replica.StoredLetter {
	t.Helper()
	ls, err := b.Letters.List(t.Context(), replica.LetterQuery{Content: true})
	if err != nil {
		t.Fatalf("letters: %v", err)
	}
	return ls
}

func (b *bed) exec(t testing.TB, text string, args ...any) {
	t.Helper()
	if _, err := b.db.ExecContext(t.Context(), text, args...); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

func one[T any](t testing.TB, db *sql.DB, text string, args ...any) T {
	t.Helper()
	var v T
	if err := db.QueryRowContext(context.WithoutCancel(t.Context()), text, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// TestRowWithoutVersion: a row that was loaded by other means with version 0 is live, unlike a placeholder, and every event
// overwrites it.
func TestRowWithoutVersion(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.exec(t, "INSERT INTO items (id, name, _version, _deleted, _at) VALUES (1, 'loaded', 0, 0, 1), (2, NULL, 0, 1, 0)")
	b.wantRow(t, 1, "0:loaded")
	b.wantRow(t, 2, "none")
	b.apply(t, b.item(t, 1, 1, "first"))
	b.wantRow(t, 1, "1:first")
}
