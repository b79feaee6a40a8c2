package replica

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"time"

	"github.com/freshet/freshet/internal/retry"
)

const (
	// maxStatements bounds the prepared statements of one connection; a server has 16382 for everybody.
	maxStatements = 300
	// maxTries bounds the tries of one transaction against conflicts; after them the caller decides.
	maxTries = 8
	// maxLockWaits is maxTries for waits that already took LockWait: meanwhile other datasets lack the writer.
	maxLockWaits = 2
	// A broken connection says that the server may be away: once more, since it may also have been idle too long.
	maxReconnects = 1
	conflictFirst = 20 * time.Millisecond
	conflictMax   = time.Second
)

// ErrClosed comes from a method called after Close.
var ErrClosed = errors.New("replica is closed")

// writer is one pinned connection with its prepared statements. One goroutine uses it at a time.
type writer struct {
	conn       *sql.Conn
	born, used time.Time
	statements map[statementID]*prepared // those of a number of rows
	others     map[string]*prepared      // by text; a handful of fixed statements
	clock      int64
}

// statementID names a table's statement for a number of rows.
type statementID struct {
	t    *table
	rows int
	does statementKind
}

type statementKind uint8

const (
	upserts statementKind = iota
	selectsOld
	insertsPlaceholders
	comparesRows
)

// prepared is a statement that lives as long as its connection.
type prepared struct {
	stmt *sql.Stmt
	used int64 // the writer's clock when an upsert was last used
}

func (m *MySQL) newWriter(ctx context.Context) (*writer, error) {
	conn, err := m.db.Conn(ctx)
	if err != nil {
		return nil, doing("connect", "", err)
	}
	now := time.Now()
	w := &writer{conn: conn, born: now, used: now, statements: map[statementID]*prepared{}, others: map[string]*prepared{}}
	if m.cfg.PlainSession {
		return w, nil
	}
	// A process that is suspended, or whose machine is gone, inside a transaction keeps its row locks for as long as the
	// server waits for its next statement: eight hours by default, in which no other worker could take its sources.
	set := fmt.Sprintf("SET SESSION innodb_lock_wait_timeout = %[1]d, lock_wait_timeout = %[1]d, wait_timeout = %d",
		int(m.cfg.LockWait/time.Second), int(2*m.idle()/time.Second))
	if _, err := conn.ExecContext(ctx, set); err != nil {
		w.close()
		return nil, doing("set up session", "", err)
	}
	return w, nil
}

// close gives the connection up; the server forgets statements and transaction with it.
func (w *writer) close() {
	_ = w.conn.Raw(func(any) error { return driver.ErrBadConn }) // makes the pool drop it instead of using it again
	_ = w.conn.Close()
}

// idle is how long a writer's connection may lie unused before it is replaced; the server ends it after twice that time.
func (m *MySQL) idle() time.Duration {
	return max(m.cfg.SessionTimeout/2, time.Second).Truncate(time.Second)
}

func (m *MySQL) acquire(ctx context.Context) (*writer, error) {
	var w *writer
	var open bool
	select {
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	case w, open = <-m.writers:
		if !open {
			return nil, ErrClosed
		}
	}
	m.mu.Lock()
	closed := m.closed
	m.mu.Unlock()
	if closed {
		m.writers <- w
		return nil, ErrClosed
	}
	if w != nil && (time.Since(w.born) > connLifetime || time.Since(w.used) > m.idle()) {
		w.close()
		w = nil
	}
	if w == nil {
		var err error
		if w, err = m.newWriter(ctx); err != nil {
			m.writers <- nil
			return nil, err
		}
	}
	return w, nil
}

func (m *MySQL) release(w *writer, broken bool) {
	if broken {
		m.stats.repins.Add(1)
		w.close()
		w = nil
	} else {
		w.used = time.Now()
	}
	m.writers <- w
}

// stmt prepares a fixed statement once.
func (w *writer) stmt(ctx context.Context, text string) (*prepared, error) {
	if s, ok := w.others[text]; ok {
		return s, nil
	}
	s, err := w.conn.PrepareContext(ctx, text)
	if err != nil {
		return nil, err
	}
	p := &prepared{stmt: s}
	w.others[text] = p
	return p, nil
}

