package replica

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

// DefaultLetters is the number of letters that Letters gives when nothing else is asked for.
const DefaultLetters = 100

// LetterID identifies a dead letter.
type LetterID struct {
	Source string
	Offset int64
	Index  int
}

// String writes the id as source@offset.index.
func (id LetterID) String() string { return fmt.Sprintf("%s@%d.%d", id.Source, id.Offset, id.Index) }

// ParseLetterID reads what LetterID.String wrote.
func ParseLetterID(s string) (LetterID, bool) {
	at := strings.LastIndexByte(s, '@')
	if at <= 0 || at > schemas.MaxSourceBytes {
		return LetterID{}, false
	}
	off, idx, ok := strings.Cut(s[at+1:], ".")
	offset, err1 := strconv.ParseInt(off, 10, 64)
	index, err2 := strconv.Atoi(idx)
	if !ok || err1 != nil || err2 != nil || offset < 0 || offset == 1<<63-1 || index < 0 {
		return LetterID{}, false
	}
	return LetterID{Source: s[:at], Offset: offset, Index: index}, true
}

// LetterQuery chooses dead letters that meet every one of its conditions. The zero value chooses the first DefaultLetters
// of all.
type LetterQuery struct {
	// Dataset, State, Reason and Source narrow the choice; empty means any.
	Dataset string
	State   State
	Reason  schemas.Reason
	Source  string
	// Topic, and Partition if it is not nil, take the sources of a topic whatever its id was; "" means any.
	Topic     string
	Partition *int32
	// Keys are the only records that are wanted, Prefix is how their keys begin; empty means any.
	Keys   []string
	Prefix string
	// Op leaves out letters of other operations, and those that tell none; 0 means any.
	Op schemas.Op
	// IDs are the only letters that are wanted; empty means any.
	IDs []LetterID
	// Errno narrows the choice to refusals with that error number; 0 means any.
	Errno uint16
	// Detail narrows the choice to letters that say exactly this; "" means any.
	Detail string
	// From is the first offset, Until the first that is not wanted any more; 0 means no bound.
	From, Until int64
	// Since leaves out letters that were written before, by the database's clock; zero means no bound.
	Since time.Time
	// Changed leaves out letters whose state was last changed before, by the database's clock; zero means no bound.
	Changed time.Time
	// After is the last letter of the page before; nil begins at the first.
	After *LetterID
	// Limit is the greatest number of letters; 0 means DefaultLetters, or all to Discard.
	Limit int
	// Content asks for the record's bytes too.
	Content bool
}

// StoredLetter is a dead letter as the table keeps it.
type StoredLetter struct {
	Letter
	Source string
	State  State
	// Attempts counts redrives.
	Attempts int
	// Successor is the id of the corrected event that was published in the letter's place; "" if none was.
	Successor string
	// Size is the record's size in bytes, also of a record that was too large to keep.
	Size int64
	// Created and Updated are by the database's clock.
	Created, Updated time.Time
}

// Letters reads dead letters, ordered by source, offset and index.
func (m *MySQL) Letters(ctx context.Context, q LetterQuery) (letters []StoredLetter, err error) {
	text, args := q.sql()
	rows, err := m.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, mysql.Wrap("read dead letters", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		l, err := scanLetter(rows, q.Content)
		if err != nil {
			return nil, err
		}
		letters = append(letters, l)
	}
	if err := rows.Err(); err != nil || !q.Content {
		return letters, mysql.Wrap("read dead letters", "", err)
	}
	return letters, m.fillRecords(ctx, letters)
}

func (q LetterQuery) sql() (string, []any) {
	var b strings.Builder
	b.WriteString("SELECT source, `off`, idx, dataset, record_key, version, op, event_id, reason, errno, detail, size, broker_at, state, attempts, successor, created_at, updated_at")
	if q.Content {
		b.WriteString(", kafka_key, headers, data")
	}
	where, args := q.where()
	b.WriteString(" FROM freshet_dead_letter WHERE " + where + " ORDER BY source, `off`, idx LIMIT ?")
	return b.String(), append(args, int64(cmp.Or(q.Limit, DefaultLetters)))
}

