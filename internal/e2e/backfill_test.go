package e2e_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/time/rate"

	"github.com/freshet/freshet/internal/testenv"
)

const backfillWriters = 4

// backfillSize is the number of rows and of kills. FRESHET_BACKFILL=1000000 is the full size, which takes minutes.
func backfillSize(t *testing.T) (rows, kills int) {
	t.Helper()
	text := os.Getenv("FRESHET_BACKFILL")
	if text == "" {
		return 20_000, 5
	}
	rows, err := strconv.Atoi(text)
	if err != nil || rows < 20_000 {
		t.Fatalf("FRESHET_BACKFILL=%s: give a number of rows, at least 20000", text)
	}
	return rows, 10
}

// sourceItems makes the source table of items, with rows that no event ever told of.
func sourceItems(t *testing.T, db *sql.DB, rows int) {
	t.Helper()
	exec := func(text string, args ...any) {
		if _, err := db.ExecContext(t.Context(), text, args...); err != nil {
			t.Fatalf("%.80s: %v", text, err)
		}
	}
	exec("CREATE TABLE items (id VARCHAR(64) CHARACTER SET utf8mb4 NOT NULL PRIMARY KEY, n BIGINT NOT NULL, body VARCHAR(1000) NOT NULL, note TEXT NULL)")
	for from := 0; from < rows; from += 1000 {
		var args []any
		for i := from; i < min(from+1000, rows); i++ {
			args = append(args, fmt.Sprintf("k%07d", i), i, "loaded")
		}
		exec("INSERT INTO items (id, n, body) VALUES (?, ?, ?)"+strings.Repeat(", (?, ?, ?)", len(args)/3-1), args...)
	}
}

// write changes random records, each with its event in one transaction, until ctx ends. Some transactions roll back.
func write(ctx context.Context, db *sql.DB, rows int, seed uint64) (changes int, err error) {
	r := rand.New(rand.NewPCG(seed, 1))
	limit := rate.NewLimiter(2000/backfillWriters, 10) // changes a second
	for limit.Wait(ctx) == nil {
		key := fmt.Sprintf("k%07d", r.IntN(rows+rows/10))
		switch err := writeOne(ctx, db, key, r); {
		case ctx.Err() != nil:
		case err == nil:
			changes++
		case strings.Contains(err.Error(), "Error 1213"), errors.Is(err, errRolledBack):
		default:
			return changes, err
		}
	}
	return changes, nil
}

var errRolledBack = errors.New("rolled back")

func writeOne(ctx context.Context, db *sql.DB, key string, r *rand.Rand) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	n, op, data := r.IntN(1_000_000), "upsert", any(nil)
	if r.IntN(10) == 0 {
		op = "delete"
		_, err = tx.ExecContext(ctx, "DELETE FROM items WHERE id = ?", key)
	} else {
		_, err = tx.ExecContext(ctx, "INSERT INTO items (id, n, body) VALUES (?, ?, 'written') ON DUPLICATE KEY UPDATE n = VALUES(n), body = VALUES(body)", key, n)
		data = fmt.Sprintf(`{"id":%q,"n":%d,"body":"written"}`, key, n)
	}
	if err != nil {
		return err
	}
	if _, err = tx.ExecContext(ctx, "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', ?, ?, ?)", key, op, data); err != nil {
		return err
	}
	if r.IntN(8) == 0 {
		return errRolledBack
	}
	return tx.Commit()
}

// Rows that existed before the outbox are loaded while services write and loaders and relays are killed: the replica ends as
// the source, records that only the replica had are gone, and no row ever went back.
func TestBackfillBesideWriters(t *testing.T) {
	w := newWorld(t, nil, map[string]string{"items.yaml": fmt.Sprintf(itemDataset, testenv.Kafka(t).Topic(t)), "items.json": itemSchema})
	db := w.source()
	rows, kills := backfillSize(t)
	sourceItems(t, db, rows)
	for i := range 100 {
		w.exec("INSERT INTO items (id, n, body, _version, _deleted, _at) VALUES (?, 1, 'ghost', 1, 0, 1)", fmt.Sprintf("ghost%d", i))
	}
	w.watchVersions("items", "id")
	w.startWorker()
	relay := w.startRelay("r0")

	writing, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	results := make(chan error, backfillWriters)
	for i := range backfillWriters {
		writers.Go(func() {
			n, err := write(writing, db, rows, uint64(i))
			if err == nil && n == 0 {
				err = errors.New("a writer changed nothing")
			}
			results <- err
		})
	}
	for i := range kills {
		loader := testenv.StartProcess(t, "loader", w.command(context.Background(), "backfill", "items", "--rest", "-1"))
		w.enqueues(db, (i+1)*rows/(2*kills))
		kill(t, loader)
		kill(t, relay)
		relay = w.startRelay(fmt.Sprint("r", i+1))
	}
	w.patience = 15 * time.Minute
	out := w.mustRun("backfill", "items")
	stop()
	writers.Wait()
	for range backfillWriters {
		if err := testenv.Await(t, results); err != nil {
			t.Fatal(err)
		}
	}
	if !strings.Contains(out, "0 rows skipped") {
		t.Errorf("the command says %q", out)
	}
	testenv.Eventually(t, 2*settleLimit, func(ctx context.Context) error { return w.sameAsSource(ctx, db) })
	if back, all := w.versionsWentBack(); back != 0 || all < rows {
		t.Errorf("%d of %d versions went back", back, all)
	}
	w.verify("--records", "2000")
}

// enqueues waits until a run of the backfill has loaded n rows.
func (w *world) enqueues(db *sql.DB, n int) {
	w.t.Helper()
	testenv.Eventually(w.t, settleLimit, func(ctx context.Context) error {
		var loaded int
		err := db.QueryRowContext(ctx, "SELECT loaded FROM freshet_backfill WHERE dataset = 'items'").Scan(&loaded)
		if err == nil && loaded < n {
			err = fmt.Errorf("%d rows are loaded, want %d", loaded, n)
		}
		return err
	})
}

func kill(t *testing.T, p *testenv.Process) {
	t.Helper()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	testenv.Await(t, p.Done())
}

// sameAsSource compares the replica's live rows with the source, cell by cell.
func (w *world) sameAsSource(ctx context.Context, db *sql.DB) error {
	read := func(db *sql.DB, where string) (map[string]string, error) {
		rows, err := db.QueryContext(ctx, "SELECT id, n, body, COALESCE(note, 'null') FROM items "+where)
		if err != nil {
			return nil, err
		}
		defer rows.Close()
		out := map[string]string{}
		for rows.Next() {
			var id, n, body, note string
			if err := rows.Scan(&id, &n, &body, &note); err != nil {
				return nil, err
			}
			out[id] = n + " " + body + " " + note
		}
		return out, rows.Err()
	}
	want, err := read(db, "")
	if err != nil {
		return err
	}
	got, err := read(w.db, "WHERE _deleted = 0")
	if err != nil {
		return err
	}
	differ, example := 0, ""
	for id, row := range want {
		if got[id] != row {
			differ++
			example = fmt.Sprintf("%s is %q, want %q", id, got[id], row)
		}
		delete(got, id)
	}
	for id := range got {
		differ++
		example = id + " is not in the source"
	}
	if differ > 0 {
		return fmt.Errorf("%d rows differ: %s", differ, example)
	}
	return nil
}
