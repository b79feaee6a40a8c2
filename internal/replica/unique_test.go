package replica_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	gomysql "github.com/go-sql-driver/mysql"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

// numberOther is the error by which the guarded upsert refuses a row that it would write over another record's.
const numberOther = 1690

// TestUniqueIndexWhileRunning: an index that is added after the table was looked at makes the upsert find another record's
// row. That row must stay, whatever the versions are, and the record that would have taken its place becomes a dead letter
// while its neighbours in the statement are applied.
func TestUniqueIndexWhileRunning(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, b.item(t, 1, 5, "alice"))
	b.exec(t, "ALTER TABLE items ADD UNIQUE KEY by_name (name)")

	b.apply(t, b.item(t, 2, 9, "alice"), b.item(t, 3, 1, "carol"), b.item(t, 4, 2, "alice"), b.item(t, 5, 1, "eve"))
	b.wantRow(t, 1, "5:alice")
	b.wantRow(t, 2, "none")
	b.wantRow(t, 3, "1:carol")
	b.wantRow(t, 4, "none") // an older version than that of the other row
	b.wantRow(t, 5, "1:eve")
	letters := b.letters(t)
	if len(letters) != 2 {
		t.Fatalf("%d dead letters, want those of records 2 and 4", len(letters))
	}
	const detail = "a unique index of table items finds another record's row; drop the index, then redrive"
	for i, key := range []string{"2", "4"} {
		if l := letters[i]; l.Key != key || l.State != replica.StateOpen || l.Reason != schemas.ReasonRefused || l.Errno != numberOther || l.Detail != detail {
			t.Errorf("dead letter %s of record %s, %s, errno %d: %s", l.State, l.Key, l.Reason, l.Errno, l.Detail)
		}
	}

	// A batch of its own, and a deletion, which has NULL in the index and is no one else's.
	b.apply(t, b.item(t, 2, 10, "alice"))
	b.apply(t, b.gone(t, 4, 3))
	b.wantRow(t, 1, "5:alice")
	b.wantRow(t, 4, "3:deleted")

	// A redrive is the same upsert; without the index it goes through.
	done, _ := b.redrive(t)
	if got := done[letters[0].Offset].Outcome; got != replica.OutcomeInvalid {
		t.Errorf("redrive under the index: %s", got)
	}
	b.wantRow(t, 1, "5:alice")
	b.exec(t, "ALTER TABLE items DROP KEY by_name")
	b.apply(t, b.item(t, 2, 11, "alice"))
	b.wantRow(t, 1, "5:alice")
	b.wantRow(t, 2, "11:alice")
}

// TestUniqueIndexOverPartOfTheKey: what makes rows one record is all of the key, byte by byte.
func TestUniqueIndexOverPartOfTheKey(t *testing.T) {
	b := newBed(t, replica.Config{})
	wide := func(shop string, number int, version int64) *replica.Change {
		return b.event(t, "wide", version, schemas.Upsert, fmt.Sprintf(`{"shop":%q,"number":%d,"order":"o%[3]d"}`, shop, number, version))
	}
	b.apply(t, wide("a", 7, 5), b.event(t, "names", 5, schemas.Upsert, `{"name":"k","n":5}`))
	b.exec(t, "ALTER TABLE wide ADD UNIQUE KEY by_number (number)")
	b.exec(t, "ALTER TABLE names MODIFY name VARCHAR(100) CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci NOT NULL")
	b.apply(t, wide("b", 7, 9), wide("a", 8, 1), b.event(t, "names", 9, schemas.Upsert, `{"name":"K","n":9}`))
	if got := one[string](t, b.db, "SELECT GROUP_CONCAT(shop, number, ':', _version ORDER BY number) FROM wide"); got != "a7:5,a8:1" {
		t.Errorf("rows %s", got)
	}
	if got := one[string](t, b.db, "SELECT GROUP_CONCAT(name, ':', _version, ':', n) FROM names"); got != "k:5:5" {
		t.Errorf("a collation that takes k and K for equal made one record of them: %s", got)
	}
	if n := len(b.letters(t)); n != 2 {
		t.Errorf("%d dead letters, want 2", n)
	}
}

