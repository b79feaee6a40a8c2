package replica_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

const repeatedRows = 120

// newRepeated returns a bed with rows of version 5 that expects the next batch to repeat them, since one did. The rows whose id
// ends in 9 are deleted.
func newRepeated(t *testing.T, cfg replica.Config) *bed {
	t.Helper()
	b := newBed(t, cfg)
	b.apply(t, repetition(t, b)...)
	if sent := b.sent(t, repetition(t, b)...); sent == 0 {
		t.Fatal("the first repetition was not sent")
	}
	return b
}

func repetition(t *testing.T, b *bed) []*replica.Change {
	t.Helper()
	var changes []*replica.Change
	for i := range repeatedRows {
		if id := i + 1; id%10 == 9 {
			changes = append(changes, b.gone(t, id, 5))
		} else {
			changes = append(changes, b.item(t, id, 5, fmt.Sprint("name ", id)))
		}
	}
	return changes
}

// sent applies changes and returns the number of upserts.
func (b *bed) sent(t *testing.T, changes ...*replica.Change) int64 {
	t.Helper()
	before := b.Stats().Statements
	b.apply(t, changes...)
	return b.Stats().Statements - before
}

// state is all that a batch may change, without times.
func (b *bed) state(t *testing.T) string {
	t.Helper()
	b.exec(t, "SET SESSION group_concat_max_len = 1000000")
	return one[string](t, b.db, "SELECT GROUP_CONCAT(CONCAT_WS(':', id, COALESCE(name, '-'), COALESCE(n, '-'), _version, _deleted, _at) ORDER BY id) FROM items") +
		one[string](t, b.db, "SELECT COALESCE(GROUP_CONCAT(DISTINCT record_key ORDER BY record_key), '') FROM freshet_tombstone")
}

// A batch that repeats what the rows have is not sent, changes nothing, and is counted as one that was: late events, conflicts of
// one version, and repetitions of rows and of deletions.
func TestRepeatedBatchIsNotSent(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, repetition(t, b)...)
	want := ""
	lost := func() []*replica.Change {
		changes := repetition(t, b)
		changes[1] = b.item(t, 2, 4, "late")
		changes[2] = b.gone(t, 3, 3)
		changes[10] = b.item(t, 11, 5, "another")
		changes[8] = b.item(t, 9, 5, "deleted in the row")
		changes[11] = b.gone(t, 12, 5)
		return changes
	}
	for i, repeated := range []bool{false, true, true} {
		before := b.Stats().Statements
		changes := lost()
		res := b.apply(t, changes...)
		if sent := b.Stats().Statements - before; (sent == 0) != repeated {
			t.Errorf("repetition %d: %d statements", i, sent)
		}
		slices.Sort(res.Behind)
		if res.Rows != repeatedRows || res.Lost.Superseded != 2 || res.Lost.Conflicts != 3 || !slices.Equal(res.Behind, []string{"2", "3"}) || len(res.Dead) != 0 {
			t.Errorf("repetition %d: %+v", i, res)
		}
		if at := res.Lost.At - changes[0].Offset; at <= 0 {
			t.Errorf("repetition %d: the conflict is at %d", i, res.Lost.At)
		}
		got := b.state(t)
		if repeated && got != want {
			t.Errorf("repetition %d changed the database to %s, which was %s", i, got, want)
		}
		want = got
	}
}

// Where a repetition is expected, what the rows lack is written, what they refuse becomes a dead letter, and nothing is counted
// twice.
func TestPartlyRepeatedBatch(t *testing.T) {
	b := newRepeated(t, replica.Config{})
	b.exec(t, "DELETE FROM items WHERE id = 4")
	changes := repetition(t, b)
	changes[0] = b.item(t, 1, 6, "newer")
	changes[1] = b.item(t, 2, 4, "late")
	changes[4] = b.gone(t, 5, 6)
	changes[5] = b.item(t, 6, 5, "conflict")
	changes[8] = b.item(t, 9, 7, "again")
	changes[9] = bad(b.item(t, 10, 6, ""))
	changes[9].Older = b.item(t, 10, 4, "late as well")
	changes = append(changes, b.item(t, 1000, 1, "first"), bad(b.item(t, 1001, 1, "")))
	res := b.apply(t, changes...)
	if res.Lost.Superseded != 2 || res.Lost.Conflicts != 1 || res.Refused != 2 || len(res.Dead) != 2 || res.Rows != repeatedRows+2 {
		t.Errorf("%+v", res)
	}
	for id, want := range map[int]string{
		1: "6:newer", 2: "5:name 2", 3: "5:name 3", 4: "5:name 4", 5: "6:deleted", 6: "5:name 6", 9: "7:again", 10: "5:name 10", 19: "5:deleted",
		1000: "1:first", 1001: "none",
	} {
		b.wantRow(t, id, want)
	}
	if got := b.letters(t); len(got) != 2 {
		t.Errorf("%d dead letters", len(got))
	}
	// Where most are new in spite of the expectation, all are sent, and what lost is counted by the upsert alone.
	changes = []*replica.Change{b.item(t, 6, 5, "conflict"), b.item(t, 7, 4, "late")}
	for i := range repeatedRows {
		changes = append(changes, b.item(t, 2000+i, 1, "new"))
	}
	if res := b.apply(t, changes...); res.Lost.Superseded != 1 || res.Lost.Conflicts != 1 || len(res.Behind) != 1 {
		t.Errorf("of mostly new rows: %+v", res)
	}
	b.wantRow(t, 2000, "1:new")
}

