package replica_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/internal/testenv"
)

// TestServerBecomesReadOnly: after a fail-over the server may take no writes. The driver then takes the connection for bad,
// in the middle of a transaction. Nothing becomes a letter, nothing waits permanently, and the same batch is applied once
// there is a primary again.
func TestServerBecomesReadOnly(t *testing.T) {
	srv := testenv.StartMySQL(t, testenv.MySQLOptions{})
	dsn := srv.NewDatabase(t)
	root := srv.Open(t, dsn)
	b := newBed(t, replica.Config{MySQL: mysql.Config{DSN: plainUser(t, root, dsn), Writers: 1}})
	b.apply(t, b.item(t, 1, 1, "a"))
	execOn(t, root, "SET GLOBAL read_only = 1")
	batch := b.batch(b.item(t, 1, 2, "b"))
	_, err := b.Apply(t.Context(), batch)
	var de *tables.DatasetError
	if err == nil || errors.As(err, &de) || errors.Is(err, replica.ErrFenced) {
		t.Errorf("error %v, want an infrastructure fault", err)
	}
	execOn(t, root, "SET GLOBAL read_only = 0")
	testenv.Eventually(t, 20*time.Second, func(ctx context.Context) error {
		_, err := b.Apply(ctx, batch)
		return err
	})
	b.wantRow(t, 1, "2:b")
	if ls := b.letters(t); len(ls) != 0 {
		t.Errorf("%d letters", len(ls))
	}
}

func execOn(t *testing.T, db *sql.DB, text string) {
	t.Helper()
	if _, err := db.ExecContext(t.Context(), text); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
}

// plainUser makes a user with the rights that a worker has, and none of an administrator.
func plainUser(t *testing.T, root *sql.DB, dsn string) string {
	t.Helper()
	cfg, err := gomysql.ParseDSN(dsn)
	if err != nil {
		t.Fatal(err)
	}
	for _, host := range []string{"localhost", "%"} {
		execOn(t, root, fmt.Sprintf("DROP USER IF EXISTS 'plain'@'%s'", host))
		execOn(t, root, fmt.Sprintf("CREATE USER 'plain'@'%s' IDENTIFIED BY ''", host))
		execOn(t, root, fmt.Sprintf("GRANT ALL ON `%s`.* TO 'plain'@'%s'", cfg.DBName, host))
	}
	cfg.User, cfg.Passwd = "plain", ""
	return cfg.FormatDSN()
}
