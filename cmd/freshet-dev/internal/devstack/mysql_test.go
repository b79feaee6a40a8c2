package devstack_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/cmd/freshet-dev/internal/devstack"
)

func openDB(t *testing.T, s *devstack.Stack) *sql.DB {
	t.Helper()
	db, err := s.MySQL.Open()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Errorf("close pool: %v", err)
		}
	})
	return db
}

func mustExec(t *testing.T, db *sql.DB, query string, args ...any) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), query, args...); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
}

func count(t *testing.T, db *sql.DB, query string, args ...any) int64 {
	t.Helper()
	var n int64
	if err := db.QueryRowContext(t.Context(), query, args...).Scan(&n); err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	return n
}

// Four writers with read-then-write transactions, autocommitted increments and autocommitted inserts, two readers beside
// them: without the server's lock each of the three loses updates, because every commit puts whole tables back.
func TestMySQLConcurrentWritersLoseNothing(t *testing.T) {
	db := openDB(t, start(t, devstack.Config{}))
	mustExec(t, db, "CREATE TABLE c (id INT NOT NULL PRIMARY KEY, tx BIGINT NOT NULL, auto BIGINT NOT NULL)")
	mustExec(t, db, "CREATE TABLE l (id INT NOT NULL PRIMARY KEY)")
	mustExec(t, db, "INSERT INTO c VALUES (1, 0, 0)")
	const writers, rounds = 4, 25

	readersCtx, stopReaders := context.WithCancel(t.Context())
	var readers sync.WaitGroup
	for range 2 {
		readers.Go(func() {
			for readersCtx.Err() == nil {
				var a, b, n int64
				_ = db.QueryRowContext(readersCtx, "SELECT c.tx, c.auto, (SELECT COUNT(*) FROM l) FROM c WHERE id = ?", 1).Scan(&a, &b, &n)
			}
		})
	}
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			for i := range rounds {
				if err := increment(t.Context(), db); err != nil {
					return err
				}
				if _, err := db.ExecContext(t.Context(), "UPDATE c SET auto = auto + 1 WHERE id = 1"); err != nil {
					return err
				}
				if _, err := db.ExecContext(t.Context(), "INSERT INTO l VALUES (?)", w*rounds+i); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := g.Wait()
	stopReaders()
	readers.Wait()
	if err != nil {
		t.Fatal(err)
	}
	if got := count(t, db, "SELECT tx FROM c"); got != writers*rounds {
		t.Errorf("increments in transactions: got %d, want %d", got, writers*rounds)
	}
	if got := count(t, db, "SELECT auto FROM c"); got != writers*rounds {
		t.Errorf("autocommitted increments: got %d, want %d", got, writers*rounds)
	}
	if got := count(t, db, "SELECT COUNT(*) FROM l"); got != writers*rounds {
		t.Errorf("inserted rows: got %d, want %d", got, writers*rounds)
	}
}

func increment(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	var n int64
	if err := tx.QueryRowContext(ctx, "SELECT tx FROM c WHERE id = 1 FOR UPDATE").Scan(&n); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	if _, err := tx.ExecContext(ctx, "UPDATE c SET tx = ? WHERE id = 1", n+1); err != nil {
		return errors.Join(err, tx.Rollback())
	}
	return tx.Commit()
}

const guardedUpsert = "INSERT INTO r (id, name, _version) VALUES (?,?,?),(?,?,?) ON DUPLICATE KEY UPDATE " +
	"name = IF(VALUES(_version) > _version, VALUES(name), name), " +
	"_version = IF(VALUES(_version) > _version, VALUES(_version), _version)"

// Guarded upserts in any order from four writers leave the newest version of every record, with its own value.
func TestMySQLGuardedUpserts(t *testing.T) {
	db := openDB(t, start(t, devstack.Config{}))
	mustExec(t, db, "CREATE TABLE r (id VARCHAR(64) CHARACTER SET utf8mb4 COLLATE utf8mb4_0900_bin NOT NULL PRIMARY KEY, name VARCHAR(64), _version BIGINT NOT NULL)")
	const records, versions, writers = 10, 12, 4
	var g errgroup.Group
	for w := range writers {
		g.Go(func() error {
			r := rand.New(rand.NewPCG(7, uint64(w)))
			for _, i := range r.Perm(records * versions / 2) {
				rec, v := i%(records/2)*2, 1+i/(records/2)
				_, err := db.ExecContext(t.Context(), guardedUpsert,
					fmt.Sprint("k", rec), fmt.Sprint("v", v), v, fmt.Sprint("k", rec+1), fmt.Sprint("v", v), v)
				if err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	got := count(t, db, "SELECT COUNT(*) FROM r WHERE _version = ? AND name = ?", versions, fmt.Sprint("v", versions))
	if got != records {
		t.Errorf("records at the newest version: got %d, want %d", got, records)
	}
}

// A failed autocommitted statement leaves nothing behind that a later statement of the same connection could put back.
func TestMySQLFailedStatementLeavesNoStaleCopy(t *testing.T) {
	db := openDB(t, start(t, devstack.Config{}))
	mustExec(t, db, "CREATE TABLE l (id INT NOT NULL PRIMARY KEY)")
	mustExec(t, db, "INSERT INTO l VALUES (1)")
	ctx := t.Context()
	a, err := db.Conn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = a.Close() }()
	_, err = a.ExecContext(ctx, "INSERT INTO l VALUES (1)")
	var dup *mysql.MySQLError
	if !errors.As(err, &dup) || dup.Number != 1062 {
		t.Fatalf("insert a row twice: got %v, want error 1062", err)
	}
	mustExec(t, db, "INSERT INTO l VALUES (2)") // another connection: a is taken
	var n int
	if err := a.QueryRowContext(ctx, "SELECT COUNT(*) FROM l").Scan(&n); err != nil || n != 2 {
		t.Errorf("first connection sees %d rows (%v), want 2", n, err)
	}
	if _, err := a.ExecContext(ctx, "INSERT INTO l VALUES (3)"); err != nil {
		t.Fatal(err)
	}
	if got := count(t, db, "SELECT COUNT(*) FROM l"); got != 3 {
		t.Errorf("rows: got %d, want 3", got)
	}
}

// However a transaction ends, the next writer gets the lock, and what was not committed is not there.
func TestMySQLLockIsNeverLeft(t *testing.T) {
	db := openDB(t, start(t, devstack.Config{LockWait: 5 * time.Second}))
	mustExec(t, db, "CREATE TABLE l (id INT NOT NULL PRIMARY KEY)")
	ends := []struct {
		name string
		run  func(ctx context.Context, cancel context.CancelFunc, c *sql.Conn) error
	}{
		{"connection closed", func(ctx context.Context, _ context.CancelFunc, c *sql.Conn) error {
			if _, err := c.ExecContext(ctx, "BEGIN"); err != nil {
				return err
			}
			if _, err := c.ExecContext(ctx, "INSERT INTO l VALUES (100)"); err != nil {
				return err
			}
			// A bad connection is closed instead of going back to the pool.
			err := c.Raw(func(any) error { return errBad })
			if errors.Is(err, errBad) {
				return nil
			}
			return err
		}},
		{"context ended", func(ctx context.Context, cancel context.CancelFunc, c *sql.Conn) error {
			tx, err := c.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO l VALUES (101)"); err != nil {
				return err
			}
			cancel()
			return nil
		}},
		{"statement failed", func(ctx context.Context, _ context.CancelFunc, c *sql.Conn) error {
			tx, err := c.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "INSERT INTO nowhere VALUES (1)"); err == nil {
				return errors.New("insert into a missing table succeeded")
			}
			return tx.Rollback()
		}},
		{"DDL inside", func(ctx context.Context, _ context.CancelFunc, c *sql.Conn) error {
			tx, err := c.BeginTx(ctx, nil)
			if err != nil {
				return err
			}
			if _, err := tx.ExecContext(ctx, "CREATE TABLE inside (id INT NOT NULL PRIMARY KEY)"); err != nil {
				return err
			}
			return tx.Rollback()
		}},
	}
	for i, e := range ends {
		t.Run(e.name, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			c, err := db.Conn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if err := e.run(ctx, cancel, c); err != nil {
				t.Fatal(err)
			}
			_ = c.Close()
			mustExec(t, db, "INSERT INTO l VALUES (?)", i)
			if got := count(t, db, "SELECT COUNT(*) FROM l"); got != int64(i+1) {
				t.Errorf("rows: got %d, want %d", got, i+1)
			}
		})
	}
}

var errBad = fmt.Errorf("for the test: %w", driver.ErrBadConn)

// A waiting writer gets 1205 after the lock wait, a reader does not wait at all.
func TestMySQLLockWait(t *testing.T) {
	db := openDB(t, start(t, devstack.Config{LockWait: 50 * time.Millisecond}))
	mustExec(t, db, "CREATE TABLE l (id INT NOT NULL PRIMARY KEY)")
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO l VALUES (1)"); err != nil {
		t.Fatal(err)
	}
	_, err = db.ExecContext(t.Context(), "INSERT INTO l VALUES (2)")
	var locked *mysql.MySQLError
	if !errors.As(err, &locked) || locked.Number != 1205 {
		t.Errorf("second writer: got %v, want error 1205", err)
	}
	if got := count(t, db, "SELECT COUNT(*) FROM l"); got != 0 {
		t.Errorf("reader sees %d uncommitted rows", got)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, "INSERT INTO l VALUES (2)")
	if got := count(t, db, "SELECT COUNT(*) FROM l"); got != 2 {
		t.Errorf("rows: got %d, want 2", got)
	}
}

