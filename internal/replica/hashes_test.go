package replica_test

import (
	"errors"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

func TestCacheHash(t *testing.T) {
	b := newBed(t, replica.Config{})
	wantBroken := func(t *testing.T) {
		t.Helper()
		_, err := b.Apply(t.Context(), b.batch(b.item(t, 1, 1, "x")))
		var de *tables.DatasetError
		if !errors.As(err, &de) || !strings.Contains(de.Fix, "freshet migrate datasets") {
			t.Fatalf("error %v, want a DatasetError with its fix", err)
		}
		b.wantRow(t, 1, "none")
	}
	b.exec(t, "UPDATE freshet_meta SET value = 'another' WHERE name = 'dataset:items'")
	wantBroken(t)
	b.exec(t, "DELETE FROM freshet_meta WHERE name = 'dataset:items'")
	wantBroken(t)
	if _, err := tables.Migrate(t.Context(), b.db, b.set.All(), false); err != nil {
		t.Fatal(err)
	}
	b.apply(t, b.item(t, 1, 1, "x"))
	b.wantRow(t, 1, "1:x")
}

// A declaration that lost its cache section does not pass as one that never had any: nodes may cache the dataset, and no one
// would tell them.
func TestCacheSectionThatIsGone(t *testing.T) {
	b := newBed(t, replica.Config{})
	bare := withoutCache(t, "items")
	old := open(t, b.cfg)
	if broken, err := old.Prepare(t.Context(), bare); err != nil || len(broken) > 0 {
		t.Fatalf("prepare: %v, broken %v", err, broken)
	}
	pos, err := old.Positions.Take(t.Context(), group, "bare", 2, []replica.Claim{{Source: src}})
	if err != nil {
		t.Fatal(err)
	}
	apply := func(version int64) error {
		t.Helper()
		c := b.event(t, "items", version, schemas.Upsert, `{"id":1,"name":"x"}`)
		c.Dataset, c.CacheKey = bare[0], ""
		_, err := old.Apply(t.Context(), &replica.Batch{Source: src, Fence: pos[0].Fence, Next: b.off.Load(), Changes: []*replica.Change{c}})
		return err
	}
	if changed, err := b.Declarations.HashChanged(t.Context(), time.Hour); err != nil || changed {
		t.Errorf("the first registration counts as a change: %v, %v", changed, err)
	}
	var de *tables.DatasetError
	if err := apply(1); !errors.As(err, &de) || de.Dataset != "items" || !strings.Contains(de.Fix, "--drop-cache items") {
		t.Fatalf("error %v, want a DatasetError with its fix", err)
	}
	b.wantRow(t, 1, "none")
	ddl, err := tables.Migrate(t.Context(), b.db, bare, false)
	if err != nil || len(ddl.Problems) != 1 || ddl.Problems[0].Dataset != "items" || !strings.Contains(ddl.Problems[0].Fix, "--drop-cache items") {
		t.Fatalf("migrate: %v, problems %v", err, ddl.Problems)
	}
	if err := apply(1); err == nil {
		t.Fatal("a refused migration let rows through")
	}
	if ddl, err = tables.Migrate(t.Context(), b.db, bare, true, "items"); err != nil || len(ddl.Problems) != 0 || len(ddl.Statements) != 1 {
		t.Fatalf("dry run: %v, %v, problems %v", err, texts(ddl), ddl.Problems)
	}
	if err := apply(1); err == nil {
		t.Fatal("a dry run let rows through")
	}
	if ddl, err = tables.Migrate(t.Context(), b.db, bare, false, "items"); err != nil || len(ddl.Problems) != 0 {
		t.Fatalf("migrate: %v, problems %v", err, ddl.Problems)
	}
	if err := apply(1); err != nil {
		t.Fatal(err)
	}
	b.wantRow(t, 1, "1:x")
	if changed, err := b.Declarations.HashChanged(t.Context(), time.Minute); err != nil || !changed {
		t.Errorf("changed lately: %v, %v", changed, err)
	}
	b.exec(t, "UPDATE freshet_meta SET value = value - 61 WHERE name = 'changed:items'")
	if changed, err := b.Declarations.HashChanged(t.Context(), time.Minute); err != nil || changed {
		t.Errorf("changed a minute ago: %v, %v", changed, err)
	}
	hashes, err := b.Declarations.Hashes(t.Context())
	if _, ok := hashes["items"]; ok || err != nil {
		t.Errorf("hashes %v, %v: items has no section", hashes, err)
	}
	// A worker that still has the section waits now, until it is registered again.
	_, err = old.Apply(t.Context(), &replica.Batch{Source: src, Fence: pos[0].Fence, Next: b.off.Load(), Changes: []*replica.Change{b.item(t, 1, 2, "y")}})
	if !errors.As(err, &de) {
		t.Errorf("error %v, want a DatasetError", err)
	}
	if ddl, err = tables.Migrate(t.Context(), b.db, b.set.All(), false); err != nil || len(ddl.Problems) != 0 {
		t.Fatalf("migrate back: %v, problems %v", err, ddl.Problems)
	}
	if err := apply(3); !errors.As(err, &de) {
		t.Errorf("error %v, want a DatasetError: the section came between", err)
	}
}

// withoutCache declares a dataset of the bed without its cache section.
func withoutCache(t *testing.T, name string) []*schemas.Dataset {
	t.Helper()
	set, err := schemas.LoadDatasets(fstest.MapFS{
		"d.yaml": {Data: []byte("dataset: " + name + "\nschema: s.json\nkey: [id]\nreplica: {table: " + name + "}\n")},
		"s.json": {Data: []byte(`{"type":"object","required":["id"],"properties":{"id":{"type":"integer","minimum":1},"name":{"type":"string","maxLength":40},"n":{"type":"integer"}}}`)},
	})
	if err != nil {
		t.Fatal(err)
	}
	return set.All()
}
