package replica

import (
	"context"
	"fmt"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// Rows reads replica tables. It is safe for concurrent use.
type Rows struct {
	pool   *mysql.Pool
	tables *registry
	topics *Topics
}

// Get reads one row by its record's canonical key, from the database that the DB was opened on: if that is the primary,
// the read is fresh. A key that is not canonical returns an error that wraps schemas.ErrInvalid.
func (l *Rows) Get(ctx context.Context, ds *schemas.Dataset, key string) (Row, error) {
	return l.readRow(ctx, ds, key, "")
}

// Current is Get by a locking read: a proxy that splits reads sends it to the primary, and it waits for a transaction that
// is changing the row.
func (l *Rows) Current(ctx context.Context, ds *schemas.Dataset, key string) (Row, error) {
	return l.readRow(ctx, ds, key, lockPrimary)
}

func (l *Rows) readRow(ctx context.Context, ds *schemas.Dataset, key, lock string) (Row, error) {
	t := l.tables.of(ds)
	where, err := ds.ParseKey(key)
	if err != nil {
		return Row{}, fmt.Errorf("read row: %w", err)
	}
	var row Row
	raw, dest := rawColumns(len(ds.Replica.Columns), &row.Version, &row.Deleted, &row.At)
	found, err := mysql.One(ctx, l.pool.DB(), "read row of "+t.name, t.selectRow+lock, where, dest...)
	if err != nil || !found || row.Version == 0 && row.Deleted { // a placeholder; a live row of that version was written by other means
		return Row{}, err
	}
	row.Found = true
	if row.Values, err = columnValues(ds.Replica.Columns, raw); err != nil {
		return Row{}, fmt.Errorf("read row of %s: %w", t.name, err)
	}
	return row, nil
}

// Any reports whether a dataset's table has any row, deleted ones too.
func (l *Rows) Any(ctx context.Context, ds *schemas.Dataset) (bool, error) {
	var one int
	return mysql.One(ctx, l.pool.DB(), "look for rows of "+ds.Replica.Table, "SELECT 1 FROM "+mysql.Quote(ds.Replica.Table)+" LIMIT 1", nil, &one)
}

// Versions reads the versions of rows by their records' canonical keys, without locks. Records without a row are absent;
// a deleted row has the version of its deletion. Keys that are not canonical return an error that wraps schemas.ErrInvalid.
func (l *Rows) Versions(ctx context.Context, ds *schemas.Dataset, keys []string) (map[string]int64, error) {
	out := make(map[string]int64, len(keys))
	if len(keys) == 0 {
		return out, nil
	}
	t, cols := l.tables.of(ds), keyColumns(ds)
	one := "(?" + strings.Repeat(", ?", len(cols)-1) + ")"
	text := "SELECT " + strings.Join(cols, ", ") + ", " + tables.ColVersion + " FROM " + t.name + " WHERE (" + strings.Join(cols, ", ") + ") IN (" +
		one + strings.Repeat(", "+one, len(keys)-1) + ")"
	var args []any
	for _, k := range keys {
		values, err := ds.ParseKey(k)
		if err != nil {
			return nil, fmt.Errorf("read versions: %w", err)
		}
		args = append(args, values...)
	}
	return out, l.eachKey(ctx, ds, text, args, func(key string, version int64) { out[key] = version })
}

// Keys returns the canonical keys of up to n rows behind after, in the order of the key; "" begins with the first.
func (l *Rows) Keys(ctx context.Context, ds *schemas.Dataset, after string, n int) (keys []string, err error) {
	t, cols := l.tables.of(ds), keyColumns(ds)
	where, args := "", []any(nil)
	if after != "" {
		values, err := ds.ParseKey(after)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		where, args = mysql.Behind(cols, values)
		where = " WHERE " + where
	}
	text := "SELECT " + strings.Join(cols, ", ") + ", " + tables.ColVersion + " FROM " + t.name + where + " ORDER BY " + strings.Join(cols, ", ") + " LIMIT ?"
	err = l.eachKey(ctx, ds, text, append(args, int64(n)), func(key string, _ int64) { keys = append(keys, key) })
	return keys, err
}

// Applied returns how far each source of a topic, under its present id, is applied; a topic that was never read has none.
func (l *Rows) Applied(ctx context.Context, topic string) (map[string]int64, error) {
	t, ok, err := l.topics.Get(ctx, topic)
	if err != nil || !ok {
		return nil, err
	}
	return readPositions(ctx, l.pool.DB(), topic, t.ID, "")
}

// LiveRow is what a comparison of two tables needs of a row. Placeholders are none.
type LiveRow struct {
	// Key is canonical; "" is a key that no event can have.
	Key     string
	Version int64
	Deleted bool
	// At is the broker's time of the event that wrote the row, Unix ms.
	At int64
}

// Page reads up to n rows behind after, in the order of the key, without locks. after is what an earlier call returned
// as last, nil for the beginning; last is nil when there are no more.
func (l *Rows) Page(ctx context.Context, ds *schemas.Dataset, after []any, n int) (rows []LiveRow, last []any, err error) {
	cols := keyColumns(ds)
	where, args := "", []any(nil)
	if after != nil {
		where, args = mysql.Behind(cols, after)
		where = " WHERE " + where
	}
	order := strings.Join(cols, ", ")
	seen := 0
	err = l.eachLiveRow(ctx, ds, where+" ORDER BY "+order+" LIMIT ?", append(args, int64(n)), func(key []any, row LiveRow) {
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

// Of reads the rows of records by their canonical keys.
func (l *Rows) Of(ctx context.Context, ds *schemas.Dataset, keys []string) (rows []LiveRow, err error) {
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
	err = l.eachLiveRow(ctx, ds, where, args, func(_ []any, row LiveRow) {
		if row.Version > 0 || !row.Deleted {
			rows = append(rows, row)
		}
	})
	return rows, err
}

// eachKey calls fn for each row of a query for key columns and version; placeholders are left out.
func (l *Rows) eachKey(ctx context.Context, ds *schemas.Dataset, text string, args []any, fn func(key string, version int64)) error {
	var version int64
	return eachRow(ctx, l.pool.DB(), ds, "read versions of "+ds.Replica.Table, text, args, []any{&version}, func(values []any) error {
		if version == 0 {
			return nil
		}
		key, err := ds.FormatKey(values...)
		if err == nil {
			fn(key, version)
		}
		return err
	})
}

func (l *Rows) eachLiveRow(ctx context.Context, ds *schemas.Dataset, rest string, args []any, fn func(key []any, row LiveRow)) error {
	text := "SELECT " + strings.Join(keyColumns(ds), ", ") + ", " + tables.ColVersion + ", " + tables.ColDeleted + ", " + tables.ColAt + " FROM " + mysql.Quote(ds.Replica.Table) + rest
	var row LiveRow
	return eachRow(ctx, l.pool.DB(), ds, "read rows of "+ds.Replica.Table, text, args, []any{&row.Version, &row.Deleted, &row.At}, func(values []any) (err error) {
		if row.Key, err = ds.FormatKey(values...); err != nil {
			row.Key = ""
		}
		fn(values, row)
		return nil
	})
}

// eachRow scans rows that begin with the key columns, whose values it converts, and calls fn for each; rest is where the
// other columns are scanned to.
func eachRow(ctx context.Context, q mysql.Querier, ds *schemas.Dataset, what, text string, args, rest []any, fn func(key []any) error) error {
	columns := ds.Replica.Columns[:ds.Replica.KeyColumns]
	raw, dest := rawColumns(len(columns), rest...)
	return mysql.Each(ctx, q, what, text, args, func(scan func(...any) error) error {
		if err := scan(dest...); err != nil {
			return err
		}
		values, err := columnValues(columns, raw)
		if err != nil {
			return err
		}
		return fn(values)
	})
}

// rawColumns returns n values as the driver returns them, and where a row with them and the rest is scanned to.
func rawColumns(n int, rest ...any) (raw, dest []any) {
	raw, dest = make([]any, n), make([]any, 0, n+len(rest))
	for i := range raw {
		dest = append(dest, &raw[i])
	}
	return raw, append(dest, rest...)
}

// columnValues is columnValue for several columns.
func columnValues(columns []schemas.Column, raw []any) ([]any, error) {
	values := make([]any, len(raw))
	for i, v := range raw {
		var err error
		if values[i], err = columnValue(&columns[i], v); err != nil {
			return nil, fmt.Errorf("column %s: %w", columns[i].Name, err)
		}
	}
	return values, nil
}

func keyColumns(ds *schemas.Dataset) []string {
	cols := make([]string, ds.Replica.KeyColumns)
	for i := range cols {
		cols[i] = mysql.Quote(ds.Replica.Columns[i].Name)
	}
	return cols
}
