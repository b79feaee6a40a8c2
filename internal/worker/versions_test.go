package worker_test

import (
	"fmt"
	"testing"

	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/schemas"
)

// A source that was restored from a backup publishes lower versions: its events change nothing, and are counted.
func TestSupersededEventsAreCounted(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	for i := range 30 {
		b.upsert(fmt.Sprint("k", i), 100, map[string]any{"name": "before", "n": 1})
	}
	b.awaitDone("items")
	if st := w.Stats().Datasets["items"]; st.Superseded != 0 || st.Conflicts != 0 || st.Events != 30 {
		t.Errorf("of new records: %+v", st)
	}
	for range 2 {
		for i := range 30 {
			b.upsert(fmt.Sprint("k", i), 50, map[string]any{"name": "restored", "n": 2})
		}
	}
	awaitStats(t, w, "superseded", func(s worker.Stats) bool {
		d := s.Datasets["items"]
		return d.Superseded == 60 && d.Conflicts == 0 && d.VersionsWentBack()
	})
}

// The same version with the same content is a repetition, with other content a conflict, whatever form the database assigns
// the values, and also within one batch.
func TestEqualVersionsWithOtherContent(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.upsert("k1", 1, map[string]any{"name": "a", "n": 1})
	b.publish(&schemas.Event{Key: "k2", Op: schemas.Delete, Version: 1}, nil)
	b.awaitDone("items")
	b.upsert("k1", 1, map[string]any{"n": 1, "name": "a"})
	b.publish(&schemas.Event{Key: "k2", Op: schemas.Delete, Version: 1}, nil)
	b.awaitDone("items")
	if st := w.Stats().Datasets["items"]; st.Superseded != 0 || st.Conflicts != 0 {
		t.Errorf("of repetitions: %+v", st)
	}
	b.upsert("k1", 1, map[string]any{"name": "b", "n": 1})
	b.upsert("k2", 1, map[string]any{"name": "b"})
	awaitStats(t, w, "two conflicts", func(s worker.Stats) bool { return s.Datasets["items"].Conflicts == 2 })
	w.stop()
	for _, name := range []string{"c", "c", "d"} { // one batch
		b.upsert("k3", 7, map[string]any{"name": name})
	}
	w = b.start(nil)
	awaitStats(t, w, "one conflict", func(s worker.Stats) bool { return s.Datasets["items"].Conflicts == 1 })
}

// What the group committed late comes once more, older than the rows that it led to: nothing went back.
func TestRepetitionsAreNotSuperseded(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	for v := range int64(2) {
		for i := range 30 {
			b.upsert(fmt.Sprint("k", i), 1+v, map[string]any{"name": "a", "n": v})
		}
	}
	b.awaitDone("items")
	w.stop()
	b.commit("items", 0)
	w = b.start(nil)
	b.upsert("k0", 3, map[string]any{"name": "a", "n": 3})
	b.awaitDone("items")
	st := w.Stats()
	if d := st.Datasets["items"]; st.Events != 61 || d.Superseded != 0 || d.VersionsWentBack() {
		t.Errorf("of %d events: %+v", st.Events, d)
	}
}
