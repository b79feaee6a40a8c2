package replica

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
	"github.com/freshet/freshet/schemas"
)

const (
	maxDetailBytes  = 1000
	maxEventIDBytes = 255
	letterChunk     = 50 // letters of one statement, unless their bytes are too many
	letterBytes     = 2048 + schemas.MaxKeyBytes
	openGlance      = 200 // open letters of a dataset that are looked through without asking by key
	keyChunk        = 500
)

// State is what became of a dead letter.
type State string

// The states.
const (
	StateOpen       State = "open"
	StateSuperseded State = "superseded"
	StateRedriven   State = "redriven"
	StateDiscarded  State = "discarded"
)

// letter is a Letter on its way into the table.
type letter struct {
	*Letter
	source string
	t      *table // nil if its dataset is not known here
	state  State
}

// refusedLetter is the letter of a change that the table refused.
func refusedLetter(source string, t *table, c *Change, number uint16) *letter {
	l := &Letter{
		Offset: c.Offset, Index: c.Index, Dataset: t.ds.Name, Version: c.Version, Op: schemas.Upsert,
		Reason: schemas.ReasonRefused, Errno: number, Record: c.Record, CacheKey: c.CacheKey,
		Detail: fmt.Sprintf("table %s refused the row with %s", t.ds.Replica.Table, mysql.ErrnoText(number)),
	}
	if tables.Overwrites(number) {
		l.Detail = "a unique index of table " + t.ds.Replica.Table + " finds another record's row; drop the index, then redrive"
	}
	if c.Deleted {
		l.Op = schemas.Delete
	}
	l.Key = recordKey(t, c)
	if c.Event != nil {
		l.EventID = c.Event.ID
	}
	return &letter{Letter: l, source: source, t: t}
}

// recordKey is the change's canonical key, "" if there is none.
func recordKey(t *table, c *Change) string {
	if c.Event != nil && c.Event.Key != "" {
		return c.Event.Key
	}
	key, err := t.ds.FormatKey(t.key(c)...)
	if err != nil {
		return ""
	}
	return key
}

// writeLetters is the first part of step 4 of DB.Apply: the letters, and the cache entries of their records as displaced names. A
// letter's version goes nowhere near a floor, since no load could ever reach it.
func (r *run) writeLetters(ctx context.Context) error {
	if len(r.letters) == 0 {
		return nil
	}
	for _, l := range r.letters {
		version, found, err := rowVersion(ctx, r.w, l, "")
		if err != nil {
			return err
		}
		l.state = StateOpen
		if found && l.Version > 0 && l.Version <= version {
			l.state = StateSuperseded
		} else {
			r.unsettled = append(r.unsettled, l)
		}
		if l.CacheKey != "" {
			r.displaced = append(r.displaced, Name{Offset: l.Offset, Kind: 'k', Name: l.CacheKey})
		}
	}
	return r.insertLetters(ctx)
}

// rowVersion reads the version of the letter's row, with a lock if the suffix says so.
func rowVersion(ctx context.Context, w *mysql.Conn, l *letter, lock string) (version int64, found bool, err error) {
	if l.t == nil || l.Key == "" || l.Version <= 0 {
		return 0, false, nil
	}
	key, err := l.t.ds.ParseKey(l.Key)
	if err != nil {
		return 0, false, nil //nolint:nilerr // the key is what is wrong with this letter, so it has no row
	}
	err = w.QueryRow(ctx, l.t.selectVersion+lock, key, &version)
	switch {
	case err == nil:
		return version, true, nil
	case errors.Is(err, sql.ErrNoRows):
		return 0, false, nil
	case mysql.Classify(err) == mysql.ClassDataset, mysql.Classify(err) == mysql.ClassPoison:
		return 0, false, nil // a missing table or a key that no column can hold: there is no row either
	}
	return 0, false, mysql.Wrap("read version from", l.t.name, err)
}

const (
	sqlLetterHead = "INSERT INTO freshet_dead_letter (source, `off`, idx, dataset, record_key, version, op, event_id, reason, errno," +
		" detail, size, broker_at, state, attempts, created_at, updated_at) VALUES "
	sqlLetterRow  = "(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, " + mysql.NowMillis + ", " + mysql.NowMillis + ")"
	sqlLetterTail = " ON DUPLICATE KEY UPDATE source = source" // a redelivered letter is the same letter
)

