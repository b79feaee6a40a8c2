package replica

import (
	"context"
	"slices"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// displacedChunk is the number of displaced names in one statement.
const displacedChunk = 500

// oldRow is a row as it was before a change, as far as its names need it.
type oldRow struct {
	version int64
	names   schemas.Names
}

// lockOld is step 2 of DB.Apply: it locks the rows of the changes and returns what they were, by canonical key. Only datasets whose
// names depend on more than the key need it. A row that is not there is inserted first, as a placeholder of version 0:
// what is not there cannot be locked, and of two writers that saw no row both would take its names for new.
func (r *run) lockOld(ctx context.Context, t *table, rows []*Change) (map[string]oldRow, error) {
	if len(t.names) == 0 {
		return nil, nil //nolint:nilnil // no names, no old rows
	}
	old := make(map[string]oldRow, len(rows))
	if err := r.selectOld(ctx, t, rows, old); err != nil {
		return nil, err
	}
	var missing []*Change
	for _, c := range rows {
		if _, ok := old[recordKey(t, c)]; !ok {
			missing = append(missing, c)
		}
	}
	if len(missing) == 0 {
		return old, nil
	}
	if err := r.placeholders(ctx, t, missing); err != nil {
		return nil, err
	}
	return old, r.selectOld(ctx, t, missing, old)
}

// selectOld locks and reads rows, a step of the ladder at a time, in key order.
func (r *run) selectOld(ctx context.Context, t *table, rows []*Change, old map[string]oldRow) error {
	for len(rows) > 0 {
		n := t.step(len(rows))
		if err := r.selectSome(ctx, t, rows[:n], old); err != nil {
			return err
		}
		rows = rows[n:]
	}
	return nil
}

func (r *run) selectSome(ctx context.Context, t *table, rows []*Change, old map[string]oldRow) error {
	id := mysql.StatementID{Of: t, Rows: len(rows), Kind: selectsOld}
	columns := t.ds.Replica.Columns
	at := slices.Concat(positions(t.ds.Replica.KeyColumns), t.names)
	var row oldRow
	raw, dest := rawColumns(len(at), &row.version)
	return r.w.EachSized(ctx, "lock rows of "+t.name, id, t.selectOldSQL, t.keyArgs(rows), func(scan func(...any) error) error {
		if err := scan(dest...); err != nil {
			return err
		}
		values := make([]any, len(columns))
		for i, col := range at {
			var err error
			if values[col], err = columnValue(&columns[col], raw[i]); err != nil {
				return err
			}
		}
		key, err := t.ds.FormatKey(values[:t.ds.Replica.KeyColumns]...)
		if err != nil {
			return nil //nolint:nilerr // no event can name this row
		}
		row.names = t.ds.Names(values)
		old[key] = row
		return nil
	})
}

func positions(n int) []int {
	p := make([]int, n)
	for i := range p {
		p[i] = i
	}
	return p
}

// placeholders inserts rows of version 0. A key that no column can hold is left to the upsert, which makes a letter of
// its change.
func (r *run) placeholders(ctx context.Context, t *table, rows []*Change) error {
	for len(rows) > 0 {
		n := t.step(len(rows))
		_, err := r.w.ExecSized(ctx, mysql.StatementID{Of: t, Rows: n, Kind: insertsPlaceholders}, t.placeholderSQL, t.keyArgs(rows[:n])...)
		switch {
		case err == nil || n == 1 && mysql.IsRefusal(err):
		case mysql.IsRefusal(err):
			if err = r.placeholders(ctx, t, rows[:n/2]); err == nil {
				err = r.placeholders(ctx, t, rows[n/2:n])
			}
			if err != nil {
				return err
			}
		default:
			return mysql.Wrap("insert placeholders into", t.name, err)
		}
		rows = rows[n:]
	}
	return nil
}

// displace notes, at the offsets of the changes that the table took, the names that their old rows had and their events
// alone do not give: after this transaction no one could tell them any more.
func (r *run) displace(rows []*Change, old map[string]oldRow, t *table) {
	if len(old) == 0 {
		return
	}
	for _, c := range rows {
		if was, ok := old[recordKey(t, c)]; ok && c.Version > was.version {
			r.displaced = appendDisplaced(r.displaced, c, was.names)
		}
	}
}

func appendDisplaced(names []Name, c *Change, was schemas.Names) []Name {
	for _, k := range []struct {
		kind     byte
		was, now []string
	}{
		{'k', was.Derived, c.Names.Derived}, {'t', was.Tags, c.Names.Tags}, {'f', was.Foreign, c.Names.Foreign},
	} {
		for _, name := range k.was {
			if !slices.Contains(k.now, name) {
				names = append(names, Name{Offset: c.Offset, Kind: k.kind, Name: name})
			}
		}
	}
	return names
}

// step is how many of n rows go into one statement.
func (t *table) step(n int) int {
	for _, step := range t.ladder {
		if step <= n {
			return step
		}
	}
	return 1
}

// keyArgs returns the key values of rows, one row after the other.
func (t *table) keyArgs(rows []*Change) []any {
	args := make([]any, 0, len(rows)*t.ds.Replica.KeyColumns)
	for _, c := range rows {
		args = append(args, t.key(c)...)
	}
	return args
}

func (t *table) keyNames() []string {
	names := make([]string, t.ds.Replica.KeyColumns)
	for i := range names {
		names[i] = mysql.Quote(t.ds.Replica.Columns[i].Name)
	}
	return names
}

func (t *table) selectOldSQL(rows int) string {
	keys := t.keyNames()
	cols := slices.Clone(keys)
	for _, i := range t.names {
		cols = append(cols, mysql.Quote(t.ds.Replica.Columns[i].Name))
	}
	key, one := strings.Join(keys, ", "), "?"
	list := key
	if len(keys) > 1 {
		list, one = "("+key+")", "(?"+strings.Repeat(",?", len(keys)-1)+")"
	}
	return "SELECT " + strings.Join(cols, ", ") + ", " + tables.ColVersion + " FROM " + t.name + " WHERE " + list +
		" IN (" + one + strings.Repeat(","+one, rows-1) + ") ORDER BY " + key + " FOR UPDATE"
}

func (t *table) placeholderSQL(rows int) string {
	one := "(" + strings.Repeat("?,", t.ds.Replica.KeyColumns) + "0,1,0)"
	return "INSERT INTO " + t.name + " (" + strings.Join(t.keyNames(), ", ") + ", " + tables.ColVersion + ", " + tables.ColDeleted + ", " + tables.ColAt + ") VALUES " +
		one + strings.Repeat(","+one, rows-1) + " ON DUPLICATE KEY UPDATE " + tables.ColVersion + " = " + t.name + "." + tables.ColVersion
}
