package replica_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// letter is one that the worker would make of a message that breaks the schema.
func (b *bed) letter(dataset, key string, version int64) *replica.Letter {
	off := b.off.Add(1) - 1
	l := &replica.Letter{
		Offset: off, Dataset: dataset, Key: key, Version: version, Op: schemas.Upsert, EventID: "e",
		Reason: schemas.ReasonSchema, Detail: "data/name: too long",
		Record: &schemas.Record{
			Key: []byte{0, 0xff}, Value: []byte("{\x00}"), Time: 12345, Offset: off,
			Headers: []schemas.Header{{Key: "ce_id", Value: []byte("x")}, {Key: "ce_id", Value: []byte{}}, {Key: "", Value: nil}},
		},
	}
	if key != "" && dataset == "items" {
		l.CacheKey = "item:" + key
	}
	return l
}

func (b *bed) applyLetters(t *testing.T, letters ...*replica.Letter) {
	t.Helper()
	batch := b.batch()
	batch.Letters = letters
	res, err := b.Apply(t.Context(), batch)
	if err != nil || len(res.Dead) != len(letters) {
		t.Fatalf("apply letters: %+v, %v", res, err)
	}
}

func TestLetterComesBackWhole(t *testing.T) {
	b := newBed(t, replica.Config{})
	full, bare := b.letter("items", "7", 3), &replica.Letter{Offset: b.off.Add(1) - 1, Dataset: "items", Reason: schemas.ReasonMalformed}
	huge := &replica.Letter{
		Offset: b.off.Add(1) - 1, Index: 2, Dataset: "items", Reason: schemas.ReasonTooLarge, Detail: strings.Repeat("é", 600),
		EventID: strings.Repeat("i", 300), Key: strings.Repeat("k", 600), Record: &schemas.Record{Oversize: 5_000_000},
	}
	b.applyLetters(t, full, bare, huge)
	b.applyLetters(t, full, bare, huge) // redelivered
	got := b.letters(t)
	if len(got) != 3 {
		t.Fatalf("%d letters, want 3", len(got))
	}
	want := *full
	want.CacheKey = "" // it is displaced, not kept
	if diff := cmp.Diff(want, got[0].Letter); diff != "" {
		t.Errorf("letter differs (-want +got):\n%s", diff)
	}
	if got[0].Source != src || got[0].State != replica.StateOpen || got[0].Size != 2+3+5+1+5 || got[0].Created.IsZero() {
		t.Errorf("letter %+v", got[0])
	}
	if l := got[1]; l.Record.Value != nil || l.Key != "" || l.Version != 0 || l.Op != 0 || l.EventID != "" {
		t.Errorf("bare letter %+v", l)
	}
	if l := got[2]; l.Size != 5_000_000 || l.Record.Value != nil || l.Record.Headers != nil || l.Index != 2 || l.Key != "" ||
		len(l.Detail) != 1000 || len(l.EventID) != 255 {
		t.Errorf("oversize letter: size %d, index %d, detail %d bytes", l.Size, l.Index, len(l.Detail))
	}
	names, err := b.Lanes("").Displaced(t.Context(), src, 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]replica.Name{{Offset: full.Offset, Kind: 'k', Name: "item:7"}}, names); diff != "" {
		t.Errorf("displaced (-want +got):\n%s", diff)
	}
}

