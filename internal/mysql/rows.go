package mysql

import (
	"context"
	"database/sql"
	"unicode/utf8"
)

// Querier runs queries. *sql.DB, *sql.Conn and *Conn are Queriers; *Conn prepares what it runs.
type Querier interface {
	QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error)
}

// scanAll calls row with each row's Scan, and closes rows.
func scanAll(what string, rows *sql.Rows, row func(scan func(...any) error) error) error {
	defer func() { _ = rows.Close() }() // rows.Err reports what is wrong
	for rows.Next() {
		if err := row(rows.Scan); err != nil {
			return Wrap(what, "", err)
		}
	}
	return Wrap(what, "", rows.Err())
}

// Each runs a query and calls row with each row's Scan. what is the operation, for errors.
func Each(ctx context.Context, q Querier, what, text string, args []any, row func(scan func(...any) error) error) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return Wrap(what, "", err)
	}
	return scanAll(what, rows, row)
}

// Collect runs a query and returns a value for each row; columns returns where its columns are scanned to.
func Collect[T any](ctx context.Context, q Querier, what, text string, args []any, columns func(*T) []any) ([]T, error) {
	var all []T
	err := Each(ctx, q, what, text, args, func(scan func(...any) error) error {
		var v T
		if err := scan(columns(&v)...); err != nil {
			return err
		}
		all = append(all, v)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// Texts runs a query for one column and returns its values.
func Texts(ctx context.Context, q Querier, what, text string, args ...any) ([]string, error) {
	return Collect(ctx, q, what, text, args, func(s *string) []any { return []any{s} })
}

// One runs a query and scans its first row into dest. It returns false if there is none.
func One(ctx context.Context, q Querier, what, text string, args []any, dest ...any) (found bool, err error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return false, Wrap(what, "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err reports what is wrong
	if found = rows.Next(); found {
		err = rows.Scan(dest...)
	} else {
		err = rows.Err()
	}
	if err == nil {
		err = rows.Close()
	}
	return found && err == nil, Wrap(what, "", err)
}

// Now returns the database's clock in Unix ms.
func Now(ctx context.Context, q Querier) (now int64, err error) {
	_, err = One(ctx, q, "read clock", "SELECT "+NowMillis, nil, &now)
	return now, err
}

// Behind returns the condition "greater than these values", in a form for which both databases use an index over the
// columns in this order.
func Behind(cols []string, values []any) (string, []any) {
	if len(cols) == 1 {
		return cols[0] + " > ?", values
	}
	rest, args := Behind(cols[1:], values[1:])
	return cols[0] + " >= ? AND (" + cols[0] + " > ? OR " + rest + ")", append([]any{values[0], values[0]}, args...)
}

// Args returns texts as arguments of a statement, as bytes: Freshet's own tables compare bytes.
func Args(texts []string) []any {
	args := make([]any, len(texts))
	for i, s := range texts {
		args[i] = []byte(s)
	}
	return args
}

// Cut shortens s to at most n bytes without splitting a character, for a column that takes no more.
func Cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
