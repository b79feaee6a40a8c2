package relay_test

import (
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/freshet/freshet/internal/relay"
	"github.com/freshet/freshet/schemas"
)

// Rows that can never be published leave the outbox with a reason; rows of an unknown dataset stay, and block nothing.
func TestRowsThatCannotBePublished(t *testing.T) {
	b := newBed(t)
	// Another language without strict mode: an op that the column does not know is stored as ''.
	insert := func(dataset, key, op string, data any, version any) int64 {
		t.Helper()
		tx, err := b.db.BeginTx(t.Context(), nil)
		if err != nil {
			t.Fatal(err)
		}
		defer tx.Rollback()
		if _, err := tx.ExecContext(t.Context(), "SET SESSION sql_mode = ''"); err != nil {
			t.Fatal(err)
		}
		res, err := tx.ExecContext(t.Context(), "INSERT INTO freshet_outbox (dataset, record_key, op, data, version) VALUES (?, ?, ?, ?, ?)", dataset, key, op, data, version)
		if err != nil {
			t.Fatal(err)
		}
		id, err := res.LastInsertId()
		if err != nil {
			t.Fatal(err)
		}
		if err := tx.Commit(); err != nil {
			t.Fatal(err)
		}
		return id
	}
	long := strings.Repeat("x", schemas.MaxRecordBytes)
	want := map[int64]string{
		insert("items", "op", "replace", `{}`, nil):                       "op: is neither upsert nor delete",
		insert("items", "size", "upsert", `{"pad":"`+long+`"}`, nil):      "data: makes a record above 1,000,000 bytes",
		insert("items", "tight", "upsert", long[:len(long)-10], nil):      "data: makes a record above 1,000,000 bytes",
		insert("items", "null", "upsert", nil, nil):                       "data: is missing",
		insert("items", "", "upsert", `{}`, nil):                          "record_key: is empty",
		insert("items", "zero", "delete", nil, 0):                         "version: is missing or outside",
		insert("items", "huge", "delete", nil, uint64(1)<<63):             "version: is missing or outside",
		insert("items", strings.Repeat("k", 101), "delete", nil, nil):     "key: is longer than its property's maxLength",
		insert("items", "big", "upsert", strings.Repeat("y", 8<<20), nil): "data: makes a record above 1,000,000 bytes",
	}
	unknown := []int64{b.enqueue("nope", "a", 1), b.enqueue("nope", "b", 2)}
	insert("items", "bad", "upsert", `{"id": 5}`, nil) // the worker's to judge
	good := b.enqueue("items", "good", 1)
	var logged logBuffer
	r := b.relay(func(c *relay.Config) { c.Logger = slog.New(slog.NewTextHandler(&logged, nil)) })
	var keys []string
	for _, e := range b.consume(b.topics["items"])(2) {
		keys = append(keys, e.key)
	}
	slices.Sort(keys)
	if !slices.Equal(keys, []string{"bad", "good"}) {
		t.Errorf("events of %q", keys)
	}
	b.eventually("dead rows", func() bool { return b.number("SELECT COUNT(*) FROM freshet_outbox_dead") == int64(len(want)) })
	for id, reason := range want {
		var got, data string
		if err := b.db.QueryRowContext(t.Context(), "SELECT reason, COALESCE(data, '') FROM freshet_outbox_dead WHERE id = ?", id).Scan(&got, &data); err != nil {
			t.Fatalf("row %d (%s): %v", id, reason, err)
		}
		if !strings.HasPrefix(got, reason) {
			t.Errorf("row %d: reason %q, want %q", id, got, reason)
		}
		if strings.Contains(reason, "1,000,000") && len(data) < 900_000 {
			t.Errorf("row %d: its data are gone", id)
		}
	}
	b.eventually("only the unknown rows are left", func() bool {
		return b.number("SELECT COUNT(*) FROM freshet_outbox WHERE id NOT IN (?, ?) AND dataset <> ''", unknown[0], unknown[1]) == 0
	})
	if n := b.number("SELECT COUNT(*) FROM freshet_outbox WHERE dataset = 'nope'"); n != 2 {
		t.Errorf("%d rows of the unknown dataset", n)
	}
	st, err := relay.ReadStatus(t.Context(), b.pool())
	if err != nil {
		t.Fatal(err)
	}
	if st.High != good || st.Backlog != 2 || st.Dead != int64(len(want)) || len(st.DeadRows) != len(want) || len(st.Datasets) != 1 || st.Datasets[0].Dataset != "nope" {
		t.Errorf("status: %+v", st)
	}
	b.eventually("the unknown dataset is logged", func() bool { return strings.Contains(logged.String(), "dataset=nope rows=2") })
	b.eventually("all are counted", func() bool { s := r.Stats(); return s.Refused == uint64(len(want)) && s.Published == 2 })
}

// A backlog of rows of very different sizes is published whole, with bounded batches.
func TestLargeRows(t *testing.T) {
	b := newBed(t)
	pad := strings.Repeat("p", 900_000)
	const rows = 60
	for i := range rows {
		data := itemData("k", i)
		if i%2 == 1 {
			data = data[:len(data)-1] + `,"pad":"` + pad + `"}`
		}
		b.exec("INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'k', 'upsert', ?)", data)
	}
	var batches atomic.Int64
	b.relay(func(c *relay.Config) {
		c.Failpoint = func(point string) {
			if point == relay.PointAfterRead {
				batches.Add(1)
			}
		}
	})
	events := b.consume(b.topics["items"])(rows)
	for i, e := range events[:rows] {
		if e.version != events[0].version+int64(i) {
			t.Fatalf("event %d has version %d", i, e.version)
		}
	}
	b.drained()
	if n := batches.Load(); n < 3 {
		t.Errorf("27 MB were read as %d batches", n)
	}
}

// Behind many rows that are not published, new rows and late commits are still found.
func TestManyRowsThatStay(t *testing.T) {
	b := newBed(t)
	b.exec("INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('nope', 'k', 'upsert', REPEAT('d', 200))")
	for range 18 {
		b.exec("INSERT INTO freshet_outbox (dataset, record_key, op, data) SELECT dataset, record_key, op, data FROM freshet_outbox")
	}
	tx, err := b.db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.ExecContext(t.Context(), "INSERT INTO freshet_outbox (dataset, record_key, op, data) VALUES ('items', 'late', 'upsert', ?)", itemData("late", 1)); err != nil {
		t.Fatal(err)
	}
	r := b.relay()
	events := b.consume(b.topics["items"])
	for n := range 5 {
		b.enqueue("items", "a", n)
		if e := events(n + 1)[n]; e.data != itemData("a", n) {
			t.Fatalf("event %d: %+v", n, e)
		}
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if e := events(6)[5]; e.key != "late" {
		t.Errorf("last event: %+v", e)
	}
	b.eventually("the rows are counted", func() bool {
		s := r.Stats()
		return s.Backlog >= relay.CountLimit && s.Unknown["nope"] >= relay.CountLimit-10
	})
}
