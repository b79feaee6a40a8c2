package worker_test

import (
	"context"
	"fmt"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/schemas"
)

// capture lets a capture tool write the topic of items, and returns the worker that reads it.
func (b *bed) capture(table string) *running {
	b.t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: fmt.Appendf(nil, "dataset: items\ntopic: %s\nformat: canal\ncdc: {table: %s}\nschema: s.json\nkey: [id]\nreplica: {table: items}\ncache: {key: \"items:{id}\"}\n",
			b.dataset("items").Topic, table)},
		"s.json": {Data: []byte(itemSchema)},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	b.datasets = set
	return b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = set })
}

// A topic that a capture tool has not made yet is not one that an operator can make with a command of Freshet.
func TestAMissingTopicOfACaptureTool(t *testing.T) {
	b := newBed(t, servers{})
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: fmt.Appendf(nil, "dataset: items\ntopic: %s-absent\nformat: canal\ncdc: {table: shop.items}\nschema: s.json\nkey: [id]\nreplica: {table: items}\n",
			b.dataset("items").Topic)},
		"s.json": {Data: []byte(itemSchema)},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.datasets = set
	w := b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = set })
	awaitReason(t, w, "-absent does not exist; start the capture tool that fills it")
}

// canal publishes a message of shop.items and returns its offset.
func (b *bed) canal(typ, data string) int64 {
	b.t.Helper()
	return b.produce(schemas.KafkaTopic(b.dataset("items").Topic), 0, nil, fmt.Appendf(nil,
		`{"type":%q,"database":"shop","table":"items","isDdl":%v,"data":%s,"old":null,"mysqlType":null}`, typ, data == "null", data), nil)
}

// What comes before a TRUNCATE is applied, emitted and committed before the dataset pauses, although it came in one batch
// with it: it would come over what the operator does with the rows.
func TestWhatPrecedesATruncateIsAppliedFirst(t *testing.T) {
	b := newBed(t, servers{})
	b.canal("INSERT", `[{"id":"k1","name":"a","n":"1"}]`)
	at := b.canal("TRUNCATE", "null")
	b.canal("INSERT", `[{"id":"k2","name":"b","n":"2"}]`)
	w := b.capture("shop.items")
	b.awaitRow("items", "k1", 1)
	awaitReason(t, w, "dataset items is paused", fmt.Sprintf("at offset %d (version %d)", at, at+1), "emptied or dropped")
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		committed, err := b.committed(ctx, "items")
		if err != nil || committed != at {
			return fmt.Errorf("committed %d, want %d: %w", committed, at, err)
		}
		return nil
	})
	if wm, err := b.rdb.HGet(t.Context(), b.keys().Meta, "wm:"+b.source("items")).Int64(); err != nil || wm != at-1 {
		t.Errorf("watermark %d, %v; the offsets before %d are not all emitted", wm, err, at)
	}
	if next, err := b.next(t.Context(), "items"); err != nil || next != at {
		t.Errorf("position %d, %v; want %d, where the truncate is", next, err, at)
	}
	if v := b.version(t.Context(), "items", "k2"); v != 0 {
		t.Errorf("k2, which came after the truncate, has version %d", v)
	}
	w.stop()

	// The operator marks the rows, and continues.
	b.exec("UPDATE items SET _deleted = 1, _version = ?, name = NULL, n = NULL WHERE _version < ?", at+1, at+1)
	set := b.datasets
	d, _ := set.Get("items")
	d.CDC.IgnoreTruncates = true
	b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = set })
	b.awaitRow("items", "k2", at+2)
	if n := b.count("items WHERE _deleted = 0"); n != 1 {
		t.Errorf("%d rows are left, want k2 alone", n)
	}
}

// A dataset that sees nothing but records of other tables says so as long as its table has never had a row.
func TestOnlyForeignRecords(t *testing.T) {
	b := newBed(t, servers{})
	w := b.capture("shop.Items")
	b.canal("INSERT", `[{"id":"k1"}]`)
	b.canal("INSERT", `[{"id":"k2"}]`)
	awaitReason(t, w, "dataset items has never had a row: all 2 records", "the last one of shop.items", "cdc.table is shop.Items")
	if n := w.Stats().Foreign["items"]; n != 2 {
		t.Errorf("%d foreign records, want 2", n)
	}
	b.produce(schemas.KafkaTopic(b.dataset("items").Topic), 0, nil, []byte(`{"type":"INSERT","database":"shop","table":"Items","data":[{"id":"k3"}]}`), nil)
	b.awaitRow("items", "k3", 3)
	awaitReady(t, w)
	w.stop()

	// After a restart the table tells that rows came once.
	w = b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = b.datasets })
	b.canal("INSERT", `[{"id":"k4"}]`)
	b.awaitDone("items")
	awaitStats(t, w, "the foreign record is not counted", func(s worker.Stats) bool { return s.Ignored["other_table"] == 1 })
	if n := w.Stats().Foreign["items"]; n != 0 {
		t.Errorf("%d records are reported as foreign, though the table has a row", n)
	}
}
