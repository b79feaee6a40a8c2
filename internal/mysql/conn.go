package mysql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"
)

// maxStatements bounds the prepared statements of one connection; a server has 16382 for all of its clients.
const maxStatements = 300

// ErrClosed is returned by a method of a Pool after Close.
var ErrClosed = errors.New("database is closed")

// Conn is one connection with its prepared statements. One goroutine uses it at a time.
type Conn struct {
	conn       *sql.Conn
	born, used time.Time
	sized      map[StatementID]*prepared
	fixed      map[string]*prepared // by text; a handful
	clock      int64
	room       []any
	named      []driver.NamedValue
}

// StatementID identifies a statement whose text depends on a number of rows.
type StatementID struct {
	// Of is what the statement is about; Kind tells its statements apart.
	Of   any
	Kind uint8
	Rows int
}

// prepared is a statement that lives as long as its connection.
type prepared struct {
	stmt *sql.Stmt
	used int64 // the connection's clock when a sized statement was last used
	// direct is the driver's own statement of one that is only executed; stmt is nil then.
	direct directStmt
}

// directStmt is what a driver's prepared statement can do.
type directStmt interface {
	driver.Stmt
	driver.StmtExecContext
}

// Connect opens a connection beside the pinned ones. The caller closes it.
func (p *Pool) Connect(ctx context.Context) (*Conn, error) {
	conn, err := p.db.Conn(ctx)
	if err != nil {
		return nil, Wrap("connect", "", err)
	}
	c := NewConn(conn)
	if p.cfg.PlainSession {
		return c, nil
	}
	// A process that is suspended, or whose machine is gone, inside a transaction keeps its row locks for as long as the
	// server waits for its next statement: eight hours by default, in which no other worker could take its sources.
	set := fmt.Sprintf("SET SESSION innodb_lock_wait_timeout = %[1]d, lock_wait_timeout = %[1]d, wait_timeout = %d",
		int(p.cfg.LockWait/time.Second), int(2*p.cfg.Idle/time.Second))
	if _, err := conn.ExecContext(ctx, set); err != nil {
		c.Close()
		return nil, Wrap("set up session", "", err)
	}
	return c, nil
}

// NewConn returns a Conn on an open connection, which it owns.
func NewConn(conn *sql.Conn) *Conn {
	now := time.Now()
	return &Conn{conn: conn, born: now, used: now, sized: map[StatementID]*prepared{}, fixed: map[string]*prepared{}}
}

// Plain returns the connection itself, for statements that are not worth preparing.
func (c *Conn) Plain() *sql.Conn { return c.conn }

// Close ends the connection instead of returning it to the database's pool. The server rolls back its transaction and
// releases its locks.
func (c *Conn) Close() {
	_ = c.conn.Raw(func(any) error { return driver.ErrBadConn }) // makes the pool drop it instead of using it again
	_ = c.conn.Close()
}

// prepare prepares a fixed statement once.
func (c *Conn) prepare(ctx context.Context, text string) (*prepared, error) {
	if p, ok := c.fixed[text]; ok {
		return p, nil
	}
	s, err := c.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	p := &prepared{stmt: s}
	c.fixed[text] = p
	return p, nil
}

// prepareSized prepares a statement of some size once. When there are too many, the one that was not used for the longest
// time is closed.
func (c *Conn) prepareSized(ctx context.Context, id StatementID, text func(rows int) string, direct bool) (*prepared, error) {
	c.clock++
	if p, ok := c.sized[id]; ok {
		p.used = c.clock
		return p, nil
	}
	if len(c.sized) >= maxStatements {
		var oldest StatementID
		at := c.clock
		for id, p := range c.sized {
			if p.used < at {
				oldest, at = id, p.used
			}
		}
		c.drop(c.sized[oldest])
		delete(c.sized, oldest)
	}
	p := &prepared{used: c.clock}
	var err error
	if direct {
		p.direct, err = c.prepareDirect(ctx, text(id.Rows))
	} else {
		p.stmt, err = c.conn.PrepareContext(ctx, text(id.Rows))
	}
	if err != nil {
		return nil, err
	}
	c.sized[id] = p
	return p, nil
}

// EachSized is Each for a query whose text depends on id.Rows.
func (c *Conn) EachSized(ctx context.Context, what string, id StatementID, text func(rows int) string, args []any, row func(scan func(...any) error) error) error {
	p, err := c.prepareSized(ctx, id, text, false)
	if err != nil {
		return Wrap(what, "", err)
	}
	rows, err := p.stmt.QueryContext(ctx, args...)
	if err != nil {
		return Wrap(what, "", err)
	}
	return scanAll(what, rows, row)
}

// exec executes a fixed statement.
func (c *Conn) exec(ctx context.Context, text string, args []any) (sql.Result, error) {
	p, err := c.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	return p.stmt.ExecContext(ctx, args...)
}

// Exec executes a fixed statement and returns the number of rows that it found.
func (c *Conn) Exec(ctx context.Context, text string, args ...any) (int64, error) {
	res, err := c.exec(ctx, text, args)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// Insert executes a fixed statement and returns the id that the server gave to the new row.
func (c *Conn) Insert(ctx context.Context, text string, args ...any) (int64, error) {
	res, err := c.exec(ctx, text, args)
	if err != nil {
		return 0, err
	}
	return res.LastInsertId()
}

// ExecOnce is Exec for a statement that is not worth preparing.
func (c *Conn) ExecOnce(ctx context.Context, text string, args ...any) (int64, error) {
	res, err := c.conn.ExecContext(ctx, text, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// QueryContext runs a fixed query.
func (c *Conn) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	p, err := c.prepare(ctx, text)
	if err != nil {
		return nil, err
	}
	return p.stmt.QueryContext(ctx, args...)
}

// QueryRow runs a fixed query and scans its first row. It returns sql.ErrNoRows if there is none.
func (c *Conn) QueryRow(ctx context.Context, text string, args []any, dest ...any) error {
	p, err := c.prepare(ctx, text)
	if err != nil {
		return err
	}
	return p.stmt.QueryRowContext(ctx, args...).Scan(dest...)
}

// Begin starts a transaction by a statement. A sql.Tx holds a lock of its Conn until it ends, and a statement that is
// prepared on the Conn, as these are, waits for that lock when it finds the connection bad: permanently, with a server that
// became read-only. (Statements of the Tx itself would be prepared again each time.)
func (c *Conn) Begin(ctx context.Context) error {
	_, err := c.conn.ExecContext(ctx, "START TRANSACTION")
	return Wrap("begin transaction", "", err)
}

// Commit is not cut off by ctx once it is under way.
func (c *Conn) Commit(ctx context.Context) error {
	if ctx.Err() != nil {
		return Wrap("commit", "", context.Cause(ctx))
	}
	_, err := c.conn.ExecContext(context.WithoutCancel(ctx), "COMMIT")
	return Wrap("commit", "", err)
}

// Rollback is not cut off by ctx.
func (c *Conn) Rollback(ctx context.Context) error {
	_, err := c.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return Wrap("roll back", "", err)
}
