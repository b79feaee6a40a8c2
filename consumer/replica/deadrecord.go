package replica

import (
	"context"
	"database/sql"
	"errors"
	"strings"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// The record of dead letters is stored once in freshet_dead_record, however many of its events are dead letters. Letters of
// releases without that table have the record's bytes in their own row.

const (
	recordChunk = 100

	sqlRecordHead = "INSERT INTO freshet_dead_record (source, `off`, kafka_key, headers, data) VALUES "
	sqlRecordHold = "SELECT 1 FROM freshet_dead_record WHERE source = ? AND `off` = ? FOR UPDATE"
	sqlRecordUsed = "SELECT 1 FROM freshet_dead_letter WHERE source = ? AND `off` = ? LIMIT 1 LOCK IN SHARE MODE"
	sqlRecordGone = "DELETE FROM freshet_dead_record WHERE source = ? AND `off` = ?"
	sqlLetterGone = "DELETE FROM freshet_dead_letter WHERE source = ? AND `off` = ? AND idx = ?"
)

// insertRecords stores the records of letters.
func (r *run) insertRecords(ctx context.Context) error {
	type place struct {
		source string
		off    int64
	}
	seen := map[place]bool{}
	var records []*letter
	for _, l := range r.letters {
		at := place{l.source, l.Offset}
		if l.Record == nil || l.Record.Oversize != 0 || seen[at] {
			continue
		}
		seen[at] = true
		records = append(records, l)
	}
	return inChunks(records, letterChunk, recordBytes, func(chunk []*letter) error {
		args := make([]any, 0, 5*len(chunk))
		for _, l := range chunk {
			args = append(args, l.source, l.Offset, blob(l.Record.Key), EncodeHeaders(l.Record.Headers), blob(l.Record.Value))
		}
		return r.insertMany(ctx, "records of dead letters", sqlRecordHead, "(?, ?, ?, ?, ?)", " ON DUPLICATE KEY UPDATE source = source", len(chunk), args)
	})
}

func recordBytes(l *letter) int {
	n := 1024 + len(l.Record.Key) + len(l.Record.Value)
	for _, h := range l.Record.Headers {
		n += len(h.Key) + len(h.Value) + headerOverhead
	}
	return n
}

// fillRecords reads the records of letters whose own rows have none.
func (m *MySQL) fillRecords(ctx context.Context, letters []StoredLetter) error {
	first := map[LetterID]int{} // of each record, by its place
	var places []LetterID
	for i := range letters {
		l := &letters[i]
		at := LetterID{Source: l.Source, Offset: l.Offset}
		if j, ok := first[at]; ok {
			l.Record = letters[j].Record // a record of many events need not be held for each
			continue
		}
		first[at] = i
		if l.Record.Key == nil && l.Record.Value == nil && l.Record.Headers == nil {
			places = append(places, at)
		}
	}
	return inChunks(places, recordChunk, func(LetterID) int { return 0 }, func(chunk []LetterID) error {
		return m.readRecords(ctx, chunk, func(at LetterID) *schemas.Record { return letters[first[at]].Record })
	})
}

func (m *MySQL) readRecords(ctx context.Context, places []LetterID, of func(LetterID) *schemas.Record) error {
	const one = "(source = ? AND `off` = ?)"
	args := make([]any, 0, 2*len(places))
	for _, at := range places {
		args = append(args, []byte(at.Source), at.Offset)
	}
	rows, err := m.db.QueryContext(ctx, "SELECT source, `off`, kafka_key, headers, data FROM freshet_dead_record WHERE "+one+strings.Repeat(" OR "+one, len(places)-1), args...) //nolint:gosec // constants
	if err != nil {
		return mysql.Wrap("read records of dead letters", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err reports what is wrong
	for rows.Next() {
		var at LetterID
		var key, headers, data []byte
		if err := rows.Scan(&at.Source, &at.Offset, &key, &headers, &data); err != nil {
			return mysql.Wrap("read records of dead letters", "", err)
		}
		rec := of(at)
		rec.Key, rec.Value = key, data
		if headers == nil {
			continue
		}
		if rec.Headers, err = DecodeHeaders(headers); err != nil {
			return mysql.Wrap("read records of dead letters", "", err)
		}
	}
	return mysql.Wrap("read records of dead letters", "", rows.Err())
}

// removeLetter removes a letter, and its record if no other letter needs it. The record is locked first, since a batch that
// writes another letter of it has it locked as well.
func removeLetter(ctx context.Context, w *mysql.Conn, source []byte, off, idx int64) error {
	const what = "remove old dead letters"
	var one int64
	held := w.QueryRow(ctx, sqlRecordHold, []any{source, off}, &one)
	if held != nil && !errors.Is(held, sql.ErrNoRows) {
		return mysql.Wrap(what, "", held)
	}
	if _, err := w.Exec(ctx, sqlLetterGone, source, off, idx); err != nil || held != nil {
		return mysql.Wrap(what, "", err)
	}
	used := w.QueryRow(ctx, sqlRecordUsed, []any{source, off}, &one)
	if !errors.Is(used, sql.ErrNoRows) {
		return mysql.Wrap(what, "", used)
	}
	_, err := w.Exec(ctx, sqlRecordGone, source, off)
	return mysql.Wrap(what, "", err)
}
