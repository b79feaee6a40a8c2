package migrations_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/migrations"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func TestUpStatusDown(t *testing.T) {
	srv := testenv.MySQL(t)
	db := srv.Open(t, times(srv.NewDatabase(t)))
	mig, err := migrations.New(db, migrations.Config{})
	if err != nil {
		t.Fatal(err)
	}
	count := func(applied bool) (n int) {
		t.Helper()
		steps, err := mig.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range steps {
			if s.Applied == applied {
				n++
			}
		}
		return n
	}
	all := count(false)
	if all < 9 || count(true) != 0 {
		t.Fatalf("before: %d pending, %d applied", all, count(true))
	}
	ran, err := mig.Up(t.Context())
	if err != nil || len(ran) != all || count(true) != all {
		t.Fatalf("up: %d of %d ran, %d applied, %v", len(ran), all, count(true), err)
	}
	if ran, err = mig.Up(t.Context()); err != nil || len(ran) != 0 {
		t.Fatalf("up again: %v, %v", ran, err)
	}
	for _, table := range []string{
		"freshet_meta", "freshet_position", "freshet_position_history", "freshet_topic", "freshet_lane", "freshet_displaced",
		"freshet_displaced_low", "freshet_dead_letter", "freshet_invalidation_outbox",
	} {
		if _, err := db.ExecContext(t.Context(), "SELECT COUNT(*) FROM "+table); err != nil {
			t.Errorf("table %s: %v", table, err)
		}
	}
	for left := all; left > 0; left-- {
		if step, ok, err := mig.Down(t.Context()); err != nil || !ok || step.Name == "" {
			t.Fatalf("down with %d left: %+v, %t, %v", left, step, ok, err)
		}
		if n := count(true); n != left-1 {
			t.Fatalf("%d applied after a step down, want %d", n, left-1)
		}
	}
	if _, ok, err := mig.Down(t.Context()); err != nil || ok {
		t.Fatalf("down with nothing left: %t, %v", ok, err)
	}
	var tables string
	if err := db.QueryRowContext(t.Context(), "SELECT COALESCE(GROUP_CONCAT(table_name), '') FROM information_schema.tables "+
		"WHERE table_schema = DATABASE() AND table_name NOT LIKE 'freshet_migrations%'").Scan(&tables); err != nil || tables != "" {
		t.Errorf("left behind: %s, %v", tables, err)
	}
}

// TestConcurrentUp is what several workers do that are deployed at once.
func TestConcurrentUp(t *testing.T) {
	srv := testenv.MySQL(t)
	dsn := times(srv.NewDatabase(t))
	var g errgroup.Group
	var ran [3]int
	for i := range ran {
		db := srv.Open(t, dsn)
		g.Go(func() error {
			mig, err := migrations.New(db, migrations.Config{LockWait: 30 * time.Second})
			if err != nil {
				return err
			}
			steps, err := mig.Up(t.Context())
			ran[i] = len(steps)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if sum := ran[0] + ran[1] + ran[2]; sum < 9 || ran[0]*ran[1]+ran[1]*ran[2]+ran[0]*ran[2] != 0 {
		t.Errorf("migrations ran %v; one of the three must have run them all", ran)
	}
}

// times adds parseTime to a DSN.
func times(dsn string) string {
	if strings.Contains(dsn, "?") {
		return dsn + "&parseTime=true"
	}
	return dsn + "?parseTime=true"
}

func TestParseTimeIsMissed(t *testing.T) {
	srv := testenv.MySQL(t)
	db := srv.Open(t, srv.NewDatabase(t))
	mig, err := migrations.New(db, migrations.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = mig.Up(t.Context()); !errors.Is(err, migrations.ErrParseTime) {
		t.Errorf("up: %v, want ErrParseTime", err)
	}
	if _, _, err = mig.Down(t.Context()); !errors.Is(err, migrations.ErrParseTime) {
		t.Errorf("down: %v, want ErrParseTime", err)
	}
	if mig, err = migrations.New(db, migrations.Config{NoLock: true}); err != nil {
		t.Fatal(err)
	}
	if _, err = mig.Up(t.Context()); err != nil {
		t.Errorf("without the lock: %v", err)
	}
}

func TestConfig(t *testing.T) {
	if _, err := migrations.New(nil, migrations.Config{}); err == nil {
		t.Error("no database was accepted")
	}
	srv := testenv.MySQL(t)
	if _, err := migrations.New(srv.Open(t, srv.DSN("")), migrations.Config{LockWait: -1}); err == nil {
		t.Error("a negative LockWait was accepted")
	}
}

// TestFiles holds every migration to what makes it safe: one statement each way, so that DDL, which commits by itself,
// never stops in the middle; and a character set and collation of its own.
func TestFiles(t *testing.T) {
	files, err := fs.Glob(os.DirFS("sql"), "*.sql")
	if err != nil || len(files) == 0 {
		t.Fatalf("files: %v, %v", files, err)
	}
	text := regexp.MustCompile(`(?i)\b(VARCHAR|CHAR|TEXT|MEDIUMTEXT|LONGTEXT|ENUM)\b`)
	for i, name := range files {
		body, err := os.ReadFile("sql/" + name)
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf("%05d_", i+1); !strings.HasPrefix(name, want) {
			t.Errorf("%s: want prefix %s", name, want)
		}
		up, down, ok := strings.Cut(string(body), "-- +goose Down")
		if !ok || strings.Count(up, ";") != 1 || strings.Count(down, ";") != 1 {
			t.Error(errors.New(name + ": not one statement each way"))
		}
		if strings.Contains(up, "CREATE TABLE") && !strings.Contains(up, "DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin") {
			t.Errorf("%s: character set or collation is the server's", name)
		}
		if m := text.FindString(strings.ReplaceAll(up, "CHARACTER SET", "")); m != "" {
			t.Errorf("%s: a column is %s; names are VARBINARY", name, m)
		}
	}
}

// Going back to a release without freshet_dead_record keeps the records of its dead letters.
func TestDownKeepsRecordsOfDeadLetters(t *testing.T) {
	srv := testenv.MySQL(t)
	db := srv.Open(t, times(srv.NewDatabase(t)))
	mig, err := migrations.New(db, migrations.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mig.Up(t.Context()); err != nil {
		t.Fatal(err)
	}
	for i := range 2 { // of one record
		_, err := db.ExecContext(t.Context(), "INSERT INTO freshet_dead_letter (source, off, idx, dataset, reason, detail, size, broker_at, state, created_at, updated_at)"+
			" VALUES ('s', 1, ?, 'd', 'schema', '', 1, 1, 'open', 1, 1)", i)
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := db.ExecContext(t.Context(), "INSERT INTO freshet_dead_record (source, off, kafka_key, headers, data) VALUES ('s', 1, 'k', 'h', 'v')"); err != nil {
		t.Fatal(err)
	}
	for step := (migrations.Step{}); !strings.Contains(step.Name, "00017"); {
		if step, _, err = mig.Down(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	var n int
	if err := db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM freshet_dead_letter WHERE kafka_key = 'k' AND headers = 'h' AND data = 'v'").Scan(&n); err != nil || n != 2 {
		t.Errorf("%d letters have their record, want 2 (%v)", n, err)
	}
}
