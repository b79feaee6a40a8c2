package replica_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

func TestApplyGuards(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, b.item(t, 1, 5, "five"), b.item(t, 2, 1, "one"))
	b.wantRow(t, 1, "5:five")

	t.Run("older and equal are no-ops", func(t *testing.T) {
		b.apply(t, b.item(t, 1, 4, "four"))
		b.apply(t, b.item(t, 1, 5, "again"))
		b.wantRow(t, 1, "5:five")
	})
	t.Run("newer wins", func(t *testing.T) {
		b.apply(t, b.item(t, 1, 6, "six"))
		b.wantRow(t, 1, "6:six")
	})
	t.Run("tombstone then late upsert", func(t *testing.T) {
		b.apply(t, b.gone(t, 1, 9))
		b.apply(t, b.item(t, 1, 8, "late"))
		b.wantRow(t, 1, "9:deleted")
		if n := one[int](t, b.db, "SELECT COUNT(*) FROM items WHERE id = 1 AND name IS NULL AND n IS NULL"); n != 1 {
			t.Error("the deleted row keeps its values")
		}
	})
	t.Run("tombstone of an unknown record", func(t *testing.T) {
		b.apply(t, b.gone(t, 7, 3))
		b.apply(t, b.item(t, 7, 2, "late"))
		b.wantRow(t, 7, "3:deleted")
		b.apply(t, b.item(t, 7, 4, "back"))
		b.wantRow(t, 7, "4:back")
	})
	b.wantRow(t, 2, "1:one")
	b.wantRow(t, 99, "none")
}

func TestKeepOnDelete(t *testing.T) {
	b := newBed(t, replica.Config{})
	up := func(v int64, name string) *replica.Change {
		return b.event(t, "kept", v, schemas.Upsert, fmt.Sprintf(`{"id":1,"name":%q}`, name))
	}
	b.apply(t, up(1, "first"))
	b.apply(t, b.event(t, "kept", 2, schemas.Delete, `{"id":1}`))
	ds, _ := b.set.Get("kept")
	r, err := b.Rows.Get(t.Context(), ds, "1")
	if err != nil || !r.Found || !r.Deleted || r.Version != 2 || r.Properties(ds)["name"] != "first" {
		t.Fatalf("after the deletion: %+v, %v", r, err)
	}
	b.apply(t, up(3, "third"))
	if r, err = b.Rows.Get(t.Context(), ds, "1"); err != nil || r.Deleted || r.Properties(ds)["name"] != "third" {
		t.Fatalf("after the next upsert: %+v, %v", r, err)
	}
}

func TestWideRowComesBack(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, b.event(t, "wide", 1, schemas.Upsert, `{"shop":"z","number":18446744073709551615,"order":"naïve 🎈","long":"l\u0000l",
		"price":"-12.50","ratio":0.1,"on":true,"tags":[1,{"a":null}],"at":"2026-03-01T12:00:00.25+02:00","day":"2026-03-01"}`),
		b.event(t, "wide", 1, schemas.Upsert, `{"shop":"a ","number":0}`), b.event(t, "wide", 2, schemas.Upsert, `{"shop":"a","number":0}`))
	ds, _ := b.set.Get("wide")
	r, err := b.Rows.Get(t.Context(), ds, "z,18446744073709551615")
	if err != nil {
		t.Fatal(err)
	}
	got := r.Properties(ds)
	got["tags"] = strings.ReplaceAll(fmt.Sprintf("%s", got["tags"]), " ", "")
	want := map[string]any{
		"shop": "z", "number": uint64(18446744073709551615), "order": "naïve 🎈", "long": "l\x00l", "price": "-12.50", "ratio": 0.1,
		"on": true, "tags": `[1,{"a":null}]`, "at": "2026-03-01T10:00:00.25Z", "day": "2026-03-01",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("row differs (-want +got):\n%s", diff)
	}
	// Keys that differ by a trailing space are two records.
	for key, version := range map[string]int64{"a,0": 2, "a ,0": 1} {
		if r, err := b.Rows.Get(t.Context(), ds, key); err != nil || r.Version != version {
			t.Errorf("row %q has version %d, want %d (%v)", key, r.Version, version, err)
		}
	}
}

