package replica_test

import (
	"context"
	"database/sql"
	"errors"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// ddlSteps returns a table g with one column, and a schema with one more.
func ddlSteps(t *testing.T) (b *bed, small, large []*schemas.Dataset) {
	t.Helper()
	b = newBed(t, replica.Config{})
	small, large = grown(t, `,"a":{"type":"integer"}`), grown(t, `,"a":{"type":"integer"},"b":{"type":"integer"}`)
	if ddl, err := tables.Migrate(t.Context(), b.db, small, false); err != nil || len(ddl.Problems) > 0 {
		t.Fatalf("migrate: %v, %v", err, ddl)
	}
	return b, small, large
}

// use opens a transaction that has read table g, and returns what ends it.
func (b *bed) use(t *testing.T) (end func()) {
	t.Helper()
	tx, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var n int
	if err := tx.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM g").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := tx.Rollback(); err != nil && !errors.Is(err, sql.ErrTxDone) {
			t.Error(err)
		}
	}
}

// TestMigrateDoesNotQueueBehindATransaction: while an ALTER TABLE waits, everything else on its table waits behind it.
func TestMigrateDoesNotQueueBehindATransaction(t *testing.T) {
	t.Parallel()
	b, _, large := ddlSteps(t)
	end := b.use(t)
	_, err := tables.Migrate(t.Context(), b.db, large, false)
	if n, _ := mysql.Errno(err); n != 1205 || !strings.Contains(err.Error(), "a transaction uses table g") {
		t.Errorf("error %v, want words about the transaction", err)
	}
	end()
	if _, err := tables.Migrate(t.Context(), b.db, large, false); err != nil {
		t.Error(err)
	}
}

// TestOneMigrateAtATime: a second one does not change tables beside the first.
func TestOneMigrateAtATime(t *testing.T) {
	t.Parallel()
	b, _, large := ddlSteps(t)
	conn, err := b.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	var got bool
	// The server releases the lock of the setup's migrate when it has noticed the end of that connection.
	if err := conn.QueryRowContext(t.Context(), "SELECT GET_LOCK(CONCAT('freshet.ddl.', LEFT(DATABASE(), 50)), 30)").Scan(&got); err != nil || !got {
		t.Fatal(got, err)
	}
	if _, err := tables.Migrate(t.Context(), b.db, large, false); err == nil || !strings.Contains(err.Error(), "another freshet migrate datasets") {
		t.Errorf("error %v, want one about the other migrate", err)
	}
}

// TestMigrateLooksUpWhatBecameOfItsStatement: the connection is lost while the server executes an ALTER TABLE.
func TestMigrateLooksUpWhatBecameOfItsStatement(t *testing.T) {
	t.Parallel()
	srv := testenv.MySQL(t)
	b, _, large := ddlSteps(t)
	own, err := gomysql.ParseDSN(b.cfg.MySQL.DSN)
	if err != nil {
		t.Fatal(err)
	}
	proxy := testenv.NewProxy(t, srv.Addr)
	far := open(t, replica.Config{MySQL: mysql.Config{DSN: srv.TCP(proxy.Addr, own.DBName)}})
	end := b.use(t)
	defer end()
	done := make(chan error, 1)
	go func() {
		_, err := tables.Migrate(t.Context(), far.SQL(), large, false)
		done <- err
	}()
	testenv.Eventually(t, 30*time.Second, func(ctx context.Context) error {
		var n int
		err := b.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE 'ALTER TABLE%'").Scan(&n)
		if err == nil && n == 0 {
			err = errors.New("the ALTER TABLE does not run yet")
		}
		return err
	})
	proxy.Cut()
	end()
	err = testenv.Await(t, done)
	there := one[int](t, b.db, "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'g' AND column_name = 'b'") == 1
	if there != (err == nil) || err != nil && !strings.Contains(err.Error(), "the change is not there") {
		t.Errorf("the column is there: %t; migrate says %v", there, err)
	}
}

// TestAllProblemsOfATableAreListed: also an extra column that every insert would have to give.
func TestAllProblemsOfATableAreListed(t *testing.T) {
	b, _, large := ddlSteps(t)
	b.exec(t, "ALTER TABLE g MODIFY a VARCHAR(5), ADD theirs INT NOT NULL, ADD fine INT NOT NULL DEFAULT 7, ADD UNIQUE KEY once (theirs)")
	ddl, err := tables.Migrate(t.Context(), b.db, large, false)
	if err != nil || len(ddl.Statements) > 0 {
		t.Fatalf("migrate: %v, %v", texts(ddl), err)
	}
	var got []string
	for _, p := range ddl.Problems {
		got = append(got, p.Problem)
	}
	all := strings.Join(got, "; ")
	for _, want := range []string{"unique index once", "not BIGINT", "g.theirs is NOT NULL without a default"} {
		if !strings.Contains(all, want) {
			t.Errorf("%q is not listed: %s", want, all)
		}
	}
	if len(got) != 3 {
		t.Errorf("%d problems: %s", len(got), all)
	}
	broken, err := b.Prepare(t.Context(), large)
	if err != nil || len(broken) != 1 || !strings.Contains(broken[0].Problem, "3 more problems") { // b is missing too
		t.Errorf("a worker sees %v, %v", broken, err)
	}
}
