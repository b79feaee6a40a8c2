package worker_test

import (
	"context"
	"fmt"
	"testing"
	"testing/fstest"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/worker"
	"github.com/freshet/freshet/invalidation"
	"github.com/freshet/freshet/schemas"
)

// declareCommon returns the datasets again; those of items carry a common tag, those of others do not.
func (b *bed) declareCommon() *schemas.Datasets {
	b.t.Helper()
	files := fstest.MapFS{"s.json": {Data: []byte(itemSchema)}}
	for _, name := range []string{"items", "others"} {
		common := ""
		if name == "items" {
			common = `, common: "all:items"`
		}
		files[name+".yaml"] = &fstest.MapFile{Data: fmt.Appendf(nil, "dataset: %s\ntopic: %s\nschema: s.json\nkey: [id]\nreplica: {table: %[1]s}\ncache: {key: \"%[1]s:{id}\"%[3]s}\n",
			name, b.dataset(name).Topic, common)}
	}
	set, err := schemas.LoadDatasets(files)
	if err != nil {
		b.t.Fatal(err)
	}
	return set
}

// reader is a node's cache of one dataset. Its loader reads the replica and reports that it is not a primary unless it must.
type reader struct {
	*invalidation.Cache[int64]

	b       *bed
	node    *invalidation.Node
	dataset string
}

func (b *bed) reader(node *invalidation.Node, dataset string, tags ...string) *reader {
	b.t.Helper()
	c, err := invalidation.NewCache(node, invalidation.CacheConfig[int64]{
		Dataset: dataset,
		Load: func(ctx context.Context, key string, from invalidation.Source) (invalidation.Loaded[int64], error) {
			v := b.version(ctx, dataset, key)
			return invalidation.Loaded[int64]{Value: v, Version: v, Found: v > 0, Tags: tags, From: from}, ctx.Err()
		},
	})
	if err != nil {
		b.t.Fatal(err)
	}
	return &reader{Cache: c, b: b, node: node, dataset: dataset}
}

// all reads n records that must have that version, and reports how many loads it took.
func (r *reader) all(n int, version int64) (loads uint64) {
	r.b.t.Helper()
	before := r.Stats().Loads
	for i := range n {
		v, err := r.Get(r.b.t.Context(), fmt.Sprint("k", i))
		if err != nil || v != version {
			r.b.t.Fatalf("%s k%d: version %d, %v; want %d", r.dataset, i, v, err, version)
		}
	}
	return uint64(r.Stats().Loads - before)
}

// await waits until the node has seen everything that was published.
func (r *reader) await() {
	r.b.t.Helper()
	ctx, cancel := context.WithTimeout(r.b.t.Context(), patience)
	defer cancel()
	if err := r.node.WaitFor(ctx, schemas.NewToken(r.b.source(r.dataset), r.b.end(r.dataset)-1)); err != nil {
		r.b.t.Fatal(err)
	}
}

// A mass change of a dataset with a common tag is announced by a few stamps, and leaves nothing of it stale and everything else
// cached; one of a dataset without flushes the lane.
func TestMassChangeIsToldByTheCommonTag(t *testing.T) {
	const n = 40
	b := newBed(t, servers{})
	b.datasets = b.declareCommon()
	b.migrate(b.datasets)
	var emitter *invalidation.Emitter
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.MaxKeyRate = 1
		emitter = c.Emitter.(*invalidation.Emitter)
	})
	awaitReady(t, w)
	put := func(dataset string, version int64) {
		for i := range n {
			b.put(dataset, fmt.Sprint("k", i), version)
		}
		b.awaitDone(dataset)
	}
	put("others", 1)
	put("items", 1)
	node, err := invalidation.Join(t.Context(), b.rdb, invalidation.Config{Namespace: b.ns, Datasets: b.datasets})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	items, others := b.reader(node, "items", "mine"), b.reader(node, "others")
	items.await()
	items.all(n, 1)
	others.all(n, 1)
	if l := items.all(n, 1) + others.all(n, 1); l != 0 {
		t.Fatalf("%d loads of what is cached", l)
	}

	root, before, stats := b.root(), emitter.Stats(), w.Stats()
	put("items", 2)
	items.await()
	items.all(n, 2)
	if l := others.all(n, 1); l != 0 {
		t.Errorf("%d loads of a dataset that did not change", l)
	}
	after, now := emitter.Stats(), w.Stats()
	tags, keys, stamps := after.Tags-before.Tags, after.Items-before.Items, now.CommonStamps-stats.CommonStamps
	if b.root() != root || stamps == 0 || int64(stamps) != tags || keys > n/2 || int64(now.Governed-stats.Governed) != n-keys {
		t.Errorf("root kept: %t; %d stamps, %d tags and %d keys emitted, %d governed", b.root() == root, stamps, tags, keys, now.Governed-stats.Governed)
	}
	t.Logf("%d changes: %d stamps and %d keys in %d scripts", n, tags, keys, after.Scripts-before.Scripts)

	put("others", 2)
	others.await()
	others.all(n, 2)
	items.all(n, 2)
	if b.root() == root {
		t.Error("a dataset without a common tag did not flush the lane")
	}
}

// While a lane is agreed about another declaration, entries may lack the common tag: the lane is flushed.
func TestCommonTagThatTheLaneDoesNotKnow(t *testing.T) {
	b := newBed(t, servers{})
	b.datasets = b.declareCommon()
	b.migrate(b.datasets)
	w := b.start(func(c *worker.Config, _ *replica.Config) {
		c.MaxKeyRate = 1
		c.CheckInterval = time.Hour // it does not fix the lane's hash
	})
	awaitReady(t, w)
	b.put("items", "first", 1)
	b.awaitDone("items")
	if err := b.rdb.HSet(t.Context(), b.keys().Meta, "d:items", "another").Err(); err != nil {
		t.Fatal(err)
	}
	b.putMany("items", 50)
	b.awaitDone("items")
	if st := w.Stats(); st.LaneFlushes == 0 { // the new root has the worker look, and agree; then stamps are fine
		t.Errorf("no flush, %d stamps", st.CommonStamps)
	}
}
