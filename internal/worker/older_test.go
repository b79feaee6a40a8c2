package worker_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/freshet/freshet/schemas"
)

// putRaw publishes an event of items to partition 0 unchecked.
func (b *bed) putRaw(ev schemas.Event) {
	b.t.Helper()
	d := b.dataset("items")
	ev.Source, ev.Dataset, ev.Op = "//t", "items", schemas.Upsert
	if ev.ID == "" {
		ev.ID = fmt.Sprint(ev.Key, ev.Version)
	}
	rec, err := d.Encode(&ev)
	if err != nil {
		b.t.Fatal(err)
	}
	b.produce(d.Topic, 0, rec.Key, rec.Value, rec.Headers)
}

// allLetters returns key, version, reason and state of every letter, by offset.
func (b *bed) allLetters() []string {
	b.t.Helper()
	rows, err := b.db.QueryContext(b.t.Context(), "SELECT CONCAT_WS(' ', record_key, version, reason, state) FROM freshet_dead_letter ORDER BY off")
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		var one string
		if err := rows.Scan(&one); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, one)
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
	return out
}

// A publisher repeats an event with its attributes put right, and the worker reads both in one batch.
func TestRepetitionOfAnInvalidEventIsApplied(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.putRaw(schemas.Event{ID: strings.Repeat("x", 1100), Key: "k1", Version: 5, Data: []byte(`{"id":"k1","n":5}`)})
	b.putRaw(schemas.Event{ID: "good", Key: "k1", Version: 5, Data: []byte(`{"id":"k1","n":5}`)})
	b.start(nil)
	b.awaitRow("items", "k1", 5)
	b.awaitDone("items")
	if got, want := b.allLetters(), []string{"k1 5 malformed superseded"}; !slices.Equal(got, want) {
		t.Errorf("letters %q, want %q", got, want)
	}
}

// On a compacted topic a state is not published once more if that would lose a property, also if the event with the property is
// applied because the table refused a newer one.
func TestPropertyOfAnOlderEventStays(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.compact("items")
	b.exec("ALTER TABLE items ADD CONSTRAINT small CHECK (n < 100)")
	b.putRaw(schemas.Event{Key: "k1", Version: 6, Data: []byte(`{"id":"k1","n":1000}`)})
	b.putRaw(schemas.Event{Key: "k1", Version: 5, Data: []byte(`{"id":"k1","n":5,"more":"x"}`)})
	w := b.start(nil)
	b.awaitRow("items", "k1", 5)
	b.awaitDone("items")
	last, err := b.last(t.Context(), "items")
	if s := w.Stats(); err != nil || s.UnknownProperties != 1 || s.Restated != 0 || s.Unchecked != 0 || last["k1"] != `upsert 5 {"id":"k1","n":5,"more":"x"}` {
		t.Errorf("%d unknown properties, %d restated, %d unchecked, the topic ends with %s: %v", s.UnknownProperties, s.Restated, s.Unchecked, last["k1"], err)
	}
}

// An event that breaks the schema is kept although a newer one follows in its batch, since the table refuses that.
func TestInvalidEventBeforeARefusedOneIsKept(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	topic := b.dataset("items").Topic
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: []byte("dataset: items\ntopic: " + topic + "\nschema: s.json\nkey: [id]\nreplica: {table: named}\ncache: {key: \"items:{id}\", tags: [\"name:{name}\"]}\n")},
		"s.json":     {Data: []byte(itemSchema)},
	})
	if err != nil {
		t.Fatal(err)
	}
	b.datasets = set // its names make the worker check every event
	b.exec("DELETE FROM freshet_meta")
	b.migrate(set)
	b.exec("ALTER TABLE named ADD CONSTRAINT small CHECK (n < 100)")
	b.putRaw(schemas.Event{Key: "k1", Version: 5, Data: []byte(`{"id":"k1","name":"a","n":"five"}`)})
	b.putRaw(schemas.Event{Key: "k1", Version: 6, Data: []byte(`{"id":"k1","name":"a","n":1000}`)})
	b.start(nil)
	b.awaitDone("items")
	if got, want := b.allLetters(), []string{"k1 5 schema open", "k1 6 refused open"}; !slices.Equal(got, want) {
		t.Errorf("letters %q, want %q", got, want)
	}
}
