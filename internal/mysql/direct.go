package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
)

// Statements of many rows go to the driver directly: database/sql would make an array of all arguments for each execution, and
// convert each of them, which costs more than the driver's own work.

// drop closes a statement; a broken connection shows at the next use.
func (c *Conn) drop(p *prepared) {
	if p.direct == nil {
		_ = p.stmt.Close()
		return
	}
	_ = c.raw(func(driver.Conn) error { return p.direct.Close() })
}

// Room returns an empty slice for n arguments of one execution on this connection.
func (c *Conn) Room(n int) []any {
	if cap(c.room) < n {
		c.room = make([]any, 0, n)
	}
	return c.room[:0]
}

// ExecSized executes a statement whose text depends on id.Rows, and clears args. Its id is not that of an EachSized.
func (c *Conn) ExecSized(ctx context.Context, id StatementID, text func(rows int) string, args ...any) (sql.Result, error) {
	defer clear(args) // what they are parts of must not stay alive with the connection
	p, err := c.prepareSized(ctx, id, text, true)
	if err != nil {
		return nil, err
	}
	if cap(c.named) < len(args) {
		c.named = make([]driver.NamedValue, len(args))
	}
	named := c.named[:len(args)]
	defer clear(named)
	for i, v := range args {
		named[i].Ordinal = i + 1
		switch v.(type) {
		case nil, string, int64, float64, uint64, []byte:
			named[i].Value = v
		default:
			if named[i].Value, err = driver.DefaultParameterConverter.ConvertValue(v); err != nil {
				return nil, fmt.Errorf("convert argument %d: %w", i+1, err)
			}
		}
	}
	var res driver.Result
	err = c.raw(func(driver.Conn) error {
		res, err = p.direct.ExecContext(ctx, named)
		return err
	})
	return res, err
}

func (c *Conn) prepareDirect(ctx context.Context, text string) (stmt directStmt, err error) {
	return stmt, c.raw(func(conn driver.Conn) error {
		preparer, ok := conn.(driver.ConnPrepareContext)
		if !ok {
			return errDriver
		}
		s, err := preparer.PrepareContext(ctx, text)
		if err != nil {
			return err //nolint:wrapcheck // Classify looks at it unchanged
		}
		if stmt, ok = s.(directStmt); !ok {
			return errors.Join(errDriver, s.Close())
		}
		return nil
	})
}

var errDriver = errors.New("the driver's connection prepares no statements; use github.com/go-sql-driver/mysql")

// raw calls fn with the driver's connection. A connection that the driver has given up is not used again.
func (c *Conn) raw(fn func(driver.Conn) error) error {
	return c.conn.Raw(func(conn any) error {
		driverConn, ok := conn.(driver.Conn)
		if !ok {
			return errDriver
		}
		return fn(driverConn)
	})
}
