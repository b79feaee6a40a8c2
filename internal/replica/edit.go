package replica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// OutcomePublished: the letter's corrected event was published (in a dry run: would be) in its place.
const OutcomePublished Outcome = "published"

// ErrLetterClosed is returned by Letters.Edit when the letter is not open, or not any more.
var ErrLetterClosed = errors.New("dead letter is not open")

// Correction is what is said again of a letter's event.
type Correction struct {
	// Data is the record's corrected state; it may be nil for a letter of a delete.
	Data []byte
	// Key and Version are for a letter that keeps none. For others they are empty, or what the letter keeps: a
	// correction is about the same record and the same change of it.
	Key     string
	Version int64
}

// Correct makes the event that replaces the letter's: the same record, operation and version, other data, no id yet.
// Whether the dataset takes it is the producer's to say. Errors wrap schemas.ErrInvalid.
func (l *StoredLetter) Correct(ds *schemas.Dataset, c Correction) (schemas.Event, error) {
	ev := schemas.Event{Dataset: l.Dataset, Key: l.Key, Op: l.Op, Version: l.Version, Data: c.Data, Replaces: l.EventID}
	if _, err := ds.ParseKey(ev.Key); err != nil {
		ev.Key = "" // the key is what is wrong with this letter
	}
	refuse := func(field, problem, fix string, reason schemas.Reason) (schemas.Event, error) {
		return schemas.Event{}, &schemas.FieldError{Field: field, Problem: problem, Fix: fix, Reason: reason}
	}
	switch {
	case ev.Key == "" && c.Key == "":
		return refuse("key", "is not known, since the dead letter keeps none that could be", "give the record's key", schemas.ReasonKey)
	case ev.Key != "" && c.Key != "" && c.Key != ev.Key:
		return refuse("key", "is not the dead letter's", "leave it out; publish an event for another record", schemas.ReasonKey)
	case ev.Version <= 0 && c.Version <= 0:
		return refuse("version", "is not known, since the dead letter keeps none", "give the version of this change of the record", schemas.ReasonVersion)
	case ev.Version > 0 && c.Version != 0 && c.Version != ev.Version:
		return refuse("version", "is not the dead letter's", "leave it out; a later change is an event of its own", schemas.ReasonVersion)
	}
	if ev.Key == "" {
		ev.Key = c.Key
	}
	if ev.Version <= 0 {
		ev.Version = c.Version
	}
	if ev.Op == 0 {
		ev.Op = schemas.Upsert
	}
	if ev.Replaces == "" { // a record that could not be read has a place, if no id
		ev.Replaces = l.ID().String()
	}
	return ev, nil
}

const (
	sqlEdited = "UPDATE freshet_dead_letter SET state = 'redriven', successor = ?, attempts = attempts + 1, updated_at = " + mysql.NowMillis +
		" WHERE source = ? AND `off` = ? AND idx = ? AND state = 'open'"
	sqlOvertaken = "UPDATE freshet_dead_letter SET state = 'superseded', updated_at = " + mysql.NowMillis +
		" WHERE source = ? AND `off` = ? AND idx = ? AND state = 'open'"
)

// errEditPublish ends the transaction of an edit whose event was not published.
var errEditPublish = errors.New("publish corrected event")

// Edit publishes ev, an event with an id that Correct made of the letter, in the letter's place: the letter becomes
// redriven with ev's id as its successor. If the record's row is as new or newer, nothing is published and the letter
// becomes superseded. publish is called once at most, with the letter's row locked, so that of two edits only one goes
// out; it must be bounded, since a worker that settles the same letter waits for it. When it fails the letter stays open
// and its error is returned. The letter's dataset must be known by Prepare.
//
// An error together with OutcomePublished reports that the event is published and the letter could not be marked: a worker
// will supersede it.
func (l *Letters) Edit(ctx context.Context, id LetterID, ev *schemas.Event, publish func(context.Context) error) (out Outcome, err error) {
	t := l.tables.named(ev.Dataset)
	if t == nil {
		return "", fmt.Errorf("edit dead letter: dataset %s is not prepared", ev.Dataset)
	}
	var refused error
	err = l.pool.Try(ctx, func(ctx context.Context, w *mysql.Conn) error {
		args := []any{id.Source, id.Offset, int64(id.Index)}
		var state []byte
		err := w.QueryRow(ctx, sqlLetterState+" FOR UPDATE", args, &state)
		switch {
		case errors.Is(err, sql.ErrNoRows) || err == nil && State(state) != StateOpen:
			return ErrLetterClosed
		case err != nil:
			return mysql.Wrap("read state of dead letter", "", err)
		}
		version, found, err := rowVersion(ctx, w, &letter{Letter: &Letter{Key: ev.Key, Version: ev.Version}, t: t}, "")
		if err != nil {
			return err
		}
		text := sqlOvertaken
		if !found || version < ev.Version {
			if refused = publish(ctx); refused != nil {
				return errEditPublish
			}
			out = OutcomePublished
			// The client that asked may be gone: what is published is noted all the same.
			ctx = context.WithoutCancel(ctx)
			text, args = sqlEdited, append([]any{[]byte(mysql.Cut(ev.ID, maxEventIDBytes))}, args...)
		}
		if _, err := w.Exec(ctx, text, args...); err != nil {
			return mysql.Wrap("mark dead letter", "", err)
		}
		if out == "" {
			out = OutcomeStale
		}
		return nil
	})
	if refused != nil {
		return "", refused
	}
	return out, err
}

// JudgeEdit returns what Edit would do, and changes nothing.
func (l *Letters) JudgeEdit(ctx context.Context, of *StoredLetter, ev *schemas.Event) (Outcome, error) {
	t := l.tables.named(ev.Dataset)
	if t == nil {
		return "", fmt.Errorf("judge edit of dead letter: dataset %s is not prepared", ev.Dataset)
	}
	if of.State != StateOpen {
		return OutcomeClosed, nil
	}
	key, err := t.ds.ParseKey(ev.Key)
	if err != nil {
		return "", err
	}
	var version int64
	err = l.pool.DB().QueryRowContext(ctx, t.selectVersion, key...).Scan(&version)
	switch {
	case errors.Is(err, sql.ErrNoRows):
	case err != nil:
		return "", mysql.Wrap("read version from", t.name, err)
	case version >= ev.Version:
		return OutcomeStale, nil
	}
	return OutcomePublished, nil
}
