package replica_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
)

// refuseBad makes the items table refuse, by a trigger, the rows for which the condition holds.
func refuseBad(t *testing.T, b *bed, condition string) {
	t.Helper()
	b.exec(t, "CREATE TRIGGER refuse BEFORE INSERT ON items FOR EACH ROW IF "+condition+" THEN SIGNAL SQLSTATE '45000'; END IF")
}

// An error number that is not listed and that follows one row is that row's: it becomes a dead letter, and its neighbours are
// applied, whether the table had rows before or not.
func TestUnlistedNumberOfOneRow(t *testing.T) {
	for _, bad := range []int{0, 3, 7} {
		t.Run(fmt.Sprint("bad row ", bad), func(t *testing.T) {
			b := newBed(t, replica.Config{})
			refuseBad(t, b, "NEW.name = 'bad'")
			var changes []*replica.Change
			for i := range 8 {
				name := "good"
				if i == bad {
					name = "bad"
				}
				changes = append(changes, b.item(t, i+1, 1, name))
			}
			if res := b.apply(t, changes...); res.Refused != 1 || len(res.Dead) != 1 {
				t.Errorf("refused %d, letters %d; want one", res.Refused, len(res.Dead))
			}
			for i := range 8 {
				if i != bad {
					b.wantRow(t, i+1, "1:good")
				}
			}
			if ls := b.letters(t); len(ls) != 1 || ls[0].Errno != 1644 {
				t.Errorf("letters %+v, want one with 1644", ls)
			}
			// Alone in its batch it is compared with a row of the table.
			if res := b.apply(t, b.item(t, 100, 1, "bad")); res.Refused != 1 {
				t.Errorf("alone: refused %d, want 1", res.Refused)
			}
		})
	}
}

// An unlisted number that every row gets is the table's: the dataset is to be paused with words, and nothing becomes a letter.
func TestUnlistedNumberOfEveryRow(t *testing.T) {
	for _, rows := range []int{0, 2} {
		for _, n := range []int{1, 25} {
			t.Run(fmt.Sprintf("%d of %d", n, rows), func(t *testing.T) {
				b := newBed(t, replica.Config{})
				for i := range rows {
					b.apply(t, b.item(t, 1000+i, 1, "before"))
				}
				refuseBad(t, b, "TRUE")
				var changes []*replica.Change
				for i := range n {
					changes = append(changes, b.item(t, i+1, 1, "good"))
				}
				_, err := b.Apply(t.Context(), b.batch(changes...))
				var broken *tables.DatasetError
				if !errors.As(err, &broken) || broken.Errno != 1644 || broken.Dataset != "items" {
					t.Errorf("got %v, want a DatasetError with 1644", err)
				}
				if ls := b.letters(t); len(ls) != 0 {
					t.Errorf("%d letters", len(ls))
				}
				b.exec(t, "DROP TRIGGER refuse")
				b.apply(t, changes...)
				b.wantRow(t, 1, "1:good")
			})
		}
	}
}

// A row that is too large for the table, or that no partition takes, is refused alone.
func TestUnlistedNumbersAreLettersOnly(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.exec(t, "ALTER TABLE items PARTITION BY RANGE (id) (PARTITION p0 VALUES LESS THAN (1000), PARTITION p1 VALUES LESS THAN (2000))")
	b.apply(t, b.item(t, 1, 1, "fits"), b.item(t, 5000, 1, "no partition"), b.item(t, 1500, 1, "fits"))
	b.wantRow(t, 1, "1:fits")
	b.wantRow(t, 1500, "1:fits")
	if ls := b.letters(t); len(ls) != 1 || ls[0].Errno != 1526 {
		t.Errorf("letters %+v, want one with 1526", ls)
	}
}