func TestMySQLReadOnlyTransaction(t *testing.T) {
	db := openDB(t, start(t, devstack.Config{LockWait: 50 * time.Millisecond}))
	mustExec(t, db, "CREATE TABLE l (id INT NOT NULL PRIMARY KEY)")
	tx, err := db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM l").Scan(&n); err != nil {
		t.Fatal(err)
	}
	mustExec(t, db, "INSERT INTO l VALUES (1)")
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if tx, err = db.BeginTx(t.Context(), &sql.TxOptions{ReadOnly: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO l VALUES (2)"); err == nil {
		t.Error("a read-only transaction wrote")
	}
	// The driver takes that answer for a server that became read-only and drops the connection.
	if err := tx.Rollback(); err == nil {
		t.Error("rollback on a dropped connection succeeded")
	}
	if got := count(t, db, "SELECT COUNT(*) FROM l"); got != 1 {
		t.Errorf("rows: got %d, want 1", got)
	}
}

func TestMySQLSessionSettings(t *testing.T) {
	db := openDB(t, start(t, devstack.Config{}))
	for _, q := range []string{
		"SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
		"SET SESSION innodb_lock_wait_timeout = 5",
		"SET innodb_lock_wait_timeout=5",
		"SET SESSION max_statement_time = 20",
	} {
		if _, err := db.ExecContext(t.Context(), q); err != nil {
			t.Errorf("%s: %v", q, err)
		}
	}
	if _, err := db.ExecContext(t.Context(), "SET autocommit = 0"); err == nil {
		t.Error("autocommit was switched off; the server's lock does not know how to follow that")
	}
}
