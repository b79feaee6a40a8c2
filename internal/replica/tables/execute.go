package tables

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
)

const (
	// ddlLockWait is how long a statement waits for the table. While it waits, every later statement on the table waits behind
	// it, those of workers and of the service's readers too, so it must not be long.
	ddlLockWait = 5 * time.Second
	// ddlTurn is how long Execute waits for another one that changes tables.
	ddlTurn = 10 * time.Second
)

// sqlDDLTurn takes the right to change tables of this database. It belongs to the connection, so the server keeps it as long
// as it executes the connection's last statement, also when the client is gone.
const (
	sqlDDLTurn   = "SELECT COALESCE(GET_LOCK(CONCAT('freshet.ddl.', LEFT(DATABASE(), 50)), ?), 0)"
	sqlDDLHolder = "SELECT COALESCE(IS_USED_LOCK(CONCAT('freshet.ddl.', LEFT(DATABASE(), 50))), 0)"
)

// Execute runs the statements of a plan, one at a time in the whole database: a second ALTER TABLE is never queued behind one
// that runs. DDL commits by itself, so after an error the statements before it stay; a new plan continues from there.
// Problems keep their datasets out and do not stop the others.
//
// A statement waits at most five seconds for its table. When the connection is lost, the server may still execute the
// statement: Execute waits until it has ended, and looks whether the change is there. db should have no read timeout, which
// would end the connection under a long ALTER TABLE.
func (d *DDL) Execute(ctx context.Context, db *sql.DB) error {
	if len(d.Statements) == 0 {
		return nil
	}
	conn, err := ddlConn(ctx, db, ddlTurn)
	if err != nil {
		return err
	}
	defer func() {
		if conn != nil {
			conn.Close()
		}
	}()
	for _, s := range d.Statements {
		err := s.run(ctx, conn)
		if err != nil && mysql.Classify(err) == mysql.ClassConnection {
			conn.Close()
			if conn, err = s.settle(ctx, db, err); err != nil {
				return err
			}
			continue
		}
		if n, _ := mysql.Errno(err); n == 1205 && s.table != nil {
			return fmt.Errorf("migrate dataset %s: a transaction uses table %s and did not end within %s, so nothing was changed;"+
				" end it (SHOW PROCESSLIST shows it) and run the command again: %w", s.Dataset, s.table.Replica.Table, ddlLockWait, mysql.Wrap("wait for the table", "", err))
		}
		if err != nil {
			return mysql.Wrap("migrate dataset", s.Dataset, err)
		}
	}
	return nil
}

// run executes the statement.
func (s Statement) run(ctx context.Context, conn *mysql.Conn) error {
	if s.fill {
		return s.fillVersions(ctx, conn)
	}
	_, err := conn.ExecOnce(ctx, s.SQL, s.args...)
	if !s.instant {
		return err //nolint:wrapcheck // the caller looks at it
	}
	switch n, _ := mysql.Errno(err); n {
	case 1845, 1846, 4092: // not supported, with or without a reason; too many changes of that kind
		_, err = conn.ExecOnce(ctx, strings.Replace(s.SQL, algorithmInstant, algorithmInplace, 1), s.args...)
	}
	return err //nolint:wrapcheck // as above
}

// settle finds out what became of a statement whose connection was lost, and returns a new connection if it took effect.
func (s Statement) settle(ctx context.Context, db *sql.DB, cause error) (*mysql.Conn, error) {
	// The lost connection has its turn until the server has ended the statement, which may take hours.
	conn, err := ddlConn(ctx, db, 365*24*time.Hour)
	if err != nil {
		return nil, fmt.Errorf("migrate dataset %s: the connection was lost, and what became of the statement is not known: %w", s.Dataset, err)
	}
	if s.table == nil || s.fill { // it sets values, so once more does no harm
		return conn, mysql.Wrap("migrate dataset", s.Dataset, s.run(ctx, conn))
	}
	dialect, err := mysql.DetectDialect(ctx, db)
	if err != nil {
		return conn, err
	}
	f, err := s.planner.find(ctx, db, s.table)
	if err != nil {
		return conn, err
	}
	left, _ := s.planner.planTable(s.table, dialect, f)
	if slices.ContainsFunc(left, func(l Statement) bool { return l.sameChange(s) }) {
		err = fmt.Errorf("migrate dataset %s: the connection was lost and the change is not there; run the command again: %w", s.Dataset, cause)
	}
	return conn, err
}

// ddlConn returns a connection that has the turn to change tables until it is closed. It waits at most as long as given.
func ddlConn(ctx context.Context, db *sql.DB, wait time.Duration) (*mysql.Conn, error) {
	plain, err := db.Conn(ctx)
	if err != nil {
		return nil, mysql.Wrap("connect", "", err)
	}
	conn := mysql.NewConn(plain)
	if err := takeTurn(ctx, plain, wait); err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}

func takeTurn(ctx context.Context, conn *sql.Conn, wait time.Duration) error {
	var got bool
	if err := conn.QueryRowContext(ctx, sqlDDLTurn, int(wait/time.Second)).Scan(&got); err != nil {
		return mysql.Wrap("wait for other changes of tables", "", err)
	}
	if !got {
		var holder int64
		if err := conn.QueryRowContext(ctx, sqlDDLHolder).Scan(&holder); err != nil {
			return mysql.Wrap("look for the connection that changes tables", "", err)
		}
		return fmt.Errorf("another freshet migrate datasets is changing tables (connection %d of the server); wait for its end, or end it with KILL", holder)
	}
	// A server refuses to change a table, in whatever way, that has a default of zeros in some column, unless zeros are allowed.
	_, err := conn.ExecContext(ctx, fmt.Sprintf("SET SESSION lock_wait_timeout = %d, sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION'", int(ddlLockWait/time.Second)))
	return mysql.Wrap("set up session", "", err)
}