// sized prepares a table's statement of that size once, and forgets the one that was not used for the longest time when
// there are too many.
func (w *writer) sized(ctx context.Context, id statementID, text func(rows int) string) (*prepared, error) {
	w.clock++
	if p, ok := w.statements[id]; ok {
		p.used = w.clock
		return p, nil
	}
	if len(w.statements) >= maxStatements {
		var oldest statementID
		at := w.clock
		for id, p := range w.statements {
			if p.used < at {
				oldest, at = id, p.used
			}
		}
		_ = w.statements[oldest].stmt.Close() // a broken connection shows at the next use
		delete(w.statements, oldest)
	}
	s, err := w.conn.PrepareContext(ctx, text(id.rows))
	if err != nil {
		return nil, err
	}
	p := &prepared{stmt: s, used: w.clock}
	w.statements[id] = p
	return p, nil
}

func (w *writer) exec(ctx context.Context, text string, args ...any) (int64, error) {
	s, err := w.stmt(ctx, text)
	if err != nil {
		return 0, err
	}
	res, err := s.stmt.ExecContext(ctx, args...)
	if err != nil {
		return 0, err
	}
	return res.RowsAffected()
}

// queryRow reads one row; sql.ErrNoRows if there is none.
func (w *writer) queryRow(ctx context.Context, text string, args []any, dest ...any) error {
	s, err := w.stmt(ctx, text)
	if err != nil {
		return err
	}
	return s.stmt.QueryRowContext(ctx, args...).Scan(dest...)
}

// inTx runs fn in one transaction on a pinned connection and commits. Any error rolls everything back first: after a
// lock wait the server has undone the statement only, and a commit would keep the earlier ones.
func (m *MySQL) inTx(ctx context.Context, fn func(context.Context, *writer) error) error {
	w, err := m.acquire(ctx)
	if err != nil {
		return err
	}
	broken := true // also when fn panics
	defer func() { m.release(w, broken) }()
	if err = w.begin(ctx); err != nil {
		return err
	}
	if err = fn(ctx, w); err == nil {
		if err = w.commit(ctx); err != nil {
			return err
		}
		broken = false
		return nil
	}
	rollbackErr := w.rollback(ctx)
	broken = rollbackErr != nil || ended(ctx, err) || classify(err) == classConnection
	return err
}

// begin starts a transaction by hand. A sql.Tx holds a lock of its Conn until it ends, and a statement that is prepared on
// the Conn, as ours are, waits for that lock when it finds the connection bad: for ever, with a server that became
// read-only. (Statements of the Tx itself would be prepared anew each time.)
func (w *writer) begin(ctx context.Context) error {
	_, err := w.conn.ExecContext(ctx, "START TRANSACTION")
	return doing("begin transaction", "", err)
}

// commit is not cut off by ctx once it is under way.
func (w *writer) commit(ctx context.Context) error {
	if ctx.Err() != nil {
		return doing("commit", "", context.Cause(ctx))
	}
	_, err := w.conn.ExecContext(context.WithoutCancel(ctx), "COMMIT")
	return doing("commit", "", err)
}

func (w *writer) rollback(ctx context.Context) error {
	_, err := w.conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK")
	return doing("roll back", "", err)
}

// transact is inTx, again after conflicts and once after a broken connection. Its bounds leave the long patience to the
// caller, who knows whether anybody still waits.
func (m *MySQL) transact(ctx context.Context, what string, fn func(context.Context, *writer) error) error {
	tries, waits, reconnects := 0, 0, 0
	return retry.Do(ctx, retry.Policy{First: conflictFirst, Max: conflictMax}, func(ctx context.Context) error {
		err := m.inTx(ctx, fn)
		if err == nil {
			return nil
		}
		again := false
		switch classifyOwn(err) {
		case classConflict:
			tries++
			if IsLockWait(err) {
				waits++
			}
			again = tries < maxTries && waits < maxLockWaits
		case classConnection:
			reconnects++
			again = reconnects <= maxReconnects
		case classInfrastructure, classPoison, classDataset, classUnknown:
		}
		if ended(ctx, err) {
			again = false
		}
		if !again {
			return retry.Permanent(doing(what, "", err))
		}
		m.stats.retries.Add(1)
		m.log.DebugContext(ctx, "transaction begun again", "component", "replica", "what", what, "error", err)
		return err
	})
}
