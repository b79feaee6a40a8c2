package jobstore

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/internal/meta"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// ActionRebuild fills a new table from the whole topic and puts it in the place of the dataset's table.
const ActionRebuild Action = "rebuild"

const (
	fixRights = "give it the privileges that freshet grants --rebuilds prints"

	rebuildIDLen  = 8
	rebuildPrefix = 45 // characters of the table's name that are kept: identifiers end at 64

	sqlTriggers = "SELECT trigger_name FROM information_schema.triggers WHERE event_object_schema = DATABASE() AND event_object_table = ? ORDER BY trigger_name LIMIT 1"
	// sqlSeesTriggers: who may not make triggers is shown none. Privileges of a database have its name as a pattern.
	sqlSeesTriggers = "SELECT 1 FROM (SELECT privilege_type FROM information_schema.user_privileges" +
		" UNION SELECT privilege_type FROM information_schema.schema_privileges WHERE DATABASE() LIKE table_schema" +
		" UNION SELECT privilege_type FROM information_schema.table_privileges WHERE table_schema = DATABASE() AND table_name = ?) p" +
		" WHERE p.privilege_type = 'TRIGGER'"
	sqlInbound = "SELECT constraint_name FROM information_schema.referential_constraints WHERE unique_constraint_schema = DATABASE()" +
		" AND referenced_table_name = ? ORDER BY constraint_name LIMIT 1"
)

// Rebuild names the tables of a replay that rebuilds a dataset's table. It is a function of dataset and replay, so that
// any process that continues the replay finds the same ones.
type Rebuild struct {
	Job     string
	Dataset *schemas.Dataset
	// Shadow is the dataset with the table that is being built in place of its own. It has no cache section: no one
	// reads that table yet.
	Shadow *schemas.Dataset
	// Old is what the previous table is called after the swap.
	Old string
}

// NewRebuild names the tables.
func NewRebuild(ds *schemas.Dataset, job string) *Rebuild {
	base, id := []rune(ds.Replica.Table), strings.ToLower(job)
	base = base[:min(len(base), rebuildPrefix)]
	id = id[max(0, len(id)-rebuildIDLen):]
	shadow, table := *ds, *ds.Replica
	table.Table = string(base) + "__rebuild_" + id
	shadow.Replica, shadow.Cache = &table, nil
	return &Rebuild{Job: job, Dataset: ds, Shadow: &shadow, Old: string(base) + "__old_" + id}
}

// rebuildNote is what freshet_meta keeps of a rebuild until it is over.
type rebuildNote struct {
	Dataset string `json:"dataset"`
	Shadow  string `json:"shadow"`
	Old     string `json:"old"`
	// Swapped: the new table is in its place, and the replay can only be finished.
	Swapped bool `json:"swapped"`
}

// Rebuilds makes, swaps and removes the tables of replays that rebuild one. It is safe for concurrent use.
type Rebuilds struct {
	pool   *mysql.Pool
	jobs   *Jobs
	lock   LockPositions
	forget func(*schemas.Dataset)
}

// LockPositions reads how far each source of a topic is applied, and locks those positions until w's transaction ends.
type LockPositions func(ctx context.Context, w *mysql.Conn, topic, id string) (map[string]int64, error)

// NewRebuilds returns the rebuilds of a database. forget is called with the dataset of a table that is done with.
func NewRebuilds(pool *mysql.Pool, jobs *Jobs, lock LockPositions, forget func(*schemas.Dataset)) *Rebuilds {
	return &Rebuilds{pool, jobs, lock, forget}
}

