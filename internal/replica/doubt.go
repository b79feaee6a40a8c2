package replica

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
)

// settle is send's second half: the rows that an empty table refused with an unknown number are sent again once it has taken
// another row. A table that has none at all refuses them all.
func (r *run) settle(ctx context.Context, t *table, done *[]*Change) error {
	if len(r.doubts) == 0 {
		return nil
	}
	rows, number := r.doubts, r.doubtful
	r.doubts = nil
	if len(*done) == 0 {
		return t.refusesAll(number)
	}
	if err := r.put(ctx, t, rows, done); err != nil {
		return err
	}
	if len(r.doubts) > 0 {
		r.doubts = nil
		return t.refusesAll(number)
	}
	return nil
}

// doubt finds out whose an error is whose number says nothing: a row's, if the table takes another row just before and refuses
// this one again, or the table's, if it takes none. A passing fault of the server is neither, and is never a row's.
func (r *run) doubt(ctx context.Context, t, into *table, chunk []*Change, cause error, done *[]*Change) error {
	number, _ := mysql.Errno(cause)
	taken, err := r.probe(ctx, into, *done)
	switch {
	case err != nil && mysql.Classify(err) == mysql.ClassUnknown:
		number, _ = mysql.Errno(err)
		return t.refusesAll(number)
	case err != nil:
		return mysql.Wrap("upsert into", t.name, err)
	case len(chunk) > 1:
		r.m.stats.bisects.Add(1)
		if err := r.put(ctx, t, chunk[:len(chunk)/2], done); err != nil {
			return err
		}
		return r.put(ctx, t, chunk[len(chunk)/2:], done)
	case !taken:
		r.doubts, r.doubtful = append(r.doubts, chunk[0]), number
		return nil
	}
	_, err = r.upsert(ctx, into, 1, into.args(nil, chunk[0]))
	switch again, _ := mysql.Errno(err); {
	case err == nil:
		*done = append(*done, chunk[0])
		return nil
	case again != number:
		return mysql.Wrap("upsert into", t.name, err)
	}
	return r.refuse(ctx, t, chunk[0], err, done)
}

// probe sends a row that the table has, by the statement of every row: one that it took in this transaction, or any. It changes
// nothing, since the version is not greater. taken is false where the table has no row that could prove anything.
func (r *run) probe(ctx context.Context, t *table, done []*Change) (taken bool, err error) {
	var c *Change
	if n := len(done); n > 0 {
		c = done[n-1]
	} else if c, err = r.anyRow(ctx, t); err != nil || c == nil {
		return false, err
	}
	_, err = r.upsert(ctx, t, 1, t.args(nil, c))
	if err != nil && mysql.Classify(err) == mysql.ClassPoison {
		return false, nil // a row from before a constraint
	}
	return err == nil, err
}

// anyRow reads a row of the table as a change, nil if it has none.
func (r *run) anyRow(ctx context.Context, t *table) (*Change, error) {
	cols := make([]string, 0, len(t.ds.Replica.Columns)+tables.OwnColumns)
	for _, c := range t.ds.Replica.Columns {
		cols = append(cols, mysql.Quote(c.Name))
	}
	cols = append(cols, tables.ColVersion, tables.ColDeleted, tables.ColAt)
	c := &Change{Dataset: t.ds, Values: make([]any, len(t.ds.Replica.Columns))}
	dest := make([]any, 0, len(cols))
	for i := range c.Values {
		dest = append(dest, &c.Values[i])
	}
	dest = append(dest, &c.Version, &c.Deleted, &c.At)
	err := r.w.QueryRow(ctx, "SELECT "+strings.Join(cols, ", ")+" FROM "+t.name+" LIMIT 1", nil, dest...)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, nil
	}
	for i, v := range c.Values {
		if b, ok := v.([]byte); ok {
			c.Values[i] = string(b)
		}
	}
	return c, err
}

// refusesAll is the error of a table that takes no row.
func (t *table) refusesAll(number uint16) error {
	return &tables.DatasetError{
		Dataset: t.ds.Name, Errno: number,
		Problem: "the server refuses every row of its table with " + mysql.ErrnoText(number),
		Fix:     "correct the table; the worker tries again by itself",
	}
}