// The names of rows that a newer change replaces are noted, also beside repetitions, whose names are not.
func TestNamesBesideRepetition(t *testing.T) {
	b := newBed(t, replica.Config{})
	people := func(version int64, first string) []*replica.Change {
		var all []*replica.Change
		for i := range repeatedRows {
			mail, v := fmt.Sprintf("m%d", i), version
			if i == 0 {
				mail, v = first, version+int64(len(first))
			}
			all = append(all, b.event(t, "people", v, schemas.Upsert, fmt.Sprintf(`{"id":%d,"email":%q,"org_id":1}`, i+1, mail)))
		}
		return all
	}
	b.apply(t, people(5, "a")...)
	b.apply(t, people(5, "a")...)
	if n := b.sent(t, people(4, "bbb")...); n != 1 {
		t.Errorf("%d statements for one newer row", n)
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_displaced WHERE name IN ('person:mail:a', 'old:a:1')"); n != 2 {
		t.Errorf("%d displaced names of the row that changed", n)
	}
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_displaced WHERE name LIKE 'person:mail:m%'"); n != 0 {
		t.Errorf("%d displaced names of rows that did not change", n)
	}
}

// Rows that are read and not sent stay as they are until the commit: no session can change, remove or empty them meanwhile.
func TestRowsThatAreNotSentAreLocked(t *testing.T) {
	var between func()
	b := newRepeated(t, replica.Config{BeforeCommit: func() {
		if between != nil {
			between()
		}
	}})
	changes := repetition(t, b)
	between = func() {
		c, err := b.db.Conn(context.WithoutCancel(t.Context()))
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = c.Close() }()
		for _, text := range []string{
			"SET SESSION lock_wait_timeout = 1, innodb_lock_wait_timeout = 1",
			"DELETE FROM items WHERE id = 9 AND _deleted = 1", "UPDATE items SET _version = 1 WHERE id = 1", "RENAME TABLE items TO elsewhere",
		} {
			if _, err := c.ExecContext(context.WithoutCancel(t.Context()), text); mysql.IsLockWait(err) == (text[:3] == "SET") {
				t.Errorf("%s: %v", text, err)
			}
		}
	}
	if n := b.sent(t, changes...); n != 0 {
		t.Errorf("%d statements", n)
	}
	between = nil
	b.wantRow(t, 1, "5:name 1")
	b.exec(t, "DELETE FROM items WHERE id IN (1, 9)")
	if n := b.sent(t, repetition(t, b)...); n == 0 {
		t.Error("rows that are gone were not written")
	}
	b.wantRow(t, 1, "5:name 1")
	b.wantRow(t, 9, "5:deleted")
}

// What the read of a repetition cannot do is left to the upsert: a missing column pauses the dataset, and a row that holds what no
// event brings is overwritten by a newer one.
func TestRepetitionThatCannotBeRead(t *testing.T) {
	b := newRepeated(t, replica.Config{})
	b.exec(t, "ALTER TABLE items DROP COLUMN n")
	_, err := b.Apply(t.Context(), b.batch(repetition(t, b)...))
	var broken *tables.DatasetError
	if !errors.As(err, &broken) || broken.Errno != 1054 || broken.Dataset != "items" {
		t.Errorf("without a column: %v, want a DatasetError with 1054", err)
	}
	b.exec(t, "ALTER TABLE items ADD COLUMN n BIGINT")
	b.exec(t, "UPDATE items SET _deleted = 2, _version = 1 WHERE id = 7")
	b.apply(t, repetition(t, b)...)
	b.wantRow(t, 7, "5:name 7")
	if got := b.letters(t); len(got) != 0 {
		t.Errorf("%d dead letters", len(got))
	}
}

// Whether a table refuses everything is proved by rows that it took, not by rows that it had.
func TestRefusalBesideRepetition(t *testing.T) {
	t.Run("one row", func(t *testing.T) {
		b := newRepeated(t, replica.Config{})
		refuseBad(t, b, "NEW.name = 'bad'")
		res := b.apply(t, append(repetition(t, b), b.item(t, 1000, 1, "bad"), b.item(t, 1001, 1, "good"))...)
		if res.Refused != 1 || res.Rows != repeatedRows+2 {
			t.Errorf("%+v", res)
		}
		b.wantRow(t, 1001, "1:good")
	})
	t.Run("every row", func(t *testing.T) {
		b := newRepeated(t, replica.Config{})
		refuseBad(t, b, "TRUE")
		_, err := b.Apply(t.Context(), b.batch(append(repetition(t, b), b.item(t, 1000, 1, "good"))...))
		var broken *tables.DatasetError
		if !errors.As(err, &broken) || broken.Errno != 1644 {
			t.Errorf("got %v, want a DatasetError with 1644", err)
		}
		if ls := b.letters(t); len(ls) != 0 {
			t.Errorf("%d dead letters", len(ls))
		}
	})
}
