package outbox_test

import (
	"database/sql"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/freshet/freshet/examples/shop"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/producer/outbox"
	"github.com/freshet/freshet/schemas"
)

func TestMain(m *testing.M) { testenv.Main(m) }

func shopBox(t testing.TB, table string) *outbox.Outbox {
	t.Helper()
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	box, err := outbox.New(outbox.Config{Datasets: datasets, Table: table})
	if err != nil {
		t.Fatal(err)
	}
	return box
}

func database(t testing.TB) *sql.DB {
	t.Helper()
	my := testenv.MySQL(t)
	db := my.Open(t, my.NewDatabase(t))
	for range 2 { // the second time it changes nothing
		for _, stmt := range outbox.DDL() {
			if _, err := db.ExecContext(t.Context(), stmt); err != nil {
				t.Fatal(err)
			}
		}
	}
	return db
}

func begin(t testing.TB, db *sql.DB) *sql.Tx {
	t.Helper()
	tx, err := db.BeginTx(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = tx.Rollback() })
	return tx
}

func user(key, data string) schemas.Event {
	return schemas.Event{Dataset: "users", Key: key, Op: schemas.Upsert, Data: []byte(data)}
}

func ada(key string) schemas.Event {
	return user(key, `{"id":`+key+`,"email":"ada@example.org","name":"Ada"}`)
}

// stored is a row of the outbox.
type stored struct {
	id                            int64
	dataset, key, op              string
	data, traceparent, tracestate sql.NullString
	version                       sql.Null[int64]
	fresh                         bool
}

