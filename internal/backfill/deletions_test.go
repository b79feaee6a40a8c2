package backfill_test

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/freshet/freshet/internal/backfill"
	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/testenv"
)

// Another process begins the run again while this one looks for deletions: the place in the replica is none in the source, and
// this process must not end the run.
func TestARunThatBeganAgainIsNotEnded(t *testing.T) {
	for name, keys := range map[string][]string{"at the end": nil, "before a deletion": {"eu,2000"}} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, itemTable)
			b.exec("INSERT INTO items SELECT seq, 'eu', 'x', NULL FROM " + numbers(300))
			again := 0
			p, err := b.run(backfill.Config{Replica: pages{keys: keys, before: func() {
				if again++; again == 1 {
					b.exec("UPDATE freshet_backfill SET phase = 'rows', after_key = NULL, loaded = 0, invalid = 0, deleted = 0")
				}
			}}})
			if err != nil || p.Phase != "done" || p.Rows != 300 || p.Deletions != int64(len(keys)) {
				t.Fatalf("progress %+v, %v", p, err)
			}
			if n := len(b.queued()); n != 600+len(keys) {
				t.Errorf("%d events, want those of two whole runs", n)
			}
		})
	}
}

// The same with another table: this process must not read its own by a cursor of that one.
func TestARunThatBeganAgainWithAnotherTableIsLeft(t *testing.T) {
	b := newBed(t, itemTable)
	b.exec("INSERT INTO items VALUES (1, 'eu', 'a', NULL)")
	_, err := b.run(backfill.Config{Replica: pages{keys: []string{"eu,2"}, before: func() {
		b.exec("UPDATE freshet_backfill SET source_table = 'items2', phase = 'rows', after_key = NULL")
	}}})
	if err == nil || !strings.Contains(err.Error(), "items2") || len(b.queued()) != 1 {
		t.Fatalf("error is %v, events %q", err, b.queued())
	}
}

// A deletion would be ignored like a row.
func TestDeletionsBelowTheReplicasVersionsAreRefused(t *testing.T) {
	b := newBed(t, itemTable)
	_, err := b.run(backfill.Config{Replica: pages{keys: []string{"eu,1"}, versions: map[string]int64{"eu,1": 1 << 40}}})
	if !errors.Is(err, backfill.ErrVersions) || len(b.queued()) != 0 {
		t.Fatalf("error is %v, enqueued %q", err, b.queued())
	}
}

// Where versions are those of a column, an id of the outbox is none: it would be ignored, or hide the record's next rows.
func TestADeletionHasAVersionOfTheColumn(t *testing.T) {
	b := newBedOf(t, "key: [a, id]\nversion: {column: v}\n",
		`{"type":"object","required":["a","id","v"],"properties":{"a":{"type":"string","maxLength":30},"id":{"type":"integer","minimum":0},"v":{"type":"integer"}}}`,
		"CREATE TABLE items (a VARCHAR(30) NOT NULL, id INT NOT NULL, v BIGINT NOT NULL, PRIMARY KEY (a, id))")
	b.exec("INSERT INTO items VALUES ('eu', 1, 700)")
	b.exec("ALTER TABLE freshet_outbox AUTO_INCREMENT = 5000")
	if _, err := b.run(backfill.Config{Replica: pages{keys: []string{"eu,1", "eu,2"}}}); err != nil {
		t.Fatal(err)
	}
	var versions []string
	rows, err := b.db.QueryContext(t.Context(), "SELECT CONCAT(op, ' ', COALESCE(version, 'NULL')) FROM freshet_outbox ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var v string
		if err := rows.Scan(&v); err != nil {
			t.Fatal(err)
		}
		versions = append(versions, v)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	if want := []string{"upsert NULL", "delete 2"}; !slices.Equal(versions, want) { // pages have version 1
		t.Errorf("events are %q, want %q", versions, want)
	}
}

// reviver is a slog.Handler that makes a proxy lead to target once the Loader tries again.
type reviver struct {
	slog.Handler
	proxy  *testenv.Proxy
	target string
}

func (r reviver) Enabled(context.Context, slog.Level) bool { return true }
func (r reviver) WithAttrs([]slog.Attr) slog.Handler       { return r }

func (r reviver) Handle(_ context.Context, rec slog.Record) error {
	if rec.Message == "backfill tries again" {
		r.proxy.Lead(r.target)
	}
	return nil
}

// The database goes away while the Loader looks at the outbox: it waits, as it does in a chunk.
func TestAPauseOutlastsAFailover(t *testing.T) {
	b := newBed(t, itemTable)
	b.exec("INSERT INTO items SELECT seq, 'eu', 'x', NULL FROM " + numbers(100))
	b.exec("INSERT INTO freshet_outbox (dataset, record_key, op) SELECT 'other', seq, 'delete' FROM " + numbers(30))
	server := testenv.MySQL(t)
	proxy := testenv.NewProxy(t, server.Addr)
	var database string
	if err := b.db.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&database); err != nil {
		t.Fatal(err)
	}
	pool, err := mysql.Open(t.Context(), mysql.Config{DSN: server.TCP(proxy.Addr, database), Writers: 2})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = pool.Close() }()
	away := false
	l, err := backfill.New(t.Context(), backfill.Config{
		Source: pool, Dataset: b.ds, MaxBacklog: 20, Logger: slog.New(reviver{slog.DiscardHandler, proxy, server.Addr}),
		Report: func(p backfill.Progress) {
			if p.Paused != "" && !away {
				away = true
				b.exec("DELETE FROM freshet_outbox")
				proxy.Lead("127.0.0.1:1") // where nothing listens
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := b.queued(); !away || len(got) != 100 {
		t.Errorf("away: %t, %d rows are enqueued", away, len(got))
	}
}
