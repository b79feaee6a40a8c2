package replica

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/jobstore"
	"github.com/freshet/freshet/schemas"
)

// DefaultLetters is the number of letters that Letters.List returns when nothing else is asked for.
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

// RedriveQuery returns the choice of a redrive.
func RedriveQuery(s *jobstore.Spec) LetterQuery {
	q := LetterQuery{Dataset: s.Dataset, Keys: s.Keys, Prefix: s.Prefix, Reason: s.LetterReason, Errno: s.Errno}
	switch s.Op {
	case schemas.Upsert.String():
		q.Op = schemas.Upsert
	case schemas.Delete.String():
		q.Op = schemas.Delete
	}
	return q
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

// Letters reads and closes dead letters. It is safe for concurrent use.
type Letters struct {
	pool   *mysql.Pool
	tables *registry
}

// List reads dead letters, ordered by source, offset and index.
func (l *Letters) List(ctx context.Context, q LetterQuery) (letters []StoredLetter, err error) {
	text, args := q.sql()
	err = mysql.Each(ctx, l.pool.DB(), "read dead letters", text, args, func(scan func(...any) error) error {
		l, err := scanLetter(scan, q.Content)
		letters = append(letters, l)
		return err
	})
	if err != nil || !q.Content {
		return letters, err
	}
	return letters, l.fillRecords(ctx, letters)
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

// where returns the condition of q.
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
		add(true, "record_key IN (?"+strings.Repeat(", ?", n-1)+")", mysql.Args(q.Keys)...)
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
	add(q.Detail != "", "detail = ?", []byte(mysql.Cut(q.Detail, maxDetailBytes)))
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

func scanLetter(scan func(...any) error, content bool) (StoredLetter, error) {
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
	if err := scan(dest...); err != nil {
		return l, err
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
	return l, err
}

// ID identifies the letter.
func (l *StoredLetter) ID() LetterID {
	return LetterID{Source: l.Source, Offset: l.Offset, Index: l.Index}
}

// Discard gives up the open letters that q chooses, and returns their number; q.State and After have no meaning here.
func (l *Letters) Discard(ctx context.Context, q LetterQuery) (int64, error) {
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
		err := l.pool.Transact(ctx, "discard dead letters", func(ctx context.Context, w *mysql.Conn) error {
			var err error
			n, err = w.ExecOnce(ctx, text, append(args[:len(args):len(args)], chunk)...)
			return mysql.Wrap("discard dead letters", "", err)
		})
		all += n
		if err != nil || n < keyChunk || all == int64(q.Limit) {
			return all, err
		}
	}
}

// CountOpen counts the open letters that q chooses; q.State, After and Limit have no meaning here.
func (l *Letters) CountOpen(ctx context.Context, q LetterQuery) (n int64, err error) {
	q.State, q.After = StateOpen, nil
	where, args := q.where()
	err = l.pool.DB().QueryRowContext(ctx, "SELECT COUNT(*) FROM freshet_dead_letter WHERE "+where, args...).Scan(&n)
	return n, mysql.Wrap("count dead letters", "", err)
}

// Parts returns the parts of a replay that redrives the open letters which q chooses: one for each source that has
// some; q.State, After and Limit have no meaning here.
func (l *Letters) Parts(ctx context.Context, q LetterQuery) ([]jobstore.Part, error) {
	q.State, q.After = StateOpen, nil
	where, args := q.where()
	text := "SELECT source, MIN(`off`), MAX(`off`) + 1 FROM freshet_dead_letter WHERE " + where + " GROUP BY source ORDER BY source"
	return mysql.Collect(ctx, l.pool.DB(), "look for dead letters", text, args, func(p *jobstore.Part) []any { return []any{&p.Source, &p.From, &p.End} })
}

// Count counts a dataset's dead letters by state; dataset "" counts all.
func (l *Letters) Count(ctx context.Context, dataset string) (counts map[State]int64, err error) {
	text, args := "SELECT state, COUNT(*) FROM freshet_dead_letter", []any(nil)
	if dataset != "" {
		text += " WHERE dataset = ?"
		args = append(args, []byte(dataset))
	}
	counts = map[State]int64{}
	return counts, mysql.Each(ctx, l.pool.DB(), "count dead letters", text+" GROUP BY state", args, func(scan func(...any) error) error {
		var state State
		var n int64
		err := scan(&state, &n)
		counts[state] = n
		return err
	})
}

// Supersede marks the open letters of a dataset whose record has an event that is as new or newer.
func (l *Letters) Supersede(ctx context.Context, ds *schemas.Dataset) (int64, error) {
	q := LetterQuery{Dataset: ds.Name, State: StateOpen, Limit: redrivenChunk}
	for all := int64(0); ; {
		letters, err := l.List(ctx, q)
		if err != nil || len(letters) == 0 {
			return all, err
		}
		open := make([]*letter, 0, len(letters))
		for i := range letters {
			open = append(open, &letter{Letter: &letters[i].Letter, source: letters[i].Source, t: l.tables.of(ds)})
		}
		n, err := settleLetters(ctx, l.pool, open)
		if err != nil {
			return all, err
		}
		all += n
		last := letters[len(letters)-1].ID()
		q.After = &last
	}
}

// fillRecords reads the records of letters whose own rows have none.
func (l *Letters) fillRecords(ctx context.Context, letters []StoredLetter) error {
	first := map[LetterID]int{} // of each record, by its place
	var places []LetterID
	for i := range letters {
		one := &letters[i]
		at := LetterID{Source: one.Source, Offset: one.Offset}
		if j, ok := first[at]; ok {
			one.Record = letters[j].Record // a record of many events need not be held for each
			continue
		}
		first[at] = i
		if one.Record.Key == nil && one.Record.Value == nil && one.Record.Headers == nil {
			places = append(places, at)
		}
	}
	return inChunks(places, recordChunk, func(LetterID) int { return 0 }, func(chunk []LetterID) error {
		return l.readRecords(ctx, chunk, func(at LetterID) *schemas.Record { return letters[first[at]].Record })
	})
}

func (l *Letters) readRecords(ctx context.Context, places []LetterID, of func(LetterID) *schemas.Record) error {
	const one = "(source = ? AND `off` = ?)"
	args := make([]any, 0, 2*len(places))
	for _, at := range places {
		args = append(args, []byte(at.Source), at.Offset)
	}
	text := "SELECT source, `off`, kafka_key, headers, data FROM freshet_dead_record WHERE " + one + strings.Repeat(" OR "+one, len(places)-1)
	return mysql.Each(ctx, l.pool.DB(), "read records of dead letters", text, args, func(scan func(...any) error) error {
		var at LetterID
		var key, headers, data []byte
		if err := scan(&at.Source, &at.Offset, &key, &headers, &data); err != nil {
			return err
		}
		rec := of(at)
		rec.Key, rec.Value = key, data
		if headers == nil {
			return nil
		}
		var err error
		rec.Headers, err = DecodeHeaders(headers)
		return err
	})
}