// Check looks at what of a dataset's table would be lost with a swap. Its error is a *DatasetError, or an
// infrastructure fault.
func (r *Rebuilds) Check(ctx context.Context, ds *schemas.Dataset) error {
	f, err := tables.Find(ctx, r.pool.DB(), ds.Replica.Table)
	if err != nil {
		return err
	}
	if !f.Exists {
		return &tables.DatasetError{Dataset: ds.Name, Problem: "table " + ds.Replica.Table + " does not exist", Fix: "run freshet migrate datasets; a replay then fills it"}
	}
	if len(f.ForeignKeys) > 0 {
		return &tables.DatasetError{Dataset: ds.Name, Problem: "table " + ds.Replica.Table + " has the foreign key " + f.ForeignKeys[0], Fix: "drop the constraint"}
	}
	if err := r.seesTriggers(ctx, ds); err != nil {
		return err
	}
	for _, c := range []struct{ text, what, fix string }{
		{sqlTriggers, "the trigger", "it would stay with the previous table: drop it, and make it again afterwards"},
		{sqlInbound, "a reference by the foreign key", "it would follow the previous table: drop the constraint"},
	} {
		var name string
		found, err := mysql.One(ctx, r.pool.DB(), "inspect table "+ds.Replica.Table, c.text, []any{ds.Replica.Table}, &name)
		if err != nil {
			return err
		}
		if found {
			return &tables.DatasetError{Dataset: ds.Name, Problem: fmt.Sprintf("table %s has %s %s", ds.Replica.Table, c.what, name), Fix: c.fix}
		}
	}
	return nil
}

// seesTriggers refuses an account to which a table's triggers are invisible.
func (r *Rebuilds) seesTriggers(ctx context.Context, ds *schemas.Dataset) error {
	var one int
	found, err := mysql.One(ctx, r.pool.DB(), "read privileges", sqlSeesTriggers, []any{ds.Replica.Table}, &one)
	if err != nil || found {
		return err
	}
	return &tables.DatasetError{Dataset: ds.Name, Problem: "this account does not see the triggers of table " + ds.Replica.Table + ", which a rebuild would leave behind", Fix: fixRights}
}

// Swapped reports whether the new table is in its place already, by any process. The tables themselves show it, and not
// the note alone: a runner may have died between the two.
func (r *Rebuilds) Swapped(ctx context.Context, b *Rebuild) (bool, error) {
	note, noted, err := readRebuild(ctx, r.pool.DB(), b.Job)
	if err != nil || !noted || note.Swapped {
		return note.Swapped, err
	}
	shadow, err := tables.Find(ctx, r.pool.DB(), b.Shadow.Replica.Table)
	if err != nil || shadow.Exists {
		return false, err
	}
	old, err := tables.Find(ctx, r.pool.DB(), b.Old)
	return err == nil && old.Exists, err
}

// readRebuild reads the note of a rebuild; lock, if any, is added to the query.
func readRebuild(ctx context.Context, q mysql.Querier, job string, lock ...string) (note rebuildNote, ok bool, err error) {
	value, ok, err := meta.Read(ctx, q, "read note of rebuild", meta.Rebuild+job, lock...)
	if err != nil || !ok {
		return note, false, err
	}
	if err := json.Unmarshal(value, &note); err != nil {
		return note, false, fmt.Errorf("read note of rebuild: %w", err)
	}
	return note, true, nil
}

// Begin makes the new table. It gets the columns and indexes that the present one has, also those that Freshet
// does not need; a present table that does not fit the dataset is not copied, and the declaration decides. fresh: nothing
// was read into it yet, so it is emptied of nothing and may be made; else it must be there.
func (r *Rebuilds) Begin(ctx context.Context, b *Rebuild, fresh bool) error {
	name := b.Shadow.Replica.Table
	note, err := json.Marshal(rebuildNote{Dataset: b.Dataset.Name, Shadow: name, Old: b.Old})
	if err != nil {
		return fmt.Errorf("write note of rebuild: %w", err)
	}
	// The note comes first: by it the table is found and removed when the replay ends some other way.
	if _, err := r.pool.DB().ExecContext(ctx, meta.SQLAdd, []byte(meta.Rebuild+b.Job), note); err != nil {
		return mysql.Wrap("note rebuild", "", err)
	}
	f, err := tables.Find(ctx, r.pool.DB(), name)
	if err != nil || f.Exists {
		return err
	}
	if !fresh {
		return &tables.DatasetError{Dataset: b.Dataset.Name, Problem: "the table " + name + " that was being built is gone", Fix: "start the rebuild again"}
	}
	if f, err = tables.Find(ctx, r.pool.DB(), b.Dataset.Replica.Table); err != nil {
		return err
	}
	text := "CREATE TABLE " + mysql.Quote(name) + " LIKE " + mysql.Quote(b.Dataset.Replica.Table)
	if len(tables.Check(b.Dataset, r.pool.Dialect(), f)) > 0 {
		text = tables.Create(b.Shadow, r.pool.Dialect())
	}
	_, err = r.pool.DB().ExecContext(ctx, text)
	return ddlError(b, "create table", err)
}