// where gives the condition that q stands for.
func (q LetterQuery) where() (string, []any) {
	conditions, args := []string{"1 = 1"}, []any(nil)
	add := func(wanted bool, text string, values ...any) {
		if wanted {
			conditions, args = append(conditions, text), append(args, values...)
		}
	}
	add(q.Dataset != "", "dataset = ?", []byte(q.Dataset))
	add(q.State != "", "state = ?", []byte(q.State))
	add(q.Reason != "", "reason = ?", []byte(q.Reason))
	add(q.Source != "", "source = ?", []byte(q.Source))
	add(q.Topic != "", "source > ? AND source < ?", []byte(q.Topic+"/"), []byte(q.Topic+"0")) // 0 comes after /
	if q.Partition != nil {
		add(true, "SUBSTRING_INDEX(source, '/', -1) = ?", []byte(strconv.Itoa(int(*q.Partition))))
	}
	if n := len(q.Keys); n > 0 {
		add(true, "record_key IN (?"+strings.Repeat(", ?", n-1)+")", asArgs(q.Keys)...)
	}
	add(q.Prefix != "", "SUBSTRING(record_key, 1, ?) = ?", len(q.Prefix), []byte(q.Prefix))
	add(q.Op != 0, "op = ?", int64(q.Op))
	if n := len(q.IDs); n > 0 {
		const one = "(source = ? AND `off` = ? AND idx = ?)"
		var ids []any
		for _, id := range q.IDs {
			ids = append(ids, []byte(id.Source), id.Offset, int64(id.Index))
		}
		add(true, "("+one+strings.Repeat(" OR "+one, n-1)+")", ids...)
	}
	add(q.Errno != 0, "errno = ?", int64(q.Errno))
	add(q.Detail != "", "detail = ?", []byte(cut(q.Detail, maxDetailBytes)))
	add(q.From > 0, "`off` >= ?", q.From)
	add(q.Until > 0, "`off` < ?", q.Until)
	add(!q.Since.IsZero(), "created_at >= ?", q.Since.UnixMilli())
	add(!q.Changed.IsZero(), "updated_at >= ?", q.Changed.UnixMilli())
	if a := q.After; a != nil {
		add(true, "(source > ? OR (source = ? AND (`off` > ? OR (`off` = ? AND idx > ?))))",
			[]byte(a.Source), []byte(a.Source), a.Offset, a.Offset, int64(a.Index))
	}
	return strings.Join(conditions, " AND "), args
}

func asArgs(names []string) []any {
	args := make([]any, len(names))
	for i, n := range names {
		args[i] = []byte(n)
	}
	return args
}

// scanner is a *sql.Rows.
type scanner interface{ Scan(dest ...any) error }

func scanLetter(rows scanner, content bool) (StoredLetter, error) {
	var l StoredLetter
	var key, eventID, successor, kafkaKey, headers, data []byte
	var version, op, errno *int64
	var reason, state string
	var at, created, updated int64
	dest := []any{
		&l.Source, &l.Offset, &l.Index, &l.Dataset, &key, &version, &op, &eventID, &reason, &errno, &l.Detail,
		&l.Size, &at, &state, &l.Attempts, &successor, &created, &updated,
	}
	if content {
		dest = append(dest, &kafkaKey, &headers, &data)
	}
	if err := rows.Scan(dest...); err != nil {
		return l, mysql.Wrap("read dead letters", "", err)
	}
	l.Key, l.EventID, l.Successor = string(key), string(eventID), string(successor)
	l.Reason, l.State = schemas.Reason(reason), State(state)
	l.Created, l.Updated = time.UnixMilli(created).UTC(), time.UnixMilli(updated).UTC()
	if version != nil {
		l.Version = *version
	}
	if op != nil {
		l.Op = schemas.Op(*op) // what was written from an Op
	}
	if errno != nil {
		l.Errno = uint16(*errno) // what was written from a uint16
	}
	l.Record = &schemas.Record{Key: kafkaKey, Value: data, Time: schemas.ClampTime(at), Offset: l.Offset}
	if !content || headers == nil {
		return l, nil
	}
	var err error
	l.Record.Headers, err = DecodeHeaders(headers)
	return l, mysql.Wrap("read dead letters", "", err)
}

