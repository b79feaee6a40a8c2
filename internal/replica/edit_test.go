package replica_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/freshet/freshet/internal/replica"
	"github.com/freshet/freshet/schemas"
)

// edit edits the letter at off with data.
func (b *bed) edit(t *testing.T, off int64, id string, publish func(context.Context) error) (replica.Outcome, error) {
	t.Helper()
	l := b.stateOf(t, off)
	ds, _ := b.set.Get("items")
	ev, err := l.Correct(ds, replica.Correction{Data: []byte(`{"id":1,"name":"good"}`)})
	if err != nil {
		t.Fatal(err)
	}
	ev.ID = id
	return b.Letters.Edit(t.Context(), l.ID(), &ev, publish)
}

func TestEditPublishesOnceAndLosesNothing(t *testing.T) {
	b := newBed(t, replica.Config{})
	b.apply(t, b.item(t, 2, 9, "nine"))
	bad, overtaken := b.stored(t, 1, 4, `{"id":1,"name":4}`), b.stored(t, 2, 8, `{"id":2,"name":8}`)
	b.applyLetters(t, bad, overtaken)
	b.exec(t, "UPDATE freshet_dead_letter SET state = 'open'")

	away := errors.New("kafka is away")
	if out, err := b.edit(t, bad.Offset, "e1", func(context.Context) error { return away }); out != "" || !errors.Is(err, away) {
		t.Fatalf("publish failed: %q, %v", out, err)
	}
	if l := b.stateOf(t, bad.Offset); l.State != replica.StateOpen || l.Successor != "" || l.Attempts != 0 {
		t.Fatalf("after a failed publish the letter is %s, successor %q, attempts %d", l.State, l.Successor, l.Attempts)
	}
	out, err := b.edit(t, overtaken.Offset, "e2", func(context.Context) error { t.Error("a stale event was published"); return nil })
	if l := b.stateOf(t, overtaken.Offset); err != nil || out != replica.OutcomeStale || l.State != replica.StateSuperseded || l.Successor != "" {
		t.Errorf("stale: %q, %v, letter %s", out, err, l.State)
	}

	// Of several edits at once one goes out.
	var published atomic.Int64
	var outcomes [4]replica.Outcome
	var g errgroup.Group
	for i := range outcomes {
		g.Go(func() error {
			var err error
			outcomes[i], err = b.edit(t, bad.Offset, "e3", func(context.Context) error { published.Add(1); return nil })
			if errors.Is(err, replica.ErrLetterClosed) {
				return nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
	if l := b.stateOf(t, bad.Offset); published.Load() != 1 || l.State != replica.StateRedriven || l.Successor != "e3" || l.Attempts != 1 {
		t.Errorf("published %d times, outcomes %v, letter %s by %q", published.Load(), outcomes, l.State, l.Successor)
	}
}

// A caller who goes away while the event is published loses neither the event nor the note of it.
func TestEditIsNotedThoughTheCallerIsGone(t *testing.T) {
	b := newBed(t, replica.Config{})
	bad := b.stored(t, 1, 4, `{"id":1,"name":4}`)
	b.applyLetters(t, bad)
	l := b.stateOf(t, bad.Offset)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, err := b.Letters.Edit(ctx, l.ID(), &schemas.Event{ID: "e", Dataset: "items", Key: "1", Version: 4}, func(context.Context) error { cancel(); return nil })
	if out != replica.OutcomePublished {
		t.Fatalf("got %q, %v", out, err)
	}
	if l := b.stateOf(t, bad.Offset); err == nil && l.State != replica.StateRedriven || err != nil && l.State != replica.StateOpen {
		t.Errorf("error %v, but the letter is %s", err, l.State)
	}
}

func TestCorrect(t *testing.T) {
	ds := dataset(t, "items")
	whole := replica.Letter{Dataset: "items", Key: "1", Version: 5, Op: schemas.Upsert, EventID: "old"}
	bare := replica.Letter{Dataset: "items", Offset: 7, Index: 1}
	for name, tc := range map[string]struct {
		letter replica.Letter
		c      replica.Correction
		field  string // of the error
		key    string
		ver    int64
		of     string
	}{
		"as it is":        {letter: whole, key: "1", ver: 5, of: "old"},
		"said again":      {letter: whole, c: replica.Correction{Key: "1", Version: 5}, key: "1", ver: 5, of: "old"},
		"other key":       {letter: whole, c: replica.Correction{Key: "2"}, field: "key"},
		"other version":   {letter: whole, c: replica.Correction{Version: 6}, field: "version"},
		"no key":          {letter: bare, c: replica.Correction{Version: 6}, field: "key"},
		"no version":      {letter: bare, c: replica.Correction{Key: "2"}, field: "version"},
		"both given":      {letter: bare, c: replica.Correction{Key: "2", Version: 3}, key: "2", ver: 3, of: "s@7.1"},
		"impossible key":  {letter: replica.Letter{Dataset: "items", Key: "x", Version: 5, EventID: "old"}, field: "key"},
		"replaceable key": {letter: replica.Letter{Dataset: "items", Key: "x", Version: 5, EventID: "old"}, c: replica.Correction{Key: "2"}, key: "2", ver: 5, of: "old"},
	} {
		t.Run(name, func(t *testing.T) {
			l := replica.StoredLetter{Letter: tc.letter, Source: "s"}
			ev, err := l.Correct(ds, tc.c)
			var fe *schemas.FieldError
			if errors.As(err, &fe) != (tc.field != "") || fe != nil && fe.Field != tc.field {
				t.Fatalf("error %v, want one of field %q", err, tc.field)
			}
			if ev.Key != tc.key || ev.Version != tc.ver || ev.Replaces != tc.of || err == nil && ev.Op != schemas.Upsert {
				t.Errorf("got %+v", ev)
			}
		})
	}
}
