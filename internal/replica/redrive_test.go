package replica_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

const ns = "shop"

// stored is a letter of an upsert of items as the worker would write it from a CloudEvents record.
func (b *bed) stored(t *testing.T, id int, version int64, data string) *replica.Letter {
	t.Helper()
	ds, _ := b.set.Get("items")
	l := b.letter("items", fmt.Sprint(id), version)
	rec, err := ds.Encode(&schemas.Event{
		ID: "e", Source: "//x", Dataset: "items", Key: l.Key, Op: schemas.Upsert, Version: version, Data: []byte(data),
	})
	if err != nil {
		t.Fatal(err)
	}
	rec.Offset, rec.Time = l.Offset, 777
	l.Record = &rec
	return l
}

// redrive redrives every letter of the table and gives outcome by offset.
func (b *bed) redrive(t *testing.T) (map[int64]replica.Redriven, []replica.Outgoing) {
	t.Helper()
	letters, err := b.Letters.List(t.Context(), replica.LetterQuery{Content: true, Limit: 1000})
	if err != nil {
		t.Fatal(err)
	}
	done, out, err := b.Redrive(t.Context(), ns, letters)
	if err != nil {
		t.Fatal(err)
	}
	by := map[int64]replica.Redriven{}
	for _, r := range done {
		by[r.Offset] = r
	}
	return by, out
}

func (b *bed) stateOf(t *testing.T, off int64) replica.StoredLetter {
	t.Helper()
	for _, l := range b.letters(t) {
		if l.Offset == off {
			return l
		}
	}
	t.Fatalf("no letter %d", off)
	return replica.StoredLetter{}
}

func TestRedrive(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.exec(t, "ALTER TABLE items ADD CONSTRAINT tame CHECK (name <> 'wild')")
	b.apply(t, b.item(t, 1, 3, "three"), b.item(t, 2, 9, "nine"))

	older, newer := b.stored(t, 1, 4, `{"id":1,"name":"four"}`), b.stored(t, 1, 5, `{"id":1,"name":"five"}`)
	fresh := b.stored(t, 7, 1, `{"id":7,"name":"new"}`)
	bad := b.stored(t, 3, 2, `{"id":3,"name":3}`)
	wild := b.stored(t, 4, 2, `{"id":4,"name":"wild"}`)
	unversioned := b.stored(t, 5, 1, `{"id":5}`)
	unversioned.Version = 0
	empty := &replica.Letter{Offset: b.off.Add(1) - 1, Dataset: "items", Key: "6", Version: 2, Reason: schemas.ReasonTooLarge, Record: &schemas.Record{Oversize: 2_000_000}}
	stranger := b.letter("nowhere", "1", 1)
	b.applyLetters(t, older, newer, fresh, bad, wild, unversioned, empty, stranger)
	overtaken := b.stored(t, 2, 8, `{"id":2,"name":"eight"}`)
	same := b.stored(t, 2, 9, `{"id":2,"name":"another nine"}`)
	b.applyLetters(t, overtaken, same)
	// As if the newer state had come by a writer that knows nothing of letters.
	b.exec(t, "UPDATE freshet_dead_letter SET state = 'open'")

	want := map[int64]replica.Outcome{
		older.Offset: replica.OutcomeStale, newer.Offset: replica.OutcomeApplied, fresh.Offset: replica.OutcomeApplied,
		bad.Offset: replica.OutcomeInvalid, wild.Offset: replica.OutcomeInvalid, unversioned.Offset: replica.OutcomeUnfit,
		empty.Offset: replica.OutcomeUnfit, stranger.Offset: replica.OutcomeUnfit, overtaken.Offset: replica.OutcomeStale, same.Offset: replica.OutcomeStale,
	}
	letters, err := b.Letters.List(t.Context(), replica.LetterQuery{Content: true})
	if err != nil {
		t.Fatal(err)
	}
	judged, err := b.Judge(t.Context(), letters)
	if err != nil {
		t.Fatal(err)
	}
	for _, j := range judged {
		dry := want[j.Offset]
		if j.Offset == wild.Offset {
			dry = replica.OutcomeApplied // a dry run tries nothing
		}
		if j.Outcome != dry {
			t.Errorf("dry run: letter %d is %s, want %s", j.Offset, j.Outcome, dry)
		}
	}
	got, out := b.redrive(t)
	for off, w := range want {
		if got[off].Outcome != w {
			t.Errorf("letter %d is %s (%s), want %s", off, got[off].Outcome, got[off].Detail, w)
		}
	}
	b.checkRedriven(t, wild.Offset, bad.Offset, newer.Offset, older.Offset)
	if diff := cmp.Diff([]string{"item:1", "item:7"}, out[0].Invalidation.Names); len(out) != 1 || diff != "" {
		t.Errorf("outbox of %d rows (-want +got):\n%s", len(out), diff)
	}
	b.checkOutbox(t, out)

	// Once more: what is closed stays closed, and what is still bad is tried again.
	again, out := b.redrive(t)
	for off, w := range map[int64]replica.Outcome{newer.Offset: replica.OutcomeClosed, older.Offset: replica.OutcomeClosed, wild.Offset: replica.OutcomeInvalid} {
		if again[off].Outcome != w {
			t.Errorf("again: letter %d is %s, want %s", off, again[off].Outcome, w)
		}
	}
	if len(out) != 0 {
		t.Errorf("nothing changed, and the outbox got %+v", out)
	}
}