func TestLettersArePaged(t *testing.T) {
	b := newBed(t, replica.Config{})
	var all []*replica.Letter
	for i := range 130 { // more than one statement
		all = append(all, b.letter([]string{"items", "names"}[i%2], fmt.Sprint(i+1), 1))
	}
	b.applyLetters(t, all...)
	q := replica.LetterQuery{Dataset: "items", State: replica.StateOpen, Limit: 30}
	var seen []int64
	for {
		page, err := b.Letters.List(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page {
			if l.Record.Value != nil || l.Dataset != "items" {
				t.Errorf("letter %d: %s with content", l.Offset, l.Dataset)
			}
			seen = append(seen, l.Offset)
		}
		if len(page) < 30 {
			break
		}
		last := page[len(page)-1]
		q.After = &replica.LetterID{Source: last.Source, Offset: last.Offset, Index: last.Index}
	}
	if len(seen) != 65 {
		t.Errorf("%d letters on all pages, want 65", len(seen))
	}
	if one, err := b.Letters.List(t.Context(), replica.LetterQuery{Keys: []string{"3"}}); err != nil || len(one) != 1 {
		t.Errorf("by key: %d, %v", len(one), err)
	}
	counts, err := b.Letters.Count(t.Context(), "names")
	if err != nil || counts[replica.StateOpen] != 65 || len(counts) != 1 {
		t.Errorf("counts %v, %v", counts, err)
	}
	if counts, err = b.Letters.Count(t.Context(), ""); err != nil || counts[replica.StateOpen] != 130 {
		t.Errorf("counts of all %v, %v", counts, err)
	}
}

func TestSuperseded(t *testing.T) {
	b := newBed(t, replica.Config{})
	state := func(off int64, want replica.State) {
		t.Helper()
		for _, l := range b.letters(t) {
			if l.Offset == off && l.State != want {
				t.Errorf("letter %d is %s, want %s", off, l.State, want)
			}
		}
	}
	b.apply(t, b.item(t, 1, 5, "five"))
	born, open := b.letter("items", "1", 5), b.letter("items", "1", 6)
	unversioned, other := b.letter("items", "1", 0), b.letter("items", "2", 1)
	b.applyLetters(t, born, open, unversioned, other)
	state(born.Offset, replica.StateSuperseded)
	state(open.Offset, replica.StateOpen)
	state(unversioned.Offset, replica.StateOpen)

	old := b.item(t, 1, 5, "old")
	old.Offset = unversioned.Offset - 1
	b.apply(t, old) // as new as the row, and before the letter without a version
	state(open.Offset, replica.StateOpen)
	state(unversioned.Offset, replica.StateOpen)
	b.apply(t, b.gone(t, 1, 7))
	state(open.Offset, replica.StateSuperseded)
	state(unversioned.Offset, replica.StateSuperseded)
	state(other.Offset, replica.StateOpen)

	// A letter that someone dealt with stays unchanged.
	b.exec(t, "UPDATE freshet_dead_letter SET state = 'discarded' WHERE record_key = '2'")
	b.apply(t, b.item(t, 2, 9, "nine"))
	state(other.Offset, replica.StateDiscarded)
	b.applyLetters(t, other)
	state(other.Offset, replica.StateDiscarded)
	if got := b.Stats().Superseded; got != 2 {
		t.Errorf("superseded counts %d, want 2", got)
	}
}

// TestSupersededAmongMany: with more open letters than are looked through at once, the right ones are found by key.
func TestSupersededAmongMany(t *testing.T) {
	b := newBed(t, replica.Config{})
	const n = 600
	var letters []*replica.Letter
	var changes []*replica.Change
	for i := range n {
		letters = append(letters, b.letter("items", fmt.Sprint(i+1), 2))
	}
	b.applyLetters(t, letters...)
	for i := range n - 10 {
		changes = append(changes, b.item(t, i+1, 1+int64(i%2), "x")) // every second one is as new as its letter
	}
	b.apply(t, changes...)
	counts, err := b.Letters.Count(t.Context(), "items")
	if want := map[replica.State]int64{replica.StateOpen: 305, replica.StateSuperseded: 295}; err != nil || cmp.Diff(want, counts) != "" {
		t.Errorf("counts %v, %v, want %v", counts, err, want)
	}
}

// TestSupersededByAnotherWriter: a letter and a newer change of its record reach MySQL at the same moment by different
// sources. Whichever is first, the letter ends superseded.
func TestSupersededByAnotherWriter(t *testing.T) {
	b := newBed(t, replica.Config{})
	other, err := b.Positions.Take(t.Context(), group, "a", 1, []replica.Claim{{Source: "freshet.items/kR3a_x/1"}})
	if err != nil {
		t.Fatal(err)
	}
	const rounds = 60
	for i := range rounds {
		change := &replica.Batch{Source: other[0].Source, Fence: other[0].Fence, Next: int64(i), Changes: []*replica.Change{b.item(t, i+1, 2, "x")}}
		poison := b.batch()
		poison.Letters = []*replica.Letter{b.letter("items", fmt.Sprint(i+1), 1)}
		var g errgroup.Group
		for _, batch := range []*replica.Batch{change, poison} {
			g.Go(func() error {
				_, err := b.Apply(t.Context(), batch)
				return err
			})
		}
		if err := g.Wait(); err != nil {
			t.Fatal(err)
		}
	}
	if counts, err := b.Letters.Count(t.Context(), "items"); err != nil || counts[replica.StateSuperseded] != rounds {
		t.Errorf("counts %v, %v, want all %d superseded", counts, err, rounds)
	}
}

func FuzzHeaders(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte{1, 'a', 0})
	f.Add([]byte{0, 1})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1})
	f.Add(replica.EncodeHeaders([]schemas.Header{{Key: "k", Value: []byte("v")}, {Key: "k"}, {Value: []byte{}}}))
	f.Fuzz(func(t *testing.T, b []byte) {
		headers, err := replica.DecodeHeaders(b)
		if err != nil {
			if !errors.Is(err, schemas.ErrInvalid) {
				t.Errorf("error %v is not ErrInvalid", err)
			}
			return
		}
		again, err := replica.DecodeHeaders(replica.EncodeHeaders(headers))
		if err != nil || len(again) != len(headers) {
			t.Fatalf("%d headers, then %d, %v", len(headers), len(again), err)
		}
		for i, h := range headers {
			if again[i].Key != h.Key || !bytes.Equal(again[i].Value, h.Value) || (h.Value == nil) != (again[i].Value == nil) {
				t.Errorf("header %d is %+v, then %+v", i, h, again[i])
			}
		}
	})
}