// TestUniqueIndexBesidePlaceholders: datasets whose names depend on columns lock a placeholder first. It must not stand for
// another record's row either.
func TestUniqueIndexBesidePlaceholders(t *testing.T) {
	b := newBed(t, replica.Config{})
	person := func(id int, version int64, mail string) *replica.Change {
		return b.event(t, "people", version, schemas.Upsert, fmt.Sprintf(`{"id":%d,"email":%q,"org_id":1}`, id, mail))
	}
	b.apply(t, person(1, 5, "a@x"))
	b.exec(t, "ALTER TABLE people ADD UNIQUE KEY by_mail (email)")
	b.apply(t, person(2, 9, "a@x"), person(3, 1, "c@x"))
	if got := one[string](t, b.db, "SELECT GROUP_CONCAT(id, ':', _version ORDER BY id) FROM people WHERE _version > 0"); got != "1:5,3:1" {
		t.Errorf("rows %s", got)
	}
	if n := len(b.letters(t)); n != 1 {
		t.Errorf("%d dead letters, want 1", n)
	}
}

// TestUpsertRefusesInEverySQLMode: that another record's row stays does not hang on the session's sql_mode. Without strict
// mode a NULL in a statement of several rows would become 0.
func TestUpsertRefusesInEverySQLMode(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, b.item(t, 1, 5, "alice"))
	b.exec(t, "ALTER TABLE items ADD UNIQUE KEY by_name (name)")
	conn, err := b.db.Conn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	for _, mode := range []string{"", "STRICT_ALL_TABLES", "TRADITIONAL", "NO_UNSIGNED_SUBTRACTION", "ANSI"} {
		if _, err := conn.ExecContext(t.Context(), "SET SESSION sql_mode = ?", mode); err != nil {
			t.Fatal(err)
		}
		for _, rows := range []int{1, 2} {
			var args []any
			for i := range rows {
				args = append(args, i+20, 7, []string{"alice", "bob"}[i], 0, 1, 9)
			}
			_, err := conn.ExecContext(context.WithoutCancel(t.Context()), tables.UpsertSQL(dataset(t, "items"), mysql.MariaDB, rows), args...)
			var refused *gomysql.MySQLError
			if !errors.As(err, &refused) || refused.Number != numberOther {
				t.Errorf("sql_mode %q, %d rows: %v", mode, rows, err)
			}
			b.wantRow(t, 1, "5:alice")
		}
	}
}

// TestReplayBesideAUniqueIndex: replays and rebuilds write rows by the same upsert.
func TestReplayBesideAUniqueIndex(t *testing.T) {
	for _, action := range []jobstore.Action{jobstore.ActionApply, jobstore.ActionRebuild} {
		t.Run(string(action), func(t *testing.T) {
			b := newBed(t, replica.Config{})
			ds, _ := b.set.Get("items")
			target := ds
			id, _, err := b.Jobs.Add(t.Context(), jobstore.Job{
				Spec: jobstore.Spec{Dataset: "items", Action: action, Reason: "a test"}, Actor: "test", Parts: []jobstore.Part{{Source: src, End: 10}},
			}, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Jobs.Claim(t.Context(), "w", time.Minute); err != nil {
				t.Fatal(err)
			}
			if action == jobstore.ActionRebuild {
				tables := jobstore.NewRebuild(ds, id)
				target = tables.Shadow
				if err := b.Rebuilds.Begin(t.Context(), tables, true); err != nil {
					t.Fatal(err)
				}
			}
			b.exec(t, "ALTER TABLE `"+target.Replica.Table+"` ADD UNIQUE KEY by_name (name)")
			events := []*replica.Change{b.item(t, 1, 5, "alice"), b.item(t, 2, 9, "alice"), b.item(t, 3, 1, "carol")}
			for _, c := range events {
				c.Dataset = target
			}
			res, err := b.Replay(t.Context(), &replica.ReplayBatch{
				Job: id, Owner: "w", Source: src, Namespace: ns, Next: 3, Action: action, Events: events,
			})
			if err != nil {
				t.Fatal(err)
			}
			if got := one[string](t, b.db, "SELECT GROUP_CONCAT(id, ':', _version ORDER BY id) FROM `"+target.Replica.Table+"`"); got != "1:5,3:1" {
				t.Errorf("rows %s", got)
			}
			if res.Counts.Applied != 2 || res.Counts.Invalid != 1 {
				t.Errorf("counts %+v, want 2 applied and 1 invalid", res.Counts)
			}
		})
	}
}