func (b *bed) checkRedriven(t *testing.T, wild, bad, newer, older int64) {
	t.Helper()
	ds, _ := b.set.Get("items")
	for key, want := range map[string]int64{"1": 5, "2": 9, "7": 1, "3": 0, "4": 0} {
		row, err := b.Rows.Get(t.Context(), ds, key)
		if err != nil || row.Version != want {
			t.Errorf("row %s has version %d, want %d (%v)", key, row.Version, want, err)
		}
		if key == "1" && row.At != 777 {
			t.Errorf("row 1 is of time %d, want the event's", row.At)
		}
	}
	if l := b.stateOf(t, wild); l.State != replica.StateOpen || l.Reason != schemas.ReasonRefused || l.Errno == 0 || l.Attempts != 1 {
		t.Errorf("letter that the table refuses: %+v", l)
	}
	if l := b.stateOf(t, bad); l.State != replica.StateOpen || l.Reason != schemas.ReasonSchema || l.Errno != 0 || l.Attempts != 1 {
		t.Errorf("letter that breaks the schema: %+v", l)
	}
	if l := b.stateOf(t, newer); l.State != replica.StateRedriven || l.Attempts != 1 {
		t.Errorf("letter that was applied: %+v", l)
	}
	if l := b.stateOf(t, older); l.State != replica.StateSuperseded || l.Attempts != 0 {
		t.Errorf("letter that was overtaken: %+v", l)
	}
}

func (b *bed) checkOutbox(t *testing.T, want []replica.Outgoing) {
	t.Helper()
	if young, err := b.Outbox.Older(t.Context(), ns, time.Hour, 10); err != nil || len(young) != 0 {
		t.Errorf("rows older than an hour: %+v, %v", young, err)
	}
	if other, err := b.Outbox.Older(t.Context(), "other", 0, 10); err != nil || len(other) != 0 {
		t.Errorf("rows of another namespace: %+v, %v", other, err)
	}
	got, err := b.Outbox.Older(t.Context(), ns, 0, 10)
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("outbox: %v (-want +got):\n%s", err, diff)
	}
	b.exec(t, "INSERT INTO freshet_invalidation_outbox (ns, payload, created_at) VALUES ('shop', '{', 0)")
	if got, err = b.Outbox.Older(t.Context(), ns, 0, 10); err != nil || len(got) != len(want)+1 || got[len(want)].Invalidation.Len() != 0 {
		t.Errorf("a row that cannot be read: %+v, %v", got, err)
	}
	var ids []int64
	for _, o := range got {
		ids = append(ids, o.ID)
	}
	for range 2 {
		if err := b.Outbox.Remove(t.Context(), ids); err != nil {
			t.Fatal(err)
		}
	}
	if got, err = b.Outbox.Older(t.Context(), ns, 0, 10); err != nil || len(got) != 0 {
		t.Errorf("left in the outbox: %+v, %v", got, err)
	}
}

