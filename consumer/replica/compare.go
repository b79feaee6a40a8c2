package replica

import (
	"context"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// LiveRow is what a comparison of two tables needs of a row. Placeholders are none.
type LiveRow struct {
	// Key is canonical; "" is a key that no event can have.
	Key     string
	Version int64
	Deleted bool
	// At is the broker's time of the event that wrote the row, Unix ms.
	At int64
}

// LiveRows reads up to n rows behind after, in the order of the key, without locks. after is what an earlier call returned
// as last, nil for the beginning; last is nil when there are no more.
func (m *MySQL) LiveRows(ctx context.Context, ds *schemas.Dataset, after []any, n int) (rows []LiveRow, last []any, err error) {
	cols := keyColumns(ds)
	where, args := "", []any(nil)
	if after != nil {
		where, args = behind(cols, after)
		where = " WHERE " + where
	}
	order := strings.Join(cols, ", ")
	seen := 0
	err = m.eachLiveRow(ctx, ds, where+" ORDER BY "+order+" LIMIT ?", append(args, int64(n)), func(key []any, row LiveRow) {
		seen++
		last = key
		if row.Version > 0 || !row.Deleted {
			rows = append(rows, row)
		}
	})
	if seen < n {
		last = nil
	}
	return rows, last, err
}

// LiveRowsOf reads the rows of records by their canonical keys.
func (m *MySQL) LiveRowsOf(ctx context.Context, ds *schemas.Dataset, keys []string) (rows []LiveRow, err error) {
	if len(keys) == 0 {
		return nil, nil
	}
	cols := keyColumns(ds)
	one := "(?" + strings.Repeat(", ?", len(cols)-1) + ")"
	var args []any
	for _, k := range keys {
		values, err := ds.ParseKey(k)
		if err != nil {
			return nil, mysql.Wrap("read rows of", ds.Replica.Table, err)
		}
		args = append(args, values...)
	}
	where := " WHERE (" + strings.Join(cols, ", ") + ") IN (" + one + strings.Repeat(", "+one, len(keys)-1) + ")"
	err = m.eachLiveRow(ctx, ds, where, args, func(_ []any, row LiveRow) {
		if row.Version > 0 || !row.Deleted {
			rows = append(rows, row)
		}
	})
	return rows, err
}

func (m *MySQL) eachLiveRow(ctx context.Context, ds *schemas.Dataset, rest string, args []any, fn func(key []any, row LiveRow)) error {
	what, name := "read rows of", ds.Replica.Table
	text := "SELECT " + strings.Join(keyColumns(ds), ", ") + ", " + colVersion + ", " + colDeleted + ", " + colAt + " FROM " + mysql.Quote(name) + rest //nolint:gosec // names of a declaration, and constants
	rows, err := m.db.QueryContext(ctx, text, args...)
	if err != nil {
		return mysql.Wrap(what, name, err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	raw := make([]any, ds.Replica.KeyColumns)
	dest := make([]any, 0, len(raw)+ownColumns)
	for i := range raw {
		dest = append(dest, &raw[i])
	}
	var row LiveRow
	dest = append(dest, &row.Version, &row.Deleted, &row.At)
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return mysql.Wrap(what, name, err)
		}
		values := make([]any, len(raw))
		for i := range raw {
			if values[i], err = columnValue(ds.Replica.Columns[i].Property, raw[i]); err != nil {
				return mysql.Wrap(what, name, err)
			}
		}
		if row.Key, err = ds.FormatKey(values...); err != nil {
			row.Key = ""
		}
		fn(values, row)
	}
	return mysql.Wrap(what, name, rows.Err())
}
