package replica

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// registry has the replica tables that this process writes or reads.
type registry struct {
	pool *mysql.Pool

	mu     sync.Mutex
	all    map[*schemas.Dataset]*table // guarded by mu
	byName map[string]*table           // guarded by mu: the tables of Prepare, for letters
}

func newRegistry(pool *mysql.Pool) *registry {
	return &registry{pool: pool, all: map[*schemas.Dataset]*table{}, byName: map[string]*table{}}
}

// of returns what is prepared once per dataset.
func (r *registry) of(ds *schemas.Dataset) *table {
	r.mu.Lock()
	defer r.mu.Unlock()
	t, ok := r.all[ds]
	if !ok {
		t = newTable(ds, r.pool.Dialect())
		r.all[ds] = t
	}
	return t
}

func (r *registry) named(dataset string) *table {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.byName[dataset]
}

// prepared returns the tables of the datasets that Prepare was given, in the order of their names.
func (r *registry) prepared() []*table {
	r.mu.Lock()
	defer r.mu.Unlock()
	out := make([]*table, 0, len(r.byName))
	for _, name := range slices.Sorted(maps.Keys(r.byName)) {
		out = append(out, r.byName[name])
	}
	return out
}

// forget drops what is prepared for a dataset.
func (r *registry) forget(ds *schemas.Dataset) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.all, ds)
}

// prepare compares the tables of datasets with the database, before anything is written to them, and remembers the
// datasets so that Apply knows the tables of their letters. It returns one DatasetError per dataset that must not be
// written as things are, and nothing is: every batch with rows of it looks at the table again first. err is an
// infrastructure fault.
func (r *registry) prepare(ctx context.Context, datasets []*schemas.Dataset) (broken []*tables.DatasetError, err error) {
	for _, ds := range datasets {
		f, err := tables.Find(ctx, r.pool.DB(), ds.Replica.Table)
		if err != nil {
			return nil, err
		}
		problem := tables.First(tables.Check(ds, r.pool.Dialect(), f))
		if problem != nil {
			broken = append(broken, problem)
		}
		t := r.of(ds)
		t.unfit.Store(problem != nil)
		r.mu.Lock()
		r.byName[ds.Name] = t
		r.mu.Unlock()
	}
	return broken, nil
}

// fit returns what still forbids writing to a table that Prepare found unfit.
func (r *registry) fit(ctx context.Context, t *table) error {
	if !t.unfit.Load() {
		return nil
	}
	f, err := tables.Find(ctx, r.pool.DB(), t.ds.Replica.Table)
	if err != nil {
		return err
	}
	if problem := tables.First(tables.Check(t.ds, r.pool.Dialect(), f)); problem != nil {
		return problem
	}
	t.unfit.Store(false)
	return nil
}

// difference compares the dataset with the note; it is computed once per note, and again when the table lacks a column that
// the note has.
func (r *registry) difference(ctx context.Context, t *table, note []byte) (*difference, error) {
	if d := t.differs.Load(); d != nil && d.note == string(note) {
		return d, nil
	}
	d := &difference{note: string(note), unknown: map[string]bool{}}
	if len(note) > 0 {
		var noted tables.Schema
		if err := json.Unmarshal(note, &noted); err != nil {
			return nil, fmt.Errorf("read noted schema of dataset %s: %w", t.ds.Name, err)
		}
		extra := d.compare(t, noted)
		if err := r.widen(ctx, d, t, extra); err != nil {
			return nil, err
		}
	}
	t.differs.Store(d)
	return d, nil
}

// widen sets wide, with those of the columns that the table still has: what an operator dropped needs no clearing.
func (r *registry) widen(ctx context.Context, d *difference, t *table, extra []string) error {
	if len(extra) == 0 || !r.live(t) {
		return nil
	}
	have, err := tables.Find(ctx, r.pool.DB(), t.ds.Replica.Table)
	if err != nil {
		return err
	}
	wide, table := *t.ds, *t.ds.Replica
	table.Columns = slices.Clip(table.Columns)
	for _, column := range extra {
		if _, ok := have.Columns[column]; ok {
			table.Columns = append(table.Columns, schemas.Column{Name: column})
		}
	}
	if len(table.Columns) > len(t.ds.Replica.Columns) {
		wide.Replica = &table
		d.wide = newTable(&wide, t.dialect)
	}
	return nil
}

// live reports whether t is the dataset's own table. The table of a rebuild has rows of the rebuild only.
func (r *registry) live(t *table) bool {
	known := r.named(t.ds.Name)
	return known == nil || known.ds.Replica.Table == t.ds.Replica.Table
}
