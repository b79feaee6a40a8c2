package worker_test

import (
	"context"
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

// A worker that waited for its cache section to be registered writes nothing under it before the lanes have it: nodes of
// the previous section would not learn of it under their names.
func TestLanesAreToldOfASectionBeforeItsFirstRow(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	first := b.start(nil)
	b.put("items", "k0", 1)
	b.awaitDone("items")
	first.stop()
	next := b.declare("-next")
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.Datasets, c.CheckInterval, c.ProbeInterval = next, time.Hour, 100*time.Millisecond
	})
	b.put("items", "k0", 2)
	awaitReason(t, w, "dataset items is paused", "freshet migrate datasets")
	b.migrate(next)
	b.awaitRow("items", "k0", 2)
	want, _ := next.Get("items")
	if got, err := b.rdb.HGet(t.Context(), b.keys().Meta, "d:items").Result(); err != nil || got != want.CacheHash() {
		t.Errorf("a row is written and the lane has section %q, %v", got, err)
	}
}

// A worker of an earlier section does not emit again what a lane lost: of some of it, it would not know the names.
func TestAFormerSectionEmitsNothingAgain(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	w := b.start(nil)
	b.putMany("items", 5)
	b.awaitDone("items")
	next := b.declare("-next")
	b.migrate(next)
	b.rdb.HSet(t.Context(), b.keys().Meta, "d:items", "another", "wm:"+b.source("items"), 1)
	awaitReason(t, w, "another cache section")
	if n := w.Stats().Reemitted; n != 0 {
		t.Errorf("%d names were emitted again", n)
	}
	b.migrate(b.datasets)
	testenv.Eventually(t, patience, func(context.Context) error {
		if n := w.Stats().Reemitted; n == 0 {
			return fmt.Errorf("nothing is emitted again although the section is the worker's again")
		}
		return nil
	})
	b.awaitDone("items")
	awaitReady(t, w)
}

// A lane that is recreated right after a change of a section lets only the primary fill: what a worker of the previous one wrote
// is not emitted under all names of the new one, and a lagging source may lack it.
func TestLaneMadeAfterAChangeOfSectionHolds(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	first := b.start(nil)
	b.putMany("items", 5)
	b.awaitDone("items")
	held := func() bool {
		ok, err := b.rdb.HExists(t.Context(), b.keys().Meta, "fa").Result()
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	if held() {
		t.Error("the first lane of a namespace has a hold")
	}
	first.stop()
	next := b.declare("-next")
	b.migrate(next)
	b.rdb.Del(t.Context(), b.keys().Meta)
	w := b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = next })
	b.put("items", "k1", 2)
	b.awaitDone("items")
	awaitReady(t, w)
	if !held() {
		t.Error("the lane was made without a hold")
	}
}

// When the last dataset of a namespace loses its cache section, nothing is emitted any more. The lanes say so, or nodes that still have the section
// would serve entries that no worker makes stale any more.
func TestLastCacheSectionLeavesTheLanes(t *testing.T) {
	t.Parallel()
	b := newBed(t, servers{})
	first := b.start(nil)
	b.put("items", "k0", 1)
	b.awaitDone("items")
	first.stop()
	files := fstest.MapFS{"s.json": {Data: []byte(itemSchema)}}
	for _, name := range []string{"items", "others"} {
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "dataset: %s\ntopic: %s\nschema: s.json\nkey: [id]\nreplica: {table: %[1]s}\n", name, b.dataset(name).Topic)}
	}
	bare, err := schemas.LoadDatasets(files)
	if err != nil {
		t.Fatal(err)
	}
	if ddl, err := tables.Migrate(t.Context(), b.db, bare.All(), false, "items", "others"); err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate datasets: %v, %v", err, ddl)
	}
	w := b.start(func(c *worker.Config, _ *replica.Config) { c.Datasets = bare })
	testenv.Eventually(t, patience, func(ctx context.Context) error {
		got, err := b.rdb.HMGet(ctx, b.keys().Meta, "d:items", "d:others").Result()
		if err != nil || got[0] != "-" || got[1] != "-" {
			return fmt.Errorf("the lane has sections %v, %w", got, err)
		}
		return nil
	})
	b.put("items", "k0", 2)
	b.awaitRow("items", "k0", 2)
	awaitReady(t, w)
}
