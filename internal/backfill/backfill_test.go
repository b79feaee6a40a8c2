package backfill_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/backfill"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

// bed is a source database with one table and the outbox.
type bed struct {
	t    *testing.T
	pool *mysql.Pool
	db   *sql.DB
	ds   *schemas.Dataset
}

const itemSchema = `{"type":"object","required":["shop","id","name"],"properties":{
	"shop":{"type":"string","maxLength":20},"id":{"type":"integer","minimum":0,"maximum":18446744073709551615},
	"name":{"type":"string","maxLength":40},"price":{"type":"string","x-decimal":"12,2","maxLength":14}}}`

func newBed(t *testing.T, table string) *bed {
	t.Helper()
	return newBedOf(t, "key: [shop, id]\n", itemSchema, table)
}

func (b *bed) exec(text string, args ...any) {
	b.t.Helper()
	if _, err := b.db.ExecContext(b.t.Context(), text, args...); err != nil {
		b.t.Fatalf("%s: %v", text, err)
	}
}

// run runs a Loader to its end and returns its last progress.
func (b *bed) run(cfg backfill.Config) (backfill.Progress, error) {
	b.t.Helper()
	var last backfill.Progress
	cfg.Source, cfg.Dataset = b.pool, b.ds
	cfg.Report = func(p backfill.Progress) { last = p }
	l, err := backfill.New(b.t.Context(), cfg)
	if err != nil {
		return last, err
	}
	err = l.Run(b.t.Context())
	return last, err
}

// queued returns the outbox's rows, in the order of their ids, as "op key data".
func (b *bed) queued() (out []string) {
	b.t.Helper()
	rows, err := b.db.QueryContext(b.t.Context(), "SELECT op, record_key, COALESCE(data, '') FROM freshet_outbox ORDER BY id")
	if err != nil {
		b.t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var op, key, data string
		if err := rows.Scan(&op, &key, &data); err != nil {
			b.t.Fatal(err)
		}
		out = append(out, strings.TrimSpace(op+" "+key+" "+data))
	}
	if err := rows.Err(); err != nil {
		b.t.Fatal(err)
	}
	return out
}

const itemTable = "CREATE TABLE items (id BIGINT UNSIGNED NOT NULL, shop VARCHAR(20) NOT NULL, name VARCHAR(40) NULL, price DECIMAL(12,2) NULL, PRIMARY KEY (id, shop)) CHARACTER SET utf8mb4"

// The primary key has the dataset's key columns in another order, and ids above 2^53.
func TestEveryRowIsEnqueuedOnce(t *testing.T) {
	b := newBed(t, itemTable)
	var want []string
	for i := range 900 {
		id := uint64(1)<<63 + uint64(i/2)
		shop := []string{"eu", "us"}[i%2]
		b.exec("INSERT INTO items VALUES (?, ?, ?, ?)", id, shop, fmt.Sprintf("é\"%d", i), "0.50")
		want = append(want, fmt.Sprintf(`upsert %s,%d {"shop":"%s","id":%d,"name":"é\"%d","price":"0.50"}`, shop, id, shop, id, i))
	}
	p, err := b.run(backfill.Config{})
	if err != nil {
		t.Fatal(err)
	}
	got := b.queued()
	if p.Rows != 900 || p.Phase != "done" || len(got) != 900 {
		t.Fatalf("progress %+v, %d rows in the outbox", p, len(got))
	}
	for i := range want {
		if !sameEvent(t, got[i], want[i]) {
			t.Fatalf("event %d is %s, want %s", i, got[i], want[i])
		}
	}
}

