package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/testenv"
)

// source makes a source database with the statements that the command prints, and tells commands of it.
func (w *world) source() *sql.DB {
	w.t.Helper()
	my := testenv.MySQL(w.t)
	dsn := my.NewDatabase(w.t)
	w.env = append(w.env, "FRESHET_RELAY__DSN="+dsn, "FRESHET_RELAY__LISTEN=127.0.0.1:0")
	db := my.Open(w.t, dsn)
	for _, stmt := range strings.Split(w.mustRun("outbox", "ddl"), ";\n\n") {
		if strings.HasPrefix(stmt, "--") {
			continue
		}
		if _, err := db.ExecContext(w.t.Context(), stmt); err != nil {
			w.t.Fatalf("%s: %v", stmt, err)
		}
	}
	return db
}

// startRelay starts a relay process.
func (w *world) startRelay(id string) *testenv.Process {
	w.t.Helper()
	return testenv.StartProcess(w.t, "relay "+id, w.command(context.Background(), "relay", "--relay-id", id))
}

// From a row of any program's INSERT to the replica, with the processes that an operator runs.
func TestOutboxReachesTheReplica(t *testing.T) {
	w := newWorld(t, nil, map[string]string{"items.yaml": fmt.Sprintf(itemDataset, testenv.Kafka(t).Topic(t)), "items.json": itemSchema})
	db := w.source()
	w.startWorker()
	w.startRelay("r1")
	res, err := db.ExecContext(t.Context(), "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'a', 'upsert', '{\"id\":\"a\",\"n\":1,\"body\":\"b\"}')")
	if err != nil {
		t.Fatal(err)
	}
	id, err := res.LastInsertId()
	if err != nil {
		t.Fatal(err)
	}
	testenv.Eventually(t, settleLimit, func(ctx context.Context) error {
		var n, version int64
		err := w.db.QueryRowContext(ctx, "SELECT n, _version FROM items WHERE id = 'a'").Scan(&n, &version)
		if err == nil && (n != 1 || version != id) {
			err = errors.New("another row")
		}
		return err
	})
	var out string
	testenv.Eventually(t, settleLimit, func(context.Context) error {
		out = strings.Join(strings.Fields(w.mustRun("outbox", "status")), " ")
		for _, want := range []string{"active relay r1", "backlog 0 rows", "greatest published id 1", "dead rows 0"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("status lacks %q:\n%s", want, out)
			}
		}
		return nil
	})
}