func rows(t testing.TB, db *sql.DB) []stored {
	t.Helper()
	r, err := db.QueryContext(t.Context(), "SELECT id, dataset, record_key, op, data, version, traceparent, tracestate, created_at > NOW(3) - INTERVAL 1 MINUTE FROM freshet_outbox ORDER BY id")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var all []stored
	for r.Next() {
		var s stored
		if err := r.Scan(&s.id, &s.dataset, &s.key, &s.op, &s.data, &s.version, &s.traceparent, &s.tracestate, &s.fresh); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	if err := r.Err(); err != nil {
		t.Fatal(err)
	}
	return all
}

func TestEnqueueReturnsTheVersions(t *testing.T) {
	db, box := database(t), shopBox(t, "")
	tx := begin(t, db)
	one := ada("1")
	one.TraceParent, one.TraceState = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "a=b"
	own := schemas.Event{Dataset: "users", Key: "2", Op: schemas.Delete, Version: 900}
	got, err := box.Enqueue(t.Context(), tx, one, own, ada("3"))
	if err != nil {
		t.Fatal(err)
	}
	more, err := box.Enqueue(t.Context(), tx, ada("1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	all := rows(t, db)
	if len(all) != 4 {
		t.Fatalf("%d rows", len(all))
	}
	if want := []int64{all[0].id, 900, all[2].id}; !slices.Equal(got, want) {
		t.Errorf("versions %d, want %d", got, want)
	}
	if !slices.Equal(more, []int64{all[3].id}) || all[3].id <= all[2].id {
		t.Errorf("versions of the second call %d, want %d", more, all[3].id)
	}
	a, d := all[0], all[1]
	if a.dataset != "users" || a.key != "1" || a.op != "upsert" || a.data.String != string(one.Data) || a.version.Valid || !a.fresh ||
		a.traceparent.String != one.TraceParent || a.tracestate.String != one.TraceState {
		t.Errorf("upsert: %+v", a)
	}
	if d.op != "delete" || d.data.Valid || d.version.V != 900 || d.traceparent.Valid {
		t.Errorf("delete: %+v", d)
	}
}

func TestWhatIsRolledBackIsNotThere(t *testing.T) {
	db, box := database(t), shopBox(t, "")
	tx := begin(t, db)
	if _, err := box.Enqueue(t.Context(), tx, ada("1")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Rollback(); err != nil {
		t.Fatal(err)
	}
	if n := len(rows(t, db)); n != 0 {
		t.Errorf("%d rows", n)
	}
}

// One wrong event among good ones: nothing is inserted, and the transaction can continue.
func TestEnqueueRefusesAllOrNothing(t *testing.T) {
	db, box := database(t), shopBox(t, "")
	big := user("4", `{"id":4,"email":"a@example.org","name":"`+strings.Repeat("n", schemas.MaxRecordBytes)+`"}`)
	timed := ada("5")
	timed.Time = timed.Time.AddDate(2020, 0, 0)
	named := ada("6")
	named.ID = "x"
	for name, tc := range map[string]struct {
		bad   schemas.Event
		field string
	}{
		"schema":          {user("2", `{"id":"two"}`), "data/id"},
		"unknown dataset": {schemas.Event{Dataset: "nope", Key: "1", Op: schemas.Delete}, "dataset"},
		"key":             {schemas.Event{Dataset: "users", Key: "x", Op: schemas.Delete}, "key"},
		"negative":        {schemas.Event{Dataset: "users", Key: "1", Op: schemas.Delete, Version: -1}, "version"},
		"size":            {big, "data"},
		"id":              {named, "id"},
		"time":            {timed, "time"},
	} {
		t.Run(name, func(t *testing.T) {
			tx := begin(t, db)
			_, err := box.Enqueue(t.Context(), tx, ada("1"), tc.bad)
			var ev *outbox.EventError
			var field *schemas.FieldError
			if !errors.As(err, &ev) || ev.Index != 1 || !errors.As(err, &field) || !strings.HasPrefix(field.Field, tc.field) || !errors.Is(err, schemas.ErrInvalid) {
				t.Fatalf("got %v, want event 1, field %s", err, tc.field)
			}
			if check := box.Check(ada("1"), tc.bad); check == nil || !strings.Contains(err.Error(), check.Error()) {
				t.Errorf("Check: %v, Enqueue: %v", check, err)
			}
			if err := tx.Commit(); err != nil {
				t.Fatal(err)
			}
			if n := len(rows(t, db)); n != 0 {
				t.Errorf("%d rows", n)
			}
		})
	}
}

// The largest event that is accepted fits, with what the relay adds, into a record.
func TestEventsAreBounded(t *testing.T) {
	db, box := database(t), shopBox(t, "")
	tx := begin(t, db)
	many := make([]schemas.Event, outbox.MaxEvents)
	for i := range many {
		many[i] = ada("1")
	}
	if got, err := box.Enqueue(t.Context(), tx, many...); err != nil || len(got) != len(many) || got[len(got)-1] != got[0]+int64(len(got))-1 {
		t.Fatalf("%d versions, %v", len(got), err)
	}
	if _, err := box.Enqueue(t.Context(), tx, append(many, ada("1"))...); err == nil {
		t.Error("one more than MaxEvents is accepted")
	}
	if got, err := box.Enqueue(t.Context(), tx); err != nil || got != nil {
		t.Errorf("no events: %v, %v", got, err)
	}
}

func TestTableOfAnotherDatabase(t *testing.T) {
	my := testenv.MySQL(t)
	db := database(t)
	var name string
	if err := db.QueryRowContext(t.Context(), "SELECT DATABASE()").Scan(&name); err != nil {
		t.Fatal(err)
	}
	elsewhere := my.Open(t, my.NewDatabase(t))
	tx := begin(t, elsewhere)
	if _, err := shopBox(t, name+".freshet_outbox").Enqueue(t.Context(), tx, ada("1")); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(); err != nil {
		t.Fatal(err)
	}
	if n := len(rows(t, db)); n != 1 {
		t.Errorf("%d rows", n)
	}
}

func TestConfigIsChecked(t *testing.T) {
	datasets, err := schemas.LoadDatasets(shop.Datasets())
	if err != nil {
		t.Fatal(err)
	}
	for _, cfg := range []outbox.Config{
		{},
		{Datasets: datasets, Table: "a.b.c"},
		{Datasets: datasets, Table: "x` (id) SELECT 1 -- "},
	} {
		if _, err := outbox.New(cfg); err == nil {
			t.Errorf("accepted: table %q", cfg.Table)
		}
	}
}
