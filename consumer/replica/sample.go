package replica

import (
	"context"
	"fmt"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// Versions reads the versions of rows by their records' canonical keys, without locks. Records without a row are absent;
// a deleted row has the version of its deletion. Keys that are not canonical give an error that wraps schemas.ErrInvalid.
func (m *MySQL) Versions(ctx context.Context, ds *schemas.Dataset, keys []string) (map[string]int64, error) {
	out := make(map[string]int64, len(keys))
	if len(keys) == 0 {
		return out, nil
	}
	t, cols := m.table(ds), keyColumns(ds)
	one := "(?" + strings.Repeat(", ?", len(cols)-1) + ")"
	text := "SELECT " + strings.Join(cols, ", ") + ", " + colVersion + " FROM " + t.name + " WHERE (" + strings.Join(cols, ", ") + ") IN (" +
		one + strings.Repeat(", "+one, len(keys)-1) + ")"
	var args []any
	for _, k := range keys {
		values, err := ds.ParseKey(k)
		if err != nil {
			return nil, fmt.Errorf("read versions: %w", err)
		}
		args = append(args, values...)
	}
	return out, m.eachKey(ctx, ds, text, args, func(key string, version int64) { out[key] = version })
}

// Keys gives the canonical keys of up to n rows behind after, in the order of the key; "" begins with the first.
func (m *MySQL) Keys(ctx context.Context, ds *schemas.Dataset, after string, n int) (keys []string, err error) {
	t, cols := m.table(ds), keyColumns(ds)
	where, args := "", []any(nil)
	if after != "" {
		values, err := ds.ParseKey(after)
		if err != nil {
			return nil, fmt.Errorf("read keys: %w", err)
		}
		where, args = behind(cols, values)
		where = " WHERE " + where
	}
	text := "SELECT " + strings.Join(cols, ", ") + ", " + colVersion + " FROM " + t.name + where + " ORDER BY " + strings.Join(cols, ", ") + " LIMIT ?"
	err = m.eachKey(ctx, ds, text, append(args, int64(n)), func(key string, _ int64) { keys = append(keys, key) })
	return keys, err
}

// behind is the condition "greater than these values", in a form for which both databases use the primary key.
func behind(cols []string, values []any) (string, []any) {
	if len(cols) == 1 {
		return cols[0] + " > ?", values
	}
	rest, args := behind(cols[1:], values[1:])
	return cols[0] + " >= ? AND (" + cols[0] + " > ? OR " + rest + ")", append([]any{values[0], values[0]}, args...)
}

func keyColumns(ds *schemas.Dataset) []string {
	cols := make([]string, ds.Replica.KeyColumns)
	for i := range cols {
		cols[i] = mysql.Quote(ds.Replica.Columns[i].Name)
	}
	return cols
}

// eachKey calls fn for each row of a query for key columns and version; placeholders are left out.
func (m *MySQL) eachKey(ctx context.Context, ds *schemas.Dataset, text string, args []any, fn func(key string, version int64)) error {
	rows, err := m.db.QueryContext(ctx, text, args...)
	if err != nil {
		return mysql.Wrap("read versions of", mysql.Quote(ds.Replica.Table), err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	raw := make([]any, ds.Replica.KeyColumns)
	var version int64
	dest := make([]any, 0, len(raw)+1)
	for i := range raw {
		dest = append(dest, &raw[i])
	}
	dest = append(dest, &version)
	for rows.Next() {
		if err := rows.Scan(dest...); err != nil {
			return mysql.Wrap("read versions of", mysql.Quote(ds.Replica.Table), err)
		}
		if version == 0 {
			continue
		}
		values := make([]any, len(raw))
		for i := range raw {
			if values[i], err = columnValue(ds.Replica.Columns[i].Property, raw[i]); err != nil {
				return fmt.Errorf("read versions of %s: %w", ds.Replica.Table, err)
			}
		}
		key, err := ds.FormatKey(values...)
		if err != nil {
			return fmt.Errorf("read versions of %s: %w", ds.Replica.Table, err)
		}
		fn(key, version)
	}
	return mysql.Wrap("read versions of", mysql.Quote(ds.Replica.Table), rows.Err())
}

// Applied reads how far each source of a topic, as it is now, is applied; a topic that was never read has none.
func (m *MySQL) Applied(ctx context.Context, topic string) (map[string]int64, error) {
	t, ok, err := m.Topic(ctx, topic)
	if err != nil || !ok {
		return nil, err
	}
	return readPositions(ctx, m.db, topic, t.ID, "")
}