// ID identifies the letter.
func (l *StoredLetter) ID() LetterID {
	return LetterID{Source: l.Source, Offset: l.Offset, Index: l.Index}
}

// Discard gives up the open letters that q chooses, and gives their number; q.State and After have no meaning here.
func (m *MySQL) Discard(ctx context.Context, q LetterQuery) (int64, error) {
	q.State, q.After = StateOpen, nil
	where, args := q.where()
	text := "UPDATE freshet_dead_letter SET state = 'discarded', updated_at = " + mysql.NowMillis + " WHERE " + where +
		" ORDER BY source, `off`, idx LIMIT ?"
	for all := int64(0); ; {
		var n int64
		chunk := int64(keyChunk)
		if q.Limit > 0 {
			chunk = min(chunk, int64(q.Limit)-all)
		}
		err := m.pool.Transact(ctx, "discard dead letters", func(ctx context.Context, w *mysql.Conn) error {
			res, err := w.Plain().ExecContext(ctx, text, append(args[:len(args):len(args)], chunk)...)
			if err == nil {
				n, err = res.RowsAffected()
			}
			return mysql.Wrap("discard dead letters", "", err)
		})
		all += n
		if err != nil || n < keyChunk || all == int64(q.Limit) {
			return all, err
		}
	}
}

// CountOpen counts the open letters that q chooses; q.State, After and Limit have no meaning here.
func (m *MySQL) CountOpen(ctx context.Context, q LetterQuery) (n int64, err error) {
	q.State, q.After = StateOpen, nil
	where, args := q.where()
	err = m.db.QueryRowContext(ctx, "SELECT COUNT(*) FROM freshet_dead_letter WHERE "+where, args...).Scan(&n)
	return n, mysql.Wrap("count dead letters", "", err)
}

// LetterParts gives the parts of a replay that redrives the open letters which q chooses: one for each source that has
// some; q.State, After and Limit have no meaning here.
func (m *MySQL) LetterParts(ctx context.Context, q LetterQuery) (parts []JobPart, err error) {
	q.State, q.After = StateOpen, nil
	where, args := q.where()
	text := "SELECT source, MIN(`off`), MAX(`off`) + 1 FROM freshet_dead_letter WHERE " + where + " GROUP BY source ORDER BY source" //nolint:gosec // the conditions are constants
	rows, err := m.db.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, mysql.Wrap("look for dead letters", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	for rows.Next() {
		var source []byte
		var p JobPart
		if err = rows.Scan(&source, &p.From, &p.End); err != nil {
			return nil, mysql.Wrap("look for dead letters", "", err)
		}
		p.Source = string(source)
		parts = append(parts, p)
	}
	return parts, mysql.Wrap("look for dead letters", "", rows.Err())
}

// CountLetters counts a dataset's dead letters by state; dataset "" counts all.
func (m *MySQL) CountLetters(ctx context.Context, dataset string) (counts map[State]int64, err error) {
	text, args := "SELECT state, COUNT(*) FROM freshet_dead_letter", []any(nil)
	if dataset != "" {
		text += " WHERE dataset = ?"
		args = append(args, []byte(dataset))
	}
	rows, err := m.db.QueryContext(ctx, text+" GROUP BY state", args...)
	if err != nil {
		return nil, mysql.Wrap("count dead letters", "", err)
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	counts = map[State]int64{}
	for rows.Next() {
		var state string
		var n int64
		if err = rows.Scan(&state, &n); err != nil {
			return nil, mysql.Wrap("count dead letters", "", err)
		}
		counts[State(state)] = n
	}
	return counts, mysql.Wrap("count dead letters", "", rows.Err())
}