func TestRedeliveryBelowNextOffset(t *testing.T) {
	b := newBed(t, replica.Config{})
	first := b.batch(b.item(t, 1, 1, "one"))
	if _, err := b.Apply(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	b.apply(t, b.item(t, 1, 2, "two"))
	if _, err := b.Apply(t.Context(), first); err != nil {
		t.Fatalf("redelivered batch: %v", err)
	}
	b.wantRow(t, 1, "2:two")
	if next := one[int64](t, b.db, "SELECT next_offset FROM freshet_position WHERE source = ?", src); next != 2 {
		t.Errorf("next_offset is %d, want 2", next)
	}
}

func TestBisect(t *testing.T) {
	for name, which := range map[string][]int{"one": {137}, "two": {0, 300}, "neighbours": {20, 21}, "all": nil} {
		t.Run(name, func(t *testing.T) {
			b := newBed(t, replica.Config{})
			const rows = 320
			isBad := map[int]bool{}
			for _, i := range which {
				isBad[i] = true
			}
			var changes []*replica.Change
			for i := range rows {
				c := b.item(t, i+1, 1, "ok")
				if isBad[i] || which == nil {
					isBad[i] = true
					bad(c)
				}
				changes = append(changes, c)
			}
			res := b.apply(t, changes...)
			want := tally{rows, len(isBad), len(isBad)}
			if tallyOf(res) != want {
				t.Errorf("result %+v, want %+v", res, want)
			}
			for i := range rows {
				if isBad[i] {
					b.wantRow(t, i+1, "none")
				}
			}
			if n := one[int](t, b.db, "SELECT COUNT(*) FROM items WHERE name = 'ok'"); n != rows-len(isBad) {
				t.Errorf("%d good rows, want %d", n, rows-len(isBad))
			}
			if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_dead_letter WHERE reason = 'refused' AND errno = 1406 AND state = 'open'"); n != len(isBad) {
				t.Errorf("%d letters, want %d", n, len(isBad))
			}
			// Redelivered, it is the same again and nothing twice.
			if again := b.apply(t, changes...); tallyOf(again) != want {
				t.Errorf("again %+v, want %+v", again, want)
			}
			if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_dead_letter"); n != len(isBad) {
				t.Errorf("%d letters after redelivery, want %d", n, len(isBad))
			}
			if s := b.Stats(); which != nil && s.Statements > 200 {
				t.Errorf("%d statements for %d bad rows", s.Statements, len(which))
			}
		})
	}
}

// tally is a Result by its numbers.
type tally struct{ rows, refused, letters int }

func tallyOf(r replica.Result) tally { return tally{r.Rows, r.Refused, len(r.Dead)} }

func TestOlderGoodUnderNewerBad(t *testing.T) {
	b := newBed(t, replica.Config{})
	oldest, good := b.item(t, 1, 1, "oldest"), b.item(t, 1, 2, "good")
	worse, worst := bad(b.item(t, 1, 3, "")), bad(b.item(t, 1, 4, ""))
	worst.Older, worse.Older, good.Older = worse, good, oldest
	res := b.apply(t, worst, b.item(t, 2, 1, "neighbour"))
	if got, want := tallyOf(res), (tally{2, 2, 2}); got != want {
		t.Errorf("result %+v, want %+v", got, want)
	}
	b.wantRow(t, 1, "2:good")
	b.wantRow(t, 2, "1:neighbour")
	names, err := b.Lanes("").Displaced(t.Context(), src, 0, 100)
	if err != nil {
		t.Fatal(err)
	}
	want := []replica.Name{{Offset: worse.Offset, Kind: 'k', Name: "item:1"}, {Offset: worst.Offset, Kind: 'k', Name: "item:1"}}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Errorf("displaced names differ (-want +got):\n%s", diff)
	}
	for _, l := range b.letters(t) {
		if l.State != replica.StateOpen || l.Key != "1" || l.Op != schemas.Upsert || l.Errno != 1406 {
			t.Errorf("letter %+v", l)
		}
	}
	// A newer good change settles both.
	b.apply(t, b.item(t, 1, 5, "five"))
	for _, l := range b.letters(t) {
		if l.State != replica.StateSuperseded {
			t.Errorf("letter of version %d is %s", l.Version, l.State)
		}
	}
}

