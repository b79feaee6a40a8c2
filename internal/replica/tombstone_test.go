package replica_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// Rows of deleted records are removed after their retention, by keys of one column and of several. Rows that live again,
// that were deleted just now, perhaps once more, whose record has an open dead letter, or whose dataset keeps them, stay.
func TestDeletedRowsAreRemoved(t *testing.T) {
	b := newBed(t, replica.Config{})
	young := time.Now().UnixMilli()
	deleted := func(set, data string, version, at int64) *replica.Change {
		c := b.event(t, set, version, schemas.Delete, data)
		c.At = at
		return c
	}
	b.apply(t, b.item(t, 1, 1, "a"), b.item(t, 5, 1, "lives"))
	b.apply(t,
		deleted("items", `{"id":1}`, 2, 1000), deleted("items", `{"id":2}`, 2, young), deleted("items", `{"id":3}`, 2, 1000),
		deleted("items", `{"id":4}`, 2, 1000), deleted("kept", `{"id":1}`, 2, 1000), deleted("wide", `{"shop":"s/1","number":7}`, 2, 1000),
		deleted("items", `{"id":6}`, 2, 1000),
	)
	b.exec(t, "UPDATE freshet_tombstone SET deleted_at = 1000 WHERE record_key <> '2'")
	b.apply(t, b.item(t, 3, 3, "again"), b.item(t, 6, 3, "again"))
	b.apply(t, deleted("items", `{"id":6}`, 4, young), deleted("wide", `{"shop":"s/1","number":8}`, 2, 1000))
	b.exec(t, "INSERT INTO freshet_dead_letter (source, off, idx, dataset, record_key, version, op, reason, detail, size, broker_at, state, created_at, updated_at)"+
		" VALUES ('s', 1, 0, 'items', '4', 1, 1, 'refused', '', 1, 1, 'open', 1, 1)")
	e := b.NewExpirer(replica.Retention{Tombstones: time.Hour})
	for range 2 { // the second pass finds nothing
		if err := e.Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		if removed, _ := e.Removed(); removed != 2 {
			t.Errorf("%d rows removed, want 2", removed)
		}
	}
	for what, want := range map[string]int{
		"items WHERE id = 1": 0, "items WHERE id IN (2, 3, 4, 5, 6)": 5, "items WHERE _deleted = 0": 2, "kept": 1,
		"wide WHERE number = 7": 0, "wide WHERE number = 8": 1,
		"freshet_tombstone": 4, "freshet_tombstone WHERE dataset = 'items' AND record_key IN ('2', '4', '6')": 3,
	} {
		if n := one[int](t, b.db, "SELECT COUNT(*) FROM "+what); n != want {
			t.Errorf("%s: %d rows, want %d", what, n, want)
		}
	}
}

// More deletions than one transaction removes go in one pass, also when the first ones must stay.
func TestManyDeletedRowsAreRemoved(t *testing.T) {
	b := newBed(t, replica.Config{})
	const n = 1200
	var changes []*replica.Change
	for i := range n {
		c := b.event(t, "items", 1, schemas.Delete, fmt.Sprintf(`{"id":%d}`, i+1))
		c.At = 1000
		changes = append(changes, c)
	}
	b.apply(t, changes...)
	b.exec(t, "UPDATE freshet_tombstone SET deleted_at = 1000 + FLOOR(CAST(record_key AS CHAR) / 10)")
	for i := range 600 {
		b.exec(t, fmt.Sprintf("INSERT INTO freshet_dead_letter (source, off, idx, dataset, record_key, version, op, reason, detail, size, broker_at, state, created_at, updated_at)"+
			" VALUES ('s', %d, 0, 'items', '%[1]d', 1, 1, 'refused', '', 1, 1, 'open', 1, 1)", i+1))
	}
	e := b.NewExpirer(replica.Retention{Tombstones: time.Hour})
	if err := e.Pass(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left := one[int](t, b.db, "SELECT COUNT(*) FROM items"); left != 600 {
		t.Errorf("%d rows are left, want 600", left)
	}
	if left := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_tombstone"); left != 600 {
		t.Errorf("%d tombstones are left, want 600", left)
	}
}
