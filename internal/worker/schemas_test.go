package worker_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/schemas"
)

// older are the declarations of an older release: items has no property n; extra is put into its dataset file.
func (b *bed) older(extra string) *schemas.Datasets {
	b.t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: fmt.Appendf(nil, "dataset: items\ntopic: %s\nschema: s.json\nkey: [id]\nreplica: {table: items}\ncache: {key: \"items:{id}\"}\n%s", b.dataset("items").Topic, extra)},
		"s.json":     {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"string","minLength":1,"maxLength":64},"name":{"type":"string","maxLength":40}}}`)},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return set
}

func (b *bed) publish(ev *schemas.Event, data map[string]any) {
	b.t.Helper()
	if data != nil {
		body, err := json.Marshal(data)
		if err != nil {
			b.t.Fatal(err)
		}
		ev.Data = body
	}
	ev.Source, ev.Dataset, ev.ID = "//test", "items", fmt.Sprint(ev.Key, ev.Version)
	d := b.dataset("items")
	rec, err := d.Encode(ev)
	if err != nil {
		b.t.Fatal(err)
	}
	b.produce(d.Topic, 0, rec.Key, rec.Value, rec.Headers)
}

func (b *bed) upsert(key string, version int64, data map[string]any) {
	b.t.Helper()
	data["id"] = key
	b.publish(&schemas.Event{Key: key, Op: schemas.Upsert, Version: version}, data)
}

// number is the column n of a row of items; -1 for NULL.
func (b *bed) number(key string) int64 {
	b.t.Helper()
	var n sql.NullInt64
	if err := b.db.QueryRowContext(b.t.Context(), "SELECT n FROM items WHERE id = ?", key).Scan(&n); err != nil {
		b.t.Fatal(err)
	}
	if !n.Valid {
		return -1
	}
	return n.Int64
}

// A worker whose schema lacks a column sets it to NULL where the event has no value for it, and pauses where it has one:
// neither the column's previous value under the new version nor a row without the event's value was ever a state of the record.
func TestWorkerWithAnOlderSchema(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	for _, key := range []string{"k1", "k2", "k3"} {
		b.upsert(key, 1, map[string]any{"name": "v1", "n": 1})
	}
	b.awaitDone("items")
	w.stop()
	w = b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = b.older("") })
	b.upsert("k1", 2, map[string]any{"name": "v2"})
	b.publish(&schemas.Event{Key: "k2", Op: schemas.Delete, Version: 2}, nil)
	b.awaitRow("items", "k1", 2)
	b.awaitRow("items", "k2", 2)
	if n1, n2 := b.number("k1"), b.number("k2"); n1 != -1 || n2 != -1 {
		t.Errorf("n is %d after an event without it, and %d after a deletion; want NULL", n1, n2)
	}
	awaitReady(t, w)
	b.upsert("k3", 2, map[string]any{"name": "v2", "n": 2})
	awaitReason(t, w, "dataset items is paused", "property n", "--drop-property items.n")
	if v, n := b.version(t.Context(), "items", "k3"), b.number("k3"); v != 1 || n != 1 {
		t.Errorf("the row has version %d and n %d; want it unchanged", v, n)
	}
	w.stop()
	w = b.start(nil)
	b.awaitRow("items", "k3", 2)
	if n := b.number("k3"); n != 2 {
		t.Errorf("n is %d, want 2", n)
	}
	b.awaitDone("items")
	awaitReady(t, w)
}

// An older schema that refuses unknown properties makes no dead letter of an event that the registered one takes.
func TestOlderSchemaMakesNoDeadLetters(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = b.older("unknown_properties: reject\n") })
	b.upsert("k1", 1, map[string]any{"name": "v1", "n": 1})
	awaitReason(t, w, "dataset items is paused", "property n")
	w.stop()
	b.start(nil)
	b.awaitRow("items", "k1", 1)
	if n := b.count("freshet_dead_letter"); n != 0 {
		t.Errorf("%d dead letters", n)
	}
}

// An operator takes a property out of the schema: its column is cleared, and events may still have it.
func TestDroppedProperty(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.upsert("k1", 1, map[string]any{"name": "v1", "n": 1})
	b.awaitDone("items")
	w.stop()
	if found, err := tables.DropProperty(t.Context(), b.db, "items", "n"); err != nil || !found {
		t.Fatal(found, err)
	}
	w = b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = b.older("") })
	b.upsert("k1", 2, map[string]any{"name": "v2", "n": 2})
	b.awaitRow("items", "k1", 2)
	if n := b.number("k1"); n != -1 {
		t.Errorf("n is %d, want NULL", n)
	}
	awaitReady(t, w)
	w.stop()
	b.migrate(b.datasets) // the property comes back
	b.start(nil)
	b.upsert("k1", 3, map[string]any{"name": "v3", "n": 3})
	b.awaitRow("items", "k1", 3)
	if n := b.number("k1"); n != 3 {
		t.Errorf("n is %d, want 3", n)
	}
}

// A worker with a newer schema than the database has registered pauses, also when the table has the column already.
func TestNewerSchemaThanRegistered(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.exec("DELETE FROM freshet_meta WHERE name = 'schema:items'")
	b.migrate(b.older(""))
	w := b.start(nil)
	b.upsert("k1", 1, map[string]any{"name": "v1", "n": 1})
	awaitReason(t, w, "dataset items is paused", "column n is not registered", "freshet migrate datasets")
	b.migrate(b.datasets)
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		if v := b.version(ctx, "items", "k1"); v != 1 {
			return fmt.Errorf("version %d", v)
		}
		return nil
	})
	awaitReady(t, w)
}

// The column of a dropped property can be dropped too: nothing is left to clear.
func TestDroppedColumn(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.Datasets, c.ProbeInterval = b.older(""), 100*time.Millisecond
	})
	if found, err := tables.DropProperty(t.Context(), b.db, "items", "n"); err != nil || !found {
		t.Fatal(found, err)
	}
	b.upsert("k1", 1, map[string]any{"name": "v1"})
	b.awaitRow("items", "k1", 1)
	b.exec("ALTER TABLE items DROP COLUMN n")
	b.upsert("k1", 2, map[string]any{"name": "v2", "n": 2})
	b.awaitRow("items", "k1", 2)
	awaitReady(t, w)
}

// renamed are declarations that keep the property n in another column.
func (b *bed) renamed() *schemas.Datasets {
	b.t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: fmt.Appendf(nil, "dataset: items\ntopic: %s\nschema: s.json\nkey: [id]\nreplica: {table: items, columns: {number: n}}\ncache: {key: \"items:{id}\"}\n", b.dataset("items").Topic)},
		"s.json":     {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"string","minLength":1,"maxLength":64},"name":{"type":"string","maxLength":40},"n":{"type":"integer"}}}`)},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return set
}

// A property that moves to another column is written there and cleared where it was; programs that know the previous column
// pause.
func TestRenamedColumn(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.upsert("k1", 1, map[string]any{"name": "v1", "n": 1})
	b.awaitRow("items", "k1", 1)
	b.migrate(b.renamed())
	b.upsert("k1", 2, map[string]any{"name": "v2", "n": 2})
	awaitReason(t, w, "dataset items is paused", "property n")
	w.stop()
	w = b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = b.renamed() })
	b.awaitRow("items", "k1", 2)
	awaitReady(t, w)
	if n := b.number("k1"); n != -1 {
		t.Errorf("the previous column has %d, want NULL", n)
	}
	var number int64
	if err := b.db.QueryRowContext(t.Context(), "SELECT number FROM items WHERE id = 'k1'").Scan(&number); err != nil || number != 2 {
		t.Errorf("number is %d, %v; want 2", number, err)
	}
}