// A run that is interrupted in the middle continues behind its last chunk.
func TestAnInterruptedRunContinues(t *testing.T) {
	b := newBed(t, itemTable)
	b.exec("INSERT INTO items SELECT seq, 'eu', 'x', NULL FROM " + numbers(3000))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	l, err := backfill.New(ctx, backfill.Config{Source: b.pool, Dataset: b.ds, Rate: 500, Report: func(p backfill.Progress) {
		if p.Rows > 0 {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("the interrupted run returned %v", err)
	}
	before := len(b.queued())
	if before == 0 || before == 3000 {
		t.Fatalf("the run was interrupted after %d rows; it has to stop in the middle", before)
	}
	p, err := b.run(backfill.Config{})
	if err != nil {
		t.Fatal(err)
	}
	got := b.queued()
	if slices.Sort(got); len(got) != 3000 || len(slices.Compact(got)) != 3000 || p.Rows != 3000 {
		t.Fatalf("%d rows, %d different, are enqueued after the second run: %+v", len(got), len(slices.Compact(got)), p)
	}
	if p, err = b.run(backfill.Config{}); err != nil || p.Rows != 3000 || len(b.queued()) != 6000 {
		t.Fatalf("a run after the end begins again: %+v, %v, %d rows", p, err, len(b.queued()))
	}
}

// A low rate holds from the first chunk on: it is the operator's promise to the source.
func TestTheRateHoldsFromTheBeginning(t *testing.T) {
	b := newBed(t, itemTable)
	b.exec("INSERT INTO items SELECT seq, 'eu', 'x', NULL FROM " + numbers(3000))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	const perSecond = 40
	began := time.Now()
	l, err := backfill.New(ctx, backfill.Config{Source: b.pool, Dataset: b.ds, Rate: perSecond, Report: func(p backfill.Progress) {
		if most := perSecond * (1 + time.Since(began).Seconds()); float64(p.Rows) > most {
			t.Errorf("%d rows after %s, at most %.0f are allowed", p.Rows, time.Since(began), most)
		}
		if p.Rows > 0 {
			cancel()
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Fatalf("the run returned %v", err)
	}
}

func TestTheFirstInvalidRowEndsTheRun(t *testing.T) {
	b := newBed(t, itemTable)
	b.exec("INSERT INTO items VALUES (1, 'eu', 'a', NULL), (2, 'eu', NULL, NULL), (3, 'eu', 'c', NULL)")
	_, err := b.run(backfill.Config{})
	if !errors.Is(err, backfill.ErrInvalidRow) || !strings.Contains(err.Error(), "eu,2") || !strings.Contains(err.Error(), "name") {
		t.Fatalf("error is %v", err)
	}
	if got := b.queued(); len(got) != 0 {
		t.Fatalf("the chunk with the row is enqueued in part: %q", got)
	}
	p, err := b.run(backfill.Config{SkipInvalid: true})
	if err != nil || p.Rows != 2 || p.Invalid != 1 || len(b.queued()) != 2 {
		t.Fatalf("with SkipInvalid: %+v, %v, %q", p, err, b.queued())
	}
}

// pages is a replica that has these records. before, if not nil, is called before they are read.
type pages struct {
	keys     []string
	versions map[string]int64
	before   func()
}

func (p pages) Page(_ context.Context, _ *schemas.Dataset, _ []any, _ int) (rows []replica.LiveRow, last []any, err error) {
	if p.before != nil {
		p.before()
	}
	for _, key := range p.keys {
		rows = append(rows, replica.LiveRow{Key: key, Version: 1, Deleted: strings.HasPrefix(key, "gone")})
	}
	return rows, nil, nil
}

func (p pages) Versions(context.Context, *schemas.Dataset, []string) (map[string]int64, error) {
	return p.versions, nil
}

// A dataset had versions of its own, which the ids of a new outbox would not exceed: its rows would be enqueued in vain.
func TestGreaterVersionsOfTheReplicaAreRefused(t *testing.T) {
	b := newBed(t, itemTable)
	b.exec("INSERT INTO items VALUES (1, 'eu', 'a', NULL)")
	_, err := b.run(backfill.Config{Replica: pages{versions: map[string]int64{"eu,1": 1 << 40}}})
	if !errors.Is(err, backfill.ErrVersions) || !strings.Contains(err.Error(), "outbox advance --apply --above") || len(b.queued()) != 0 {
		t.Fatalf("error is %v, enqueued %q", err, b.queued())
	}
	b.exec("ALTER TABLE freshet_outbox AUTO_INCREMENT = 2199023255552")
	if _, err := b.run(backfill.Config{Replica: pages{versions: map[string]int64{"eu,1": 1 << 40}}}); err != nil || len(b.queued()) != 1 {
		t.Fatalf("with a greater counter: %v, %q", err, b.queued())
	}
}

// The Loader waits while the outbox is long, says so, and continues when the relay has shortened it.
func TestALongOutboxPausesTheLoader(t *testing.T) {
	b := newBed(t, itemTable)
	b.exec("INSERT INTO items SELECT seq, 'eu', 'x', NULL FROM " + numbers(100))
	b.exec("INSERT INTO freshet_outbox (dataset, record_key, op) SELECT 'other', seq, 'delete' FROM " + numbers(30))
	paused := false
	l, err := backfill.New(t.Context(), backfill.Config{Source: b.pool, Dataset: b.ds, MaxBacklog: 20, Report: func(p backfill.Progress) {
		if p.Paused != "" && !paused {
			paused = true
			if p.Rows != 0 {
				t.Errorf("%d rows were enqueued before the pause", p.Rows)
			}
			b.exec("DELETE FROM freshet_outbox")
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.queued(); !paused || len(got) != 100 {
		t.Errorf("paused: %t, %d rows are enqueued", paused, len(got))
	}
}

// The collation ignores case: the source's EU,1 is not the replica's eu,1.
func TestRecordsThatTheSourceLacksAreDeleted(t *testing.T) {
	b := newBed(t, itemTable)
	b.exec("INSERT INTO items VALUES (1, 'EU', 'a', NULL), (2, 'eu', 'b', NULL)")
	p, err := b.run(backfill.Config{Replica: pages{keys: []string{"eu,1", "EU,1", "eu,2", "eu,3", "gone,4"}}})
	if err != nil {
		t.Fatal(err)
	}
	got := b.queued()[2:]
	if want := []string{"delete eu,1", "delete eu,3"}; !slices.Equal(got, want) || p.Deletions != 2 {
		t.Fatalf("deletions are %q, want %q; %+v", got, want, p)
	}
}

// The wrong table, or an empty one, does not empty the replica.
func TestManyDeletionsAreRefused(t *testing.T) {
	b := newBed(t, itemTable)
	b.exec("INSERT INTO items VALUES (1, 'eu', 'a', NULL)")
	var keys []string
	for i := range 1100 {
		keys = append(keys, fmt.Sprintf("eu,%d", i+10))
	}
	_, err := b.run(backfill.Config{Replica: pages{keys: keys}})
	if !errors.Is(err, backfill.ErrDeletions) || len(b.queued()) != 1 {
		t.Fatalf("error is %v, and %d events are enqueued", err, len(b.queued()))
	}
	p, err := b.run(backfill.Config{Replica: pages{keys: keys}, MaxDeletions: 1100})
	if err != nil || p.Deletions != 1100 || len(b.queued()) != 1101 {
		t.Fatalf("with a limit that suffices: %+v, %v, %d events", p, err, len(b.queued()))
	}
}

// A transaction inserted the record and its event after the rows were read, and has not committed: the deletion has to wait
// for it, and then to see that the record is there.
func TestADeletionWaitsForAnInsert(t *testing.T) {
	b := newBed(t, itemTable)
	tx, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback() }()
	insert := func() {
		for _, text := range []string{
			"INSERT INTO items VALUES (7, 'eu', 'new', NULL)",
			"INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'eu,7', 'upsert', '{\"shop\":\"eu\",\"id\":7,\"name\":\"new\"}')",
		} {
			if _, err := tx.ExecContext(t.Context(), text); err != nil {
				t.Error(err)
			}
		}
	}
	done := make(chan error, 1)
	go func() {
		_, err := b.run(backfill.Config{Replica: pages{keys: []string{"eu,7"}, before: sync.OnceFunc(insert)}})
		done <- err
	}()
	testenv.Eventually(t, testWait, func(ctx context.Context) error {
		select {
		case err := <-done:
			t.Fatalf("the deletion did not wait: %v, %q", err, b.queued())
		default:
		}
		var waiting int
		err := b.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE 'SELECT%FOR UPDATE' AND db = DATABASE()").Scan(&waiting)
		if err == nil && waiting == 0 {
			err = errors.New("the loader does not wait")
		}
		return err
	})
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := testenv.Await(t, done); err != nil {
		t.Fatal(err)
	}
	if got := b.queued(); len(got) != 1 || !strings.HasPrefix(got[0], "upsert") {
		t.Fatalf("a record that the source has is deleted: %q", got)
	}
}

func TestATableThatDoesNotFitIsRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		table string
		cfg   backfill.Config
		want  string
	}{
		"missing table":    {"CREATE TABLE other (id INT)", backfill.Config{}, "no table items"},
		"missing column":   {"CREATE TABLE items (id BIGINT, shop VARCHAR(20), name TEXT, PRIMARY KEY (id, shop))", backfill.Config{}, "--column price=COLUMN"},
		"unknown property": {itemTable, backfill.Config{Columns: map[string]string{"prize": "price"}}, "no property prize"},
		"wrong --column":   {itemTable, backfill.Config{Columns: map[string]string{"price": "cost"}}, "no column cost, which --column states for the property price"},
		"no unique key":    {"CREATE TABLE items (id BIGINT, shop VARCHAR(20), name TEXT, price INT, KEY (id, shop))", backfill.Config{}, "no primary key or unique index"},
		"nullable key":     {"CREATE TABLE items (id BIGINT, shop VARCHAR(20), name TEXT, price INT, UNIQUE (id, shop))", backfill.Config{}, "no primary key or unique index"},
		"view":             {"CREATE VIEW items AS SELECT 1 AS id", backfill.Config{}, "not an InnoDB table"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, tc.table)
			if _, err := b.run(tc.cfg); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Fatalf("error is %v, want one that contains %q", err, tc.want)
			}
		})
	}
}

// The answer of the server, "a table is missing; run freshet migrate up", would send the operator to the replica.
func TestASourceWithoutAnOutboxIsRefused(t *testing.T) {
	for _, table := range []string{"freshet_outbox", "freshet_backfill"} {
		b := newBed(t, itemTable)
		b.exec("DROP TABLE " + table)
		if _, err := b.run(backfill.Config{}); err == nil || !strings.Contains(err.Error(), table) || !strings.Contains(err.Error(), "freshet outbox ddl") {
			t.Errorf("without %s: %v", table, err)
		}
	}
}
