package worker_test

import (
	"context"
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/schemas"
)

// The notes of positions are removed for every source, also of datasets that no node caches.
func TestNotesOfPositionsAreRemoved(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	b.exec("DELETE FROM freshet_meta WHERE name LIKE 'dataset:%'")
	var err error
	if b.datasets, err = schemas.LoadDatasets(fstest.MapFS{
		"items.yaml": {Data: fmt.Appendf(nil, "dataset: items\ntopic: %s\nschema: s.json\nkey: [id]\nreplica: {table: items}\n", b.dataset("items").Topic)},
		"s.json":     {Data: []byte(itemSchema)},
	}); err != nil {
		t.Fatal(err)
	}
	b.migrate(b.datasets)
	w := b.start(func(c *worker.Config, rc *replica.Config) {
		c.Datasets, c.Window, c.KeepDisplaced = b.datasets, time.Millisecond, time.Millisecond
		rc.HistoryEvery = time.Nanosecond
	})
	for i := range 10 {
		b.put("items", fmt.Sprint("k", i), 1)
		b.awaitRow("items", fmt.Sprint("k", i), 1) // a batch of its own
	}
	if n := b.count("freshet_position_history"); n < 5 {
		t.Fatalf("%d notes; the test shows nothing", n)
	}
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		w.Purge(ctx)
		if n := b.count("freshet_position_history"); n > 2 {
			return fmt.Errorf("%d notes are left", n)
		}
		return nil
	})
}