func (r *run) insertLetters(ctx context.Context) error {
	if err := r.insertRecords(ctx); err != nil {
		return err
	}
	return inChunks(r.letters, letterChunk, func(*letter) int { return letterBytes }, func(chunk []*letter) error {
		var args []any
		for _, l := range chunk {
			args = l.args(args)
		}
		return r.insertMany(ctx, "dead letters", sqlLetterHead, sqlLetterRow, sqlLetterTail, len(chunk), args)
	})
}

func (r *run) insertDisplaced(ctx context.Context) error {
	return inChunks(r.displaced, displacedChunk, func(n Name) int { return len(n.Name) }, func(chunk []Name) error {
		var args []any
		for _, n := range chunk {
			args = append(args, r.b.Source, n.Offset, []byte{n.Kind}, []byte(n.Name))
		}
		return r.insertMany(ctx, "displaced names", "INSERT INTO freshet_displaced (source, `off`, kind, name, created_at) VALUES ",
			"(?, ?, ?, ?, "+mysql.NowMillis+")", " ON DUPLICATE KEY UPDATE name = name", len(chunk), args)
	})
}

// insertMany is one statement of several rows. Its sizes are many, so it is not prepared for later.
func (r *run) insertMany(ctx context.Context, what, head, row, tail string, n int, args []any) error {
	text := head + row + strings.Repeat(", "+row, n-1) + tail
	_, err := r.w.Plain().ExecContext(ctx, text, args...)
	return mysql.Wrap("insert", what, err)
}

// inChunks calls fn with at most most items, or maxStatementBytes, at a time.
func inChunks[T any](items []T, most int, size func(T) int, fn func([]T) error) error {
	for len(items) > 0 {
		n, bytes := 0, 0
		for n < len(items) && n < most {
			bytes += size(items[n])
			if bytes > maxStatementBytes && n > 0 {
				break
			}
			n++
		}
		if err := fn(items[:n]); err != nil {
			return err
		}
		items = items[n:]
	}
	return nil
}

func (l *letter) args(args []any) []any {
	var key, version, op, eventID, errno any
	if l.Key != "" && len(l.Key) <= schemas.MaxKeyBytes {
		key = []byte(l.Key)
	}
	if l.Version > 0 {
		version = l.Version
	}
	if l.Op != 0 {
		op = int64(l.Op)
	}
	if l.EventID != "" {
		eventID = []byte(mysql.Cut(l.EventID, maxEventIDBytes))
	}
	if l.Errno != 0 {
		errno = int64(l.Errno)
	}
	var size, at int64
	if rec := l.Record; rec != nil {
		at, size = rec.Time, int64(rec.Oversize)
		if rec.Oversize == 0 {
			size = int64(len(rec.Key) + len(rec.Value))
			for _, h := range rec.Headers {
				size += int64(len(h.Key) + len(h.Value))
			}
		}
	}
	return append(args, l.source, l.Offset, int64(l.Index), []byte(l.Dataset), key, version, op, eventID, []byte(l.Reason), errno,
		[]byte(mysql.Cut(l.Detail, maxDetailBytes)), size, at, []byte(l.state))
}

// blob keeps nil, which is NULL, apart from empty.
func blob(b []byte) any {
	if b == nil {
		return nil
	}
	return b
}

// RefusedEvent returns the dead letter of an event that err makes unusable: event index of the record rec. It aliases rec.
func RefusedEvent(d *schemas.Dataset, rec *schemas.Record, index int, ev *schemas.Event, err error) *Letter {
	l := &Letter{
		Offset: rec.Offset, Index: index, Dataset: d.Name, Reason: schemas.ReasonOf(err), Detail: Detail(err), Record: rec,
		Key: ev.Key, Version: ev.Version, Op: ev.Op, EventID: ev.ID,
	}
	if d.Cache != nil {
		if key, err := d.CacheKey(l.Key); err == nil {
			l.CacheKey = key
		}
	}
	return l
}
