package replica_test

import (
	"context"
	"strings"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/testenv"
	"github.com/freshet/freshet/schemas"
)

// A pass needs no second connection besides the writers', so that the least pool does not block permanently.
func TestExpirerNeedsOneConnection(t *testing.T) {
	b := newBed(t, replica.Config{MySQL: mysql.Config{Writers: 1, ReadConns: 1}})
	b.apply(t, b.item(t, 1, 1, "the writer has its connection"))
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	e := b.NewExpirer(replica.Retention{DeadLetters: time.Hour, Tombstones: time.Hour, Audit: time.Hour, Replays: time.Hour})
	if err := e.Pass(ctx); err != nil {
		t.Error(err)
	}
}

// The name of the lock has a greatest length, and so has a database's; the two together exceed the previous.
func TestExpirerInADatabaseWithALongName(t *testing.T) {
	server := testenv.MySQL(t)
	cfg, err := gomysql.ParseDSN(server.NewDatabase(t))
	if err != nil {
		t.Fatal(err)
	}
	name := strings.Repeat("d", 64)
	admin := server.Open(t, cfg.FormatDSN())
	for _, text := range []string{"DROP DATABASE IF EXISTS " + name, "CREATE DATABASE " + name} {
		if _, err := admin.ExecContext(t.Context(), text); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		if _, err := admin.ExecContext(context.WithoutCancel(t.Context()), "DROP DATABASE "+name); err != nil {
			t.Error(err)
		}
	})
	cfg.DBName = name
	b := newBed(t, replica.Config{MySQL: mysql.Config{DSN: cfg.FormatDSN()}})
	b.exec(t, "INSERT INTO freshet_audit (id, at, actor, role, action, target) VALUES (1, 1, 'a', 'admin', 'x', 'y')")
	e := b.NewExpirer(replica.Retention{Audit: time.Hour})
	if err := e.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if removed, _ := e.Removed(); removed != 1 {
		t.Errorf("%d rows removed, want 1", removed)
	}
}

// The row of a deleted record stays while a redriven dead letter of the record does: a rebuild applies the letter, and would
// bring the record back.
func TestDeletedRowOfARedrivenLetterStays(t *testing.T) {
	b := newBed(t, replica.Config{})
	del := b.event(t, "items", 6, schemas.Delete, `{"id":1}`)
	del.At = 1000
	b.apply(t, del)
	b.age(t)
	b.exec(t, "INSERT INTO freshet_dead_letter (source, off, idx, dataset, record_key, version, op, reason, detail, size, broker_at, state, created_at, updated_at)"+
		" VALUES ('s', 1, 0, 'items', '1', 5, 1, 'refused', '', 1, 1, 'redriven', 1, 1)")
	pass := func(r replica.Retention) {
		t.Helper()
		if err := b.NewExpirer(r).Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	pass(replica.Retention{Tombstones: time.Hour})
	b.wantRow(t, 1, "6:deleted")
	pass(replica.Retention{DeadLetters: time.Hour, Tombstones: time.Hour}) // the letter goes first, then the row
	b.wantRow(t, 1, "none")
}

// A deletion is kept for its retention since the database took it, however old its record is: where a topic is read again, an
// older event of the record may follow from another partition.
func TestOldDeletionThatComesNowIsKept(t *testing.T) {
	b := newBed(t, replica.Config{})
	e := b.NewExpirer(replica.Retention{Tombstones: time.Hour})
	for id, at := range map[int]int64{1: 0, 2: 1000} {
		del := b.gone(t, id, 6)
		del.At = at
		b.apply(t, del)
		if err := e.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.apply(t, b.item(t, id, 5, "older"))
		b.wantRow(t, id, "6:deleted")
		b.age(t)
		if err := e.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		b.wantRow(t, id, "none")
	}
}

// age makes every noted deletion an old one.
func (b *bed) age(t *testing.T) {
	t.Helper()
	b.exec(t, "UPDATE freshet_tombstone SET deleted_at = 1000")
}

// The embedded server of the dev stack executes every statement of a pass.
func TestExpirerOnTheEmbeddedServer(t *testing.T) {
	b := newBed(t, replica.Config{MySQL: mysql.Config{Connector: embedded(t), PlainSession: true, Writers: 1}})
	del := b.event(t, "items", 6, schemas.Delete, `{"id":1}`)
	del.At = 1000
	b.apply(t, del, b.item(t, 2, 7, "newer"))
	b.age(t)
	batch := b.batch()
	batch.Letters = []*replica.Letter{b.letter("items", "3", 1), b.letter("items", "2", 8)}
	if _, err := b.Apply(t.Context(), batch); err != nil {
		t.Fatal(err)
	}
	b.exec(t, "UPDATE freshet_dead_letter SET state = 'discarded', updated_at = 1 WHERE record_key = '3'")
	b.exec(t, "UPDATE freshet_dead_letter SET state = 'redriven', version = 5, updated_at = 1 WHERE record_key = '2'")
	b.exec(t, "INSERT INTO freshet_audit (id, at, actor, role, action, target) VALUES (1, 1, 'a', 'admin', 'x', 'y')")
	b.exec(t, "INSERT INTO freshet_replay (id, spec, state, actor, created_at, updated_at) VALUES ('r', '{}', 'done', 'a', 1, 1)")
	e := b.NewExpirer(replica.Retention{DeadLetters: time.Hour, Tombstones: time.Hour, Audit: time.Hour, Replays: time.Hour})
	if err := e.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, table := range []string{"freshet_dead_letter", "freshet_dead_record", "freshet_audit", "freshet_replay", "freshet_tombstone", "items WHERE id = 1"} {
		if n := one[int](t, b.db, "SELECT COUNT(*) FROM "+table); n != 0 {
			t.Errorf("%s: %d rows are left", table, n)
		}
	}
	if found, err := b.Positions.Of(t.Context(), []string{src}, true); err != nil || len(found) != 1 {
		t.Errorf("positions %v, %v", found, err)
	}
}

// What is wrong with the rows of one table does not keep those of others.
func TestPassGoesOnAfterAnError(t *testing.T) {
	b := newBed(t, replica.Config{})
	items, wide := b.event(t, "items", 6, schemas.Delete, `{"id":1}`), b.event(t, "wide", 2, schemas.Delete, `{"shop":"s","number":7}`)
	items.At, wide.At = 1000, 1000
	b.apply(t, items, wide)
	b.age(t)
	b.exec(t, "DROP TABLE items")
	b.exec(t, "INSERT INTO freshet_audit (id, at, actor, role, action, target) VALUES (1, 1, 'a', 'admin', 'x', 'y')")
	if err := b.NewExpirer(replica.Retention{Tombstones: time.Hour, Audit: time.Hour}).Pass(t.Context()); err == nil {
		t.Error("a missing table is not reported")
	}
	for _, table := range []string{"wide", "freshet_audit"} {
		if n := one[int](t, b.db, "SELECT COUNT(*) FROM "+table); n != 0 {
			t.Errorf("%s: %d rows are left", table, n)
		}
	}
}