// TestRedriveRacesWithNewerChanges: whichever is first, the row has the newer version and no letter stays open.
// TestRedriveRefusesWhatHasNoOrder: a record without the dataset's key may be in any partition, so its position says
// nothing against that of a row from another one.
func TestRedriveRefusesWhatHasNoOrder(t *testing.T) {
	b := newBed(t, replica.Config{})
	ds, _ := b.set.Get("captured")
	l := b.letter("captured", "7", 5)
	l.Reason = schemas.ReasonKey
	l.Record = &schemas.Record{Offset: l.Offset, Time: 777, Value: []byte(`{"op":"u","before":null,"after":{"id":7,"name":"old"}}`)}
	b.applyLetters(t, l)
	for _, c := range []struct {
		partitions int32
		want       replica.Outcome
	}{{2, replica.OutcomeInvalid}, {1, replica.OutcomeApplied}} {
		b.exec(t, "DELETE FROM freshet_topic")
		if _, err := b.Topics.Observe(t.Context(), ds.Topic, "kR3a_x", c.partitions); err != nil {
			t.Fatal(err)
		}
		letters, err := b.Letters.List(t.Context(), replica.LetterQuery{Content: true})
		if err != nil {
			t.Fatal(err)
		}
		would, err := b.Judge(t.Context(), letters)
		if err != nil || would[0].Outcome != c.want {
			t.Errorf("of %d partitions: would be %+v, want %s (%v)", c.partitions, would, c.want, err)
		}
		done, _ := b.redrive(t)
		if got := done[l.Offset]; got.Outcome != c.want {
			t.Errorf("of %d partitions: %+v, want %s", c.partitions, got, c.want)
		}
	}
}

