package replica_test

import (
	"fmt"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// person is a change of the dataset people, whose names depend on more than its key.
func (b *bed) person(t testing.TB, id int, version int64, email string, org int) *replica.Change {
	t.Helper()
	return b.event(t, "people", version, schemas.Upsert, fmt.Sprintf(`{"id":%d,"email":%q,"org_id":%d}`, id, email, org))
}

func (b *bed) displaced(t testing.TB) []string {
	t.Helper()
	names, err := b.Lanes("").Displaced(t.Context(), src, 0, 1<<40)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, n := range names {
		out = append(out, fmt.Sprintf("%d %c %s", n.Offset, n.Kind, n.Name))
	}
	return out
}

func TestDisplacedNamesOfOldRows(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, b.person(t, 1, 1, "a@x", 7), b.person(t, 2, 1, "b@x", 7)) // offsets 0, 1: no old rows
	b.apply(t, b.person(t, 1, 1, "z@x", 9))                              // 2: a repetition of the version displaces nothing
	b.apply(t, b.person(t, 1, 2, "a2@x", 7))                             // 3: the mail changes, the tag does not
	b.apply(t, b.person(t, 2, 5, "b@x", 8))                              // 4: the tag changes
	b.apply(t, b.event(t, "people", 3, schemas.Delete, `{"id":1}`))      // 5: all names go
	b.apply(t, b.person(t, 1, 4, "a3@x", 7))                             // 6: the deleted row had none
	newest := b.person(t, 2, 7, "d@x", 8)                                // 7
	newest.Older = b.person(t, 2, 6, "c@x", 8)                           // 8: coalesced away
	b.apply(t, newest)
	want := []string{
		"3 f old:a@x:1", "3 k person:mail:a@x", "4 t org:7",
		"5 f old:a2@x:1", "5 k person:mail:a2@x", "5 t org:7",
		"7 f old:b@x:2", "7 k person:mail:b@x",
	}
	if diff := cmp.Diff(want, b.displaced(t)); diff != "" {
		t.Error(diff)
	}
	b.apply(t, newest) // delivered once more: the row is as new, what was noted stays
	if diff := cmp.Diff(want, b.displaced(t)); diff != "" {
		t.Error(diff)
	}
	if row, err := b.Rows.Get(t.Context(), dataset(t, "people"), "2"); err != nil || row.Version != 7 {
		t.Errorf("row 2: %+v, %v", row, err)
	}
}

// The older change that is applied in place of a refused one displaces at its own offset, and a row that was only ever
// refused is as good as absent.
func TestDisplacedNamesOfRefusedChanges(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, b.person(t, 1, 1, "a@x", 7))
	worse := b.person(t, 1, 3, "c@x", 7)
	for i, col := range worse.Dataset.Replica.Columns {
		if col.Name == "note" {
			worse.Values[i] = "longer than its column, which the schema would have caught"
		}
	}
	worse.Older = b.person(t, 1, 2, "b@x", 7)
	only := b.person(t, 5, 1, "e@x", 7)
	only.Values = append([]any(nil), only.Values...)
	for i, col := range only.Dataset.Replica.Columns {
		if col.Name == "note" {
			only.Values[i] = worse.Values[i]
		}
	}
	if res := b.apply(t, worse, only); len(res.Dead) != 2 {
		t.Fatalf("%d letters, want 2", len(res.Dead))
	}
	want := []string{"1 k person:1", "2 f old:a@x:1", "2 k person:mail:a@x", "3 k person:5"}
	if diff := cmp.Diff(want, b.displaced(t)); diff != "" {
		t.Error(diff)
	}
	if row, err := b.Rows.Get(t.Context(), dataset(t, "people"), "5"); err != nil || row.Found {
		t.Errorf("row that was only refused: %+v, %v", row, err)
	}
}

// Writers that change the same new records at the same time lose no name: the second one sees the first one's row.
func TestDisplacedNamesOfRaces(t *testing.T) {
	b := newBed(t, replica.Config{})
	// The database itself keeps what the rows lost.
	for _, stmt := range []string{
		"CREATE TABLE lost (email VARCHAR(40) NOT NULL)",
		"CREATE TRIGGER lose AFTER UPDATE ON people FOR EACH ROW INSERT INTO lost SELECT OLD.email FROM DUAL WHERE OLD.email <> NEW.email",
	} {
		if _, err := b.db.ExecContext(t.Context(), stmt); err != nil {
			t.Fatal(err)
		}
	}
	const writers, records = 4, 30
	var wg sync.WaitGroup
	for w := range writers {
		var changes []*replica.Change
		for id := range records {
			changes = append(changes, b.person(t, id+1, int64(w+1), fmt.Sprintf("%d-%d@x", id+1, w), 7))
		}
		batch := b.batch(changes...)
		wg.Go(func() {
			if _, err := b.Apply(t.Context(), batch); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	rows, err := b.db.QueryContext(t.Context(), `SELECT email FROM lost WHERE NOT EXISTS (
		SELECT 1 FROM freshet_displaced WHERE kind = 'k' AND name = CAST(CONCAT('person:mail:', email) AS BINARY))`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		t.Error("a name that a row lost was not noted")
	}
	if err := rows.Err(); err != nil {
		t.Error(err)
	}
}