// The older events of a record are checked only when the table has refused the newer ones.
func TestUncheckedOlderEventsUnderARefusedOne(t *testing.T) {
	b := newBed(t, replica.Config{})
	unchecked := func(c *replica.Change, data string) *replica.Change {
		if data != "" {
			c.Event.Data = []byte(data)
		}
		out := &replica.Change{}
		out.Decoded(c.Dataset, c.Record, c.Index, c.Event)
		return out
	}
	good := unchecked(b.item(t, 1, 2, "good"), "")
	invalid := unchecked(b.item(t, 1, 3, ""), `{"id":1,"name":7}`)
	worst := bad(b.item(t, 1, 4, ""))
	worst.Older, invalid.Older, good.Older = invalid, good, unchecked(b.item(t, 1, 1, ""), `{"id":1,"name":7}`)
	lone := bad(b.item(t, 2, 2, ""))
	lone.Older = unchecked(b.item(t, 2, 1, ""), `{"id":2,"name":7}`)
	res := b.apply(t, worst, lone)
	if got, want := tallyOf(res), (tally{2, 2, 4}); got != want {
		t.Errorf("result %+v, want %+v", got, want)
	}
	b.wantRow(t, 1, "2:good")
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM items"); n != 1 {
		t.Errorf("%d rows", n)
	}
	var got []string
	for _, l := range b.letters(t) {
		got = append(got, fmt.Sprint(l.Key, " ", l.Version, " ", l.Reason, " ", l.State))
	}
	slices.Sort(got)
	want := []string{"1 3 schema open", "1 4 refused open", "2 1 schema open", "2 2 refused open"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("letters differ (-want +got):\n%s", diff)
	}
}

func TestEveryPoisonNumber(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.exec(t, "ALTER TABLE wide ADD CONSTRAINT positive CHECK (ratio >= 0)")
	set := func(column string, v any) *replica.Change {
		c := b.event(t, "wide", 1, schemas.Upsert, fmt.Sprintf(`{"shop":%q,"number":1}`, column))
		for i, col := range c.Dataset.Replica.Columns {
			if col.Name == column {
				c.Values[i] = v
			}
		}
		return c
	}
	changes := []*replica.Change{
		set("ord", strings.Repeat("x", 21)), set("price", "99999999999999.00"), set("at", "no time"), set("day", "2026-02-31"),
		set("long", string([]byte{0xff, 0xfe})), set("ratio", -1.0), set("tags", "{no json"), set("number", nil), set("on", int64(1000)),
	}
	res := b.apply(t, changes...)
	got := map[int64]uint16{}
	for _, l := range b.letters(t) {
		got[l.Offset] = l.Errno
	}
	want := map[int64]uint16{0: 1406, 1: 1264, 2: 1292, 3: 1292, 4: 1366, 5: 4025, 6: 4025, 7: 1048, 8: 1264}
	if b.Dialect() != mysql.MariaDB {
		want[5], want[6] = 3819, 3140 // JSON is a type of its own there, not a CHECK
	}
	if diff := cmp.Diff(want, got); diff != "" || res.Refused != len(changes) {
		t.Errorf("refused %d; numbers differ (-want +got):\n%s", res.Refused, diff)
	}
}

func TestBrokenDataset(t *testing.T) {
	b := newBed(t, replica.Config{})
	for _, c := range []struct {
		name, breakIt string
		errno         uint16
	}{
		{"no column", "ALTER TABLE items DROP COLUMN n", 1054},
		{"no table", "DROP TABLE items", 1146},
	} {
		t.Run(c.name, func(t *testing.T) {
			b.exec(t, c.breakIt)
			_, err := b.Apply(t.Context(), b.batch(b.item(t, 1, 1, "x")))
			var de *tables.DatasetError
			if !errors.As(err, &de) || de.Dataset != "items" || de.Errno != c.errno {
				t.Fatalf("error %v, want a DatasetError %d", err, c.errno)
			}
		})
	}
}