func TestRedriveRacesWithNewerChanges(t *testing.T) {
	b := newBed(t, replica.Config{})
	const n = 60
	var letters []*replica.Letter
	for i := range n {
		letters = append(letters, b.stored(t, i+1, 5, fmt.Sprintf(`{"id":%d,"name":"old"}`, i+1)))
	}
	b.applyLetters(t, letters...)
	stored, err := b.Letters.List(t.Context(), replica.LetterQuery{Content: true, Limit: n})
	if err != nil {
		t.Fatal(err)
	}
	var g errgroup.Group
	for i := range n {
		c := b.item(t, n-i, 6, "new")
		g.Go(func() error {
			batch := &replica.Batch{Source: src, Fence: b.pos.Fence, Next: c.Offset + 1, Changes: []*replica.Change{c}}
			_, err := b.Apply(t.Context(), batch)
			return err
		})
	}
	for i := 0; i < n; i += 10 {
		g.Go(func() error {
			_, _, err := b.Redrive(t.Context(), ns, stored[i:i+10])
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	var rows int
	if err := b.db.QueryRowContext(t.Context(), "SELECT COUNT(*) FROM items WHERE _version = 6 AND name = 'new'").Scan(&rows); err != nil || rows != n {
		t.Errorf("%d rows have the newer change, want %d (%v)", rows, n, err)
	}
	if counts, err := b.Letters.Count(t.Context(), ""); err != nil || counts[replica.StateOpen] != 0 {
		t.Errorf("letters %v, %v", counts, err)
	}
}

func TestRedriveStopsAtAForeignCacheHash(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.applyLetters(t, b.stored(t, 1, 1, `{"id":1}`))
	b.exec(t, "UPDATE freshet_meta SET value = 'other' WHERE name = 'dataset:items'")
	letters, err := b.Letters.List(t.Context(), replica.LetterQuery{Content: true})
	if err != nil {
		t.Fatal(err)
	}
	var broken *tables.DatasetError
	if _, _, err = b.Redrive(t.Context(), ns, letters); !errors.As(err, &broken) {
		t.Errorf("redrive under another cache section: %v, want a DatasetError", err)
	}
}

func TestLettersByFilter(t *testing.T) {
	b := newBed(t, replica.Config{})
	one, two := b.letter("items", "1", 1), b.letter("names", "n", 1)
	two.Reason = schemas.ReasonKey
	three := b.letter("items", "3", 1)
	b.applyLetters(t, one, two, three)
	b.exec(t, "UPDATE freshet_dead_letter SET created_at = created_at - 3600000 WHERE off = 0")
	old := b.stateOf(t, one.Offset).Created
	b.exec(t, "UPDATE freshet_dead_letter SET op = 2 WHERE off = 2")
	zero, one32 := int32(0), int32(1)
	for name, tc := range map[string]struct {
		q    replica.LetterQuery
		want []int64
	}{
		"all":          {replica.LetterQuery{}, []int64{0, 1, 2}},
		"reason":       {replica.LetterQuery{Reason: schemas.ReasonKey}, []int64{1}},
		"source":       {replica.LetterQuery{Source: src}, []int64{0, 1, 2}},
		"other source": {replica.LetterQuery{Source: src + "1"}, nil},
		"from":         {replica.LetterQuery{From: 1}, []int64{1, 2}},
		"range":        {replica.LetterQuery{From: 1, Until: 2}, []int64{1}},
		"since":        {replica.LetterQuery{Since: old.Add(time.Minute)}, []int64{1, 2}},
		"both":         {replica.LetterQuery{Dataset: "items", Since: old}, []int64{0, 2}},
		"topic":        {replica.LetterQuery{Topic: "freshet.items"}, []int64{0, 1, 2}},
		"other topic":  {replica.LetterQuery{Topic: "freshet.item"}, nil},
		"partition":    {replica.LetterQuery{Topic: "freshet.items", Partition: &zero, From: 1}, []int64{1, 2}},
		"no partition": {replica.LetterQuery{Topic: "freshet.items", Partition: &one32}, nil},
		"keys":         {replica.LetterQuery{Keys: []string{"3", "1", "nobody"}}, []int64{0, 2}},
		"prefix":       {replica.LetterQuery{Prefix: "n"}, []int64{1}},
		"no prefix":    {replica.LetterQuery{Prefix: "%"}, nil},
		"op":           {replica.LetterQuery{Op: schemas.Delete}, []int64{2}},
		"ids":          {replica.LetterQuery{IDs: []replica.LetterID{{Source: src, Offset: 2}, {Source: src, Offset: 0}, {Source: src, Offset: 1, Index: 1}}}, []int64{0, 2}},
	} {
		letters, err := b.Letters.List(t.Context(), tc.q)
		if err != nil {
			t.Fatal(err)
		}
		var got []int64
		for _, l := range letters {
			got = append(got, l.Offset)
		}
		if diff := cmp.Diff(tc.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	parts, err := b.Letters.Parts(t.Context(), replica.LetterQuery{Dataset: "items"})
	if diff := cmp.Diff([]jobstore.Part{{Source: src, From: 0, End: 3}}, parts); err != nil || diff != "" {
		t.Errorf("parts: %v (-want +got):\n%s", err, diff)
	}
	if n, err := b.Letters.Discard(t.Context(), replica.LetterQuery{Dataset: "items", From: 1}); err != nil || n != 1 {
		t.Errorf("discarded %d, %v, want 1", n, err)
	}
	if n, err := b.Letters.Discard(t.Context(), replica.LetterQuery{Keys: []string{"3"}}); err != nil || n != 0 {
		t.Errorf("discarded %d again, %v", n, err)
	}
	if n, err := b.Letters.Discard(t.Context(), replica.LetterQuery{Limit: 1}); err != nil || n != 1 {
		t.Errorf("discarded %d of two with limit 1, %v", n, err)
	}
	b.exec(t, "UPDATE freshet_dead_letter SET state = 'open' WHERE off = 0")
	if b.stateOf(t, 2).State != replica.StateDiscarded || b.stateOf(t, 0).State != replica.StateOpen {
		t.Error("the wrong letter was discarded")
	}
}

func TestPauses(t *testing.T) {
	b := newBed(t, replica.Config{})
	first, err := b.Pauses.Add(t.Context(), "items", "w1", "storm")
	if err != nil || first.Who != "w1" || first.Why != "storm" || time.Since(first.Since).Abs() > time.Minute {
		t.Fatalf("pause %+v, %v", first, err)
	}
	if again, err := b.Pauses.Add(t.Context(), "items", "w2", "another"); err != nil || again != first {
		t.Errorf("the second pause gives %+v, %v, want the first", again, err)
	}
	b.exec(t, "INSERT INTO freshet_meta (name, value) VALUES ('pause:names', 'x')")
	pauses, err := b.Pauses.All(t.Context())
	if err != nil || len(pauses) != 2 || pauses["items"] != first || pauses["names"].Why == "" {
		t.Errorf("pauses %+v, %v", pauses, err)
	}
	for _, want := range []bool{true, false} {
		if was, err := b.Pauses.End(t.Context(), "items", 0); err != nil || was != want {
			t.Errorf("resume: %v, %v, want %v", was, err, want)
		}
	}
	if hashes, err := b.Declarations.Hashes(t.Context()); err != nil || len(hashes) != 2 {
		t.Errorf("hashes %v, %v: pauses are none", hashes, err)
	}
}
