package replica_test

import (
	"testing"
	"time"

	"github.com/freshet/freshet/internal/replica"
)

// The dead letters of one record store it once, read it back whole, and it goes with the last of them.
func TestRecordOfManyLettersIsStoredOnce(t *testing.T) {
	b := newBed(t, replica.Config{})
	first := b.letter("items", "1", 1)
	letters := []*replica.Letter{first}
	for i := 1; i < 120; i++ { // more than one statement takes
		l := *first
		l.Index = i
		letters = append(letters, &l)
	}
	alone := b.letter("items", "2", 1)
	b.applyLetters(t, append(letters, alone)...)
	if n := one[int](t, b.db, "SELECT COUNT(*) FROM freshet_dead_record"); n != 2 {
		t.Errorf("%d records are stored, want 2", n)
	}
	stored, err := b.Letters.List(t.Context(), replica.LetterQuery{Content: true, Limit: 200})
	if err != nil || len(stored) != 121 {
		t.Fatalf("%d letters, %v", len(stored), err)
	}
	for _, l := range stored {
		if string(l.Record.Value) != "{\x00}" || len(l.Record.Headers) != 3 || string(l.Record.Key) != "\x00\xff" {
			t.Fatalf("letter %d of offset %d has the record %+v", l.Index, l.Offset, l.Record)
		}
	}
	if stored[0].Record != stored[119].Record {
		t.Error("the record is held once for each letter")
	}
	expire := func(where string) int {
		t.Helper()
		b.exec(t, "UPDATE freshet_dead_letter SET state = 'discarded', updated_at = 1 WHERE "+where)
		if err := b.NewExpirer(replica.Retention{DeadLetters: time.Hour}).Pass(t.Context()); err != nil {
			t.Fatal(err)
		}
		return one[int](t, b.db, "SELECT COUNT(*) FROM freshet_dead_record")
	}
	if n := expire("idx > 0"); n != 2 {
		t.Errorf("%d records are left while a letter of each is open, want 2", n)
	}
	if n := expire("record_key = '1'"); n != 1 {
		t.Errorf("%d records are left after the last letter of one, want 1", n)
	}
	if left := b.letters(t); len(left) != 1 || string(left[0].Record.Value) != "{\x00}" {
		t.Errorf("%d letters are left", len(left))
	}
}

// Dead letters of releases that stored the record with each of them are read as before.
func TestLettersOfOldReleases(t *testing.T) {
	b := newBed(t, replica.Config{})
	l := b.letter("items", "1", 1)
	b.applyLetters(t, l)
	b.exec(t, "UPDATE freshet_dead_letter l JOIN freshet_dead_record r ON r.source = l.source AND r.off = l.off SET l.data = r.data, l.headers = r.headers, l.kafka_key = r.kafka_key")
	b.exec(t, "DELETE FROM freshet_dead_record")
	if got := b.letters(t); len(got) != 1 || string(got[0].Record.Value) != "{\x00}" || len(got[0].Record.Headers) != 3 {
		t.Errorf("letters %+v", got)
	}
}
