package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/go-sql-driver/mysql"

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
	if id < 2 {
		t.Errorf("the first id is %d: a row that was there before counts as version 1, and would ignore the event", id)
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
		for _, want := range []string{"active relay r1", "backlog 0 rows", fmt.Sprintf("greatest published id %d", id), "dead rows 0"} {
			if !strings.Contains(out, want) {
				return fmt.Errorf("status lacks %q:\n%s", want, out)
			}
		}
		return nil
	})
}

// The printed grants are enough for services and relays. What is wrong with an outbox is found by doctor, and fixed by what it says.
func TestOutboxOperation(t *testing.T) {
	w := newWorld(t, nil, map[string]string{"items.yaml": fmt.Sprintf(itemDataset, testenv.Kafka(t).Topic(t)), "items.json": itemSchema})
	db := w.source()
	service := testenv.MySQL(t).Open(t, w.grantAsPrinted(db, "SERVICE"))
	w.env = append(w.env, "FRESHET_RELAY__DSN="+w.grantAsPrinted(db, "RELAY"), "FRESHET_RELAY__LEASE=1s")
	findings := func() []finding { return w.doctor("--no-canary") }
	if got := findings(); !has(got, "no-relay") || has(got, "outbox-grants") {
		t.Errorf("without a relay: %+v", got)
	}
	w.startRelay("r1")
	insert := func(dataset, data string) {
		t.Helper()
		if _, err := service.ExecContext(t.Context(), "INSERT INTO freshet_outbox (dataset, record_key, op, data, created_at) VALUES (?, 'a', 'upsert', ?, NOW() - INTERVAL 1 HOUR)", dataset, data); err != nil {
			t.Fatal(err)
		}
	}
	exec := func(text string) {
		t.Helper()
		if _, err := db.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	found := func(name string, want bool) {
		t.Helper()
		testenv.Eventually(t, settleLimit, func(context.Context) error {
			if got := findings(); has(got, name) != want {
				return fmt.Errorf("%s, want %t: %+v", name, want, got)
			}
			return nil
		})
	}
	insert("items", `{"id":"a","n":1,"body":"b"}`)
	found("no-relay", false)
	found("outbox-behind", false)
	insert("others", `{"id":"a"}`)
	found("outbox-unknown-dataset", true)
	if _, err := service.ExecContext(t.Context(), "INSERT INTO freshet_outbox (dataset, record_key, op) VALUES ('items', 'dead', 'upsert')"); err != nil {
		t.Fatal(err)
	}
	found("outbox-dead-rows", true)
	if out := w.mustRun("outbox", "status"); !strings.Contains(out, `items "dead", refused`) || !strings.Contains(out, "data: is missing") {
		t.Errorf("status:\n%s", out)
	}
	lag := ask[struct {
		Items  []struct{ Dataset string }
		Outbox struct {
			Backlog  int64
			Owner    string
			Datasets []struct{ Dataset string }
		}
	}](w, w.api(), 0, "lag")
	if len(lag.Items) == 0 || lag.Outbox.Backlog != 1 || lag.Outbox.Owner != "r1" || lag.Outbox.Datasets[0].Dataset != "others" {
		t.Errorf("lag: %+v", lag)
	}
	if out := w.mustRun("lag", "--client-url", w.api()); !strings.Contains(out, "outbox: 1 rows") || !strings.Contains(out, "active relay: r1") {
		t.Errorf("lag:\n%s", out)
	}
	exec("TRUNCATE freshet_outbox")
	insert("items", `{"id":"a","n":2,"body":"b"}`)
	found("outbox-stopped", true)
	found("outbox-behind", true)
	if out := w.mustRun("outbox", "advance", "--above", "5000000000"); !strings.Contains(out, "versions would continue above 50") || !strings.Contains(out, "nothing was changed") {
		t.Errorf("advance without --apply: %s", out)
	}
	found("outbox-stopped", true)
	if out := w.mustRun("outbox", "advance", "--above", "5000000000", "--apply"); !strings.Contains(out, "versions continue above 50") {
		t.Errorf("advance: %s", out)
	}
	found("outbox-stopped", false)
	found("outbox-behind", false)
	exec("DROP TABLE freshet_outbox_dead")
	found("outbox-tables", true)
	if _, err := service.ExecContext(t.Context(), "SELECT * FROM freshet_outbox"); err == nil {
		t.Error("the grants of a service let it read")
	}
}

// grantAsPrinted makes a user with the grants that the command prints for a placeholder, and opens the source as that user.
func (w *world) grantAsPrinted(db *sql.DB, placeholder string) (dsn string) {
	w.t.Helper()
	var database string
	if err := db.QueryRowContext(w.t.Context(), "SELECT DATABASE()").Scan(&database); err != nil {
		w.t.Fatal(err)
	}
	name := strings.ToLower(placeholder) + "_" + database
	exec := func(text string) {
		w.t.Helper()
		if _, err := db.ExecContext(context.WithoutCancel(w.t.Context()), text); err != nil {
			w.t.Fatalf("%s: %v", text, err)
		}
	}
	for _, host := range []string{"localhost", "%"} {
		user := fmt.Sprintf("'%s'@'%s'", name, host)
		exec("CREATE USER " + user)
		w.t.Cleanup(func() { exec("DROP USER " + user) })
		for line := range strings.Lines(w.mustRun("outbox", "ddl")) {
			if grant, ok := strings.CutPrefix(strings.TrimSpace(line), "--   "); ok && strings.Contains(grant, " TO "+placeholder+";") {
				exec(strings.NewReplacer("DATABASE", database, placeholder, user, ";", "").Replace(grant))
			}
		}
	}
	cfg, err := mysql.ParseDSN(w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	cfg.User, cfg.Passwd, cfg.DBName = name, "", database
	return cfg.FormatDSN()
}
