package replica

import (
	"context"
	"database/sql"
	"encoding/binary"
	"errors"
	"fmt"

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

// removeLetter removes a letter, and its record if no other letter needs it. The record is locked first, since a batch that
// writes another letter of it has it locked as well.
func removeLetter(ctx context.Context, w *mysql.Conn, id LetterID) error {
	const what = "remove old dead letters"
	source, off := []byte(id.Source), id.Offset
	var one int64
	held := w.QueryRow(ctx, sqlRecordHold, []any{source, off}, &one)
	if held != nil && !errors.Is(held, sql.ErrNoRows) {
		return mysql.Wrap(what, "", held)
	}
	if _, err := w.Exec(ctx, sqlLetterGone, source, off, int64(id.Index)); err != nil || held != nil {
		return mysql.Wrap(what, "", err)
	}
	used := w.QueryRow(ctx, sqlRecordUsed, []any{source, off}, &one)
	if !errors.Is(used, sql.ErrNoRows) {
		return mysql.Wrap(what, "", used)
	}
	_, err := w.Exec(ctx, sqlRecordGone, source, off)
	return mysql.Wrap(what, "", err)
}

// headerOverhead bounds the bytes that a header needs beside its key and value.
const headerOverhead = 2 * binary.MaxVarintLen64

// EncodeHeaders writes a record's headers for the letters' table, exactly and in order:
//
//	header:  uvarint length of key | key | uvarint 0: no value
//	                                     | uvarint length of value + 1 | value
func EncodeHeaders(headers []schemas.Header) []byte {
	b := []byte{}
	for _, h := range headers {
		b = binary.AppendUvarint(b, uint64(len(h.Key)))
		b = append(b, h.Key...)
		if h.Value == nil {
			b = binary.AppendUvarint(b, 0)
			continue
		}
		b = binary.AppendUvarint(b, uint64(len(h.Value))+1)
		b = append(b, h.Value...)
	}
	return b
}

// DecodeHeaders reads what EncodeHeaders wrote. Values are slices of b.
func DecodeHeaders(b []byte) ([]schemas.Header, error) {
	var headers []schemas.Header
	for len(b) > 0 {
		key, rest, err := headerPart(b, 0)
		if err != nil {
			return nil, err
		}
		value, rest, err := headerPart(rest, 1)
		if err != nil {
			return nil, err
		}
		headers = append(headers, schemas.Header{Key: string(key), Value: value})
		b = rest
	}
	return headers, nil
}

// headerPart reads a length and as many bytes; the length was written plus bias, and 0 with a bias means nil.
func headerPart(b []byte, bias uint64) (part, rest []byte, err error) {
	n, used := binary.Uvarint(b)
	if used <= 0 {
		return nil, nil, fmt.Errorf("decode headers: bad length: %w", schemas.ErrInvalid)
	}
	b = b[used:]
	if n < bias {
		return nil, b, nil
	}
	n -= bias
	if n > uint64(len(b)) {
		return nil, nil, fmt.Errorf("decode headers: cut short: %w", schemas.ErrInvalid)
	}
	return b[:n:n], b[n:], nil
}