// ddlError makes a *DatasetError of what waiting does not fix.
func ddlError(b *Rebuild, what string, err error) error {
	switch n, _ := mysql.Errno(err); n {
	case 1044, 1142, 1227: // rights
		return &tables.DatasetError{Dataset: b.Dataset.Name, Errno: n, Problem: "the worker's database user may not " + what, Fix: fixRights}
	case 1050, 1071, 1118, 1146:
		return &tables.DatasetError{Dataset: b.Dataset.Name, Errno: n, Problem: what + ": " + mysql.ErrnoText(n), Fix: "look at the tables, and start the rebuild again"}
	}
	return mysql.Wrap(what, "", err)
}

// checkShadow is the last look before the swap: both tables still are what the rebuild began with.
func (r *Rebuilds) checkShadow(ctx context.Context, b *Rebuild) error {
	shadow, err := tables.Find(ctx, r.pool.DB(), b.Shadow.Replica.Table)
	if err != nil {
		return err
	}
	if problem := tables.First(tables.Check(b.Shadow, r.pool.Dialect(), shadow)); problem != nil {
		return problem
	}
	live, err := tables.Find(ctx, r.pool.DB(), b.Dataset.Replica.Table)
	if err != nil || len(tables.Check(b.Dataset, r.pool.Dialect(), live)) > 0 {
		return err
	}
	for name := range live.Columns {
		if _, ok := shadow.Columns[name]; !ok {
			return &tables.DatasetError{Dataset: b.Dataset.Name, Problem: "table " + b.Dataset.Replica.Table + " got new columns during the rebuild", Fix: "start the rebuild again"}
		}
	}
	return nil
}

// End forgets a rebuild whose replay is done, and drops the previous table if drop is set.
func (r *Rebuilds) End(ctx context.Context, b *Rebuild, drop bool) error {
	r.forget(b.Shadow)
	if !drop {
		return nil
	}
	_, err := r.pool.DB().ExecContext(ctx, "DROP TABLE IF EXISTS "+mysql.Quote(b.Old))
	return ddlError(b, "drop table", err)
}

// Abandoned is a rebuild whose replay is over.
type Abandoned struct {
	Job, Dataset, Old string
	// Strange: its replay was cancelled or failed, and the swap happened all the same.
	Strange bool
}

// Sweep removes what replays that are over have left: the notes, and the tables of those that did not come to
// the swap. before is asked first of each that is Strange; its error leaves the note for the next time.
func (r *Rebuilds) Sweep(ctx context.Context, before func(Abandoned) error) error {
	notes, err := meta.All(ctx, r.pool.DB(), "read notes of rebuilds", meta.Rebuild)
	if err != nil {
		return err
	}
	for id, value := range notes {
		var note rebuildNote
		if json.Unmarshal(value, &note) != nil {
			continue
		}
		j, err := r.jobs.Get(ctx, id)
		if err != nil && !errors.Is(err, ErrNoJob) {
			return err
		}
		if err == nil && j.State.Live() {
			continue
		}
		if err := r.sweep(ctx, Abandoned{Job: id, Dataset: note.Dataset, Old: note.Old}, note, j.State, before); err != nil {
			return err
		}
	}
	return nil
}

func (r *Rebuilds) sweep(ctx context.Context, a Abandoned, note rebuildNote, state State, before func(Abandoned) error) error {
	if state != Done && !note.Swapped {
		err := withoutSwap(ctx, r.pool, a.Job, func(swapped bool) error {
			if a.Strange = swapped; swapped {
				return before(a)
			}
			_, err := r.pool.DB().ExecContext(ctx, "DROP TABLE IF EXISTS "+mysql.Quote(note.Shadow))
			return mysql.Wrap("drop table", note.Shadow, err)
		})
		if err != nil {
			return err
		}
	}
	_, err := r.pool.DB().ExecContext(ctx, meta.SQLRemove, []byte(meta.Rebuild+a.Job))
	return mysql.Wrap("forget rebuild", "", err)
}
