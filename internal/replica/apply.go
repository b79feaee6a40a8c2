package replica

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/replica/tables"
)

const (

	// GREATEST, and no upper bound on next_offset: redelivered batches lie below it and must pass. A position below the
	// batch must not move, or what lies between would never be read again.
	sqlMove     = "UPDATE freshet_position SET next_offset = GREATEST(next_offset, ?), touched_at = " + mysql.NowMillis + " WHERE source = ? AND fence = ? AND next_offset >= ?"
	sqlPosition = "SELECT next_offset FROM freshet_position WHERE source = ? AND fence = ? FOR UPDATE"
	sqlNote     = "INSERT INTO freshet_position_history (source, `off`, committed_at) VALUES (?, ?, " + mysql.NowMillis + ") ON DUPLICATE KEY UPDATE source = source"
)

// errUndone is returned when the server has ended a transaction without an error, errUnmoved when it found no position to
// move where there was one. Either way the transaction is begun again.
var (
	errUndone  = fmt.Errorf("the server ended the transaction without an error: %w", mysql.ErrConflict)
	errUnmoved = fmt.Errorf("the position changed while it was being moved: %w", mysql.ErrConflict)
)

// tableRows are a batch's changes of one dataset, in key order.
type tableRows struct {
	t    *table
	rows []*Change
}

// run is one try at one batch's transaction.
type run struct {
	m     *DB
	w     *mysql.Conn
	b     *Batch
	parts []tableRows
	// wide are the tables with noted columns that the dataset does not have, which are cleared.
	wide map[*table]*table
	// applied are the changes that the tables took, letters the batch's and those of refused changes.
	applied []tableRows
	letters []*letter
	// displaced are the names that this batch takes away from rows.
	displaced []Name
	refused   int
	unknown   int // Result.Unknown
	// doubts are rows that a table without rows refused with doubtful, a number that says nothing.
	doubts   []*Change
	doubtful uint16
	noted    bool
	// unsettled are the letters that were open at the end: another writer may have overtaken their record unseen.
	unsettled []*letter
	// superseded counts the letters that this batch overtook.
	superseded int64
	// judges: changes that lose the guard are compared with their rows, and counted in lost.
	judges bool
	lost   Lost
	behind []string
	repeats
}

// Apply writes one batch in one transaction:
//
//	BEGIN
//	0  the cache hash and the schema of each dataset are locked and compared, so that a change of them waits for running batches
//	1  the position moves if the fence is still ours and the position has reached the batch; the row stays locked, so a
//	   new owner's Take waits for this batch
//	2  where names depend on more than the key, the rows are locked and what they were is read
//	3  guarded upserts, tables in a fixed order, rows in key order; rows that the table refuses become letters. Where a
//	   repetition is expected, the rows are locked and read first, and changes that they have are not sent
//	4  dead letters; the names that letters and changes make stale; letters that a newer change overtook
//	COMMIT
//
// Everything in it is idempotent. It begins again by itself a few times when other transactions are in the way; every
// other error but ErrFenced and a *DatasetError is for the caller to wait out.
func (m *DB) Apply(ctx context.Context, b *Batch) (Result, error) {
	parts := m.split(b.Changes)
	var r *run
	undone := 0
	err := m.pool.Transact(ctx, "apply batch", func(ctx context.Context, w *mysql.Conn) error {
		r = &run{m: m, w: w, b: b, parts: parts, judges: true, repeats: repeats{expected: m.expectsRepeats(b)}}
		err := r.do(ctx)
		if errors.Is(err, errUndone) {
			undone++
		}
		return err
	})
	if err != nil {
		return Result{}, err
	}
	if r.noted {
		m.mu.Lock()
		m.noted[b.Source] = time.Now()
		m.mu.Unlock()
	}
	m.expect(b, &r.repeats)
	overtaken, err := settleLetters(ctx, m.pool, r.unsettled)
	if err != nil {
		return Result{}, err
	}
	m.stats.batches.Add(1)
	m.stats.rows.Add(int64(len(b.Changes)))
	m.stats.refused.Add(int64(r.refused))
	m.stats.letters.Add(int64(len(r.letters)))
	m.stats.superseded.Add(r.superseded + overtaken)
	res := Result{Rows: len(b.Changes), Refused: r.refused, Lost: r.lost, Behind: r.behind, Unknown: r.unknown, Undone: undone}
	for _, l := range r.letters {
		res.Dead = append(res.Dead, l.Letter)
	}
	return res, nil
}

// split groups changes by table, in the tables' order, and sorts each group by key.
func (m *DB) split(changes []*Change) []tableRows {
	by := map[*table][]*Change{}
	for _, c := range changes {
		t := m.tables.of(c.Dataset)
		by[t] = append(by[t], c)
	}
	parts := make([]tableRows, 0, len(by))
	for t, rows := range by {
		t.sortRows(rows)
		parts = append(parts, tableRows{t, rows})
	}
	slices.SortFunc(parts, func(a, b tableRows) int { return cmp.Compare(a.t.name, b.t.name) })
	return parts
}

func (r *run) do(ctx context.Context) error {
	if err := r.checkHashes(ctx); err != nil {
		return err
	}
	if err := r.move(ctx); err != nil {
		return err
	}
	for _, l := range r.b.Letters {
		r.letters = append(r.letters, &letter{Letter: l, source: r.b.Source, t: r.m.tables.named(l.Dataset)})
	}
	for _, p := range r.parts {
		old, err := r.lockOld(ctx, p.t, p.rows)
		if err != nil {
			return err
		}
		done := tableRows{t: p.t, rows: make([]*Change, 0, len(p.rows))}
		if err := r.send(ctx, p.t, p.rows, &done.rows); err != nil {
			return err
		}
		r.displace(done.rows, old, p.t)
		r.applied = append(r.applied, done)
	}
	if err := r.writeLetters(ctx); err != nil {
		return err
	}
	if err := r.insertDisplaced(ctx); err != nil {
		return err
	}
	if err := r.supersede(ctx); err != nil {
		return err
	}
	if err := r.holds(ctx); err != nil {
		return err
	}
	if r.m.cfg.BeforeCommit != nil {
		r.m.cfg.BeforeCommit()
	}
	return nil
}

// move is step 1 of DB.Apply.
func (r *run) move(ctx context.Context) error {
	if r.m.historyDue(r.b.Source) {
		if err := r.note(ctx); err != nil {
			return err
		}
	}
	found, err := r.w.Exec(ctx, sqlMove, r.b.Next, r.b.Source, r.b.Fence, r.b.From)
	if err != nil {
		return mysql.Wrap("move position", "", err)
	}
	if found == 1 {
		return nil
	}
	var next int64
	err = r.w.QueryRow(ctx, sqlPosition, []any{r.b.Source, r.b.Fence}, &next)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return ErrFenced
	case err != nil:
		return mysql.Wrap("read position", "", err)
	case next < r.b.From:
		return ErrBehind
	case next < r.b.Next:
		// The row is locked and has what the statement asked for, so it must have been changed between the two.
		return errUnmoved
	}
	return nil // a connection without clientFoundRows counts changed rows only, and a repeated batch may change nothing
}

// holds verifies that the transaction is still the one that move changed the position in. Had the server, or a proxy in
// front of it, ended it without an error, every later statement would have committed by itself and the position would not
// be moved: the commit would acknowledge a batch that the database does not have.
func (r *run) holds(ctx context.Context) error {
	var next int64
	if err := r.w.QueryRow(ctx, sqlPosition, []any{r.b.Source, r.b.Fence}, &next); err != nil {
		return mysql.Wrap("read position", "", err)
	}
	if next < r.b.Next {
		r.m.log.WarnContext(ctx, "the transaction of a batch ended on the server without an error; the batch is written again",
			"component", "replica", "source", r.b.Source, "offset", r.b.Next, "previous_offset", next)
		return errUndone
	}
	return nil
}

func (m *DB) historyDue(source string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	at, ok := m.noted[source]
	return !ok || time.Since(at) >= m.cfg.HistoryEvery
}

// note writes a line of history: every offset from off on is committed to MySQL later than this moment.
func (r *run) note(ctx context.Context) error {
	var off int64
	err := r.w.QueryRow(ctx, sqlPosition, []any{r.b.Source, r.b.Fence}, &off)
	if errors.Is(err, sql.ErrNoRows) {
		return ErrFenced
	}
	if err != nil {
		return mysql.Wrap("read position", "", err)
	}
	if _, err = r.w.Exec(ctx, sqlNote, r.b.Source, off); err != nil {
		return mysql.Wrap("note position", "", err)
	}
	r.noted = true
	return nil
}

// send upserts rows, appends to done the changes that the table took, and notes the deletions among them.
func (r *run) send(ctx context.Context, t *table, rows []*Change, done *[]*Change) error {
	if err := r.m.tables.fit(ctx, t); err != nil {
		return err
	}
	before := len(*done)
	rows, held, err := r.divide(ctx, t, rows)
	if err != nil {
		return err
	}
	if err := r.put(ctx, t, rows, done); err != nil {
		return err
	}
	if err := r.settle(ctx, t, done); err != nil {
		return err
	}
	*done = append(*done, held...) // not before: a row that was not sent proves nothing of what the table takes
	return r.bury(ctx, t, (*done)[before:])
}

func (r *run) put(ctx context.Context, t *table, rows []*Change, done *[]*Change) error {
	into := t
	if wide, ok := r.wide[t]; ok {
		into = wide
	}
	for len(rows) > 0 {
		n := into.chunk(rows)
		chunk := rows[:n]
		rows = rows[n:]
		args := r.w.Room(n * (len(into.ds.Replica.Columns) + tables.OwnColumns))
		for _, c := range chunk {
			args = into.args(args, c)
		}
		lost, err := r.upsert(ctx, into, n, args)
		if err == nil && lost && r.judges {
			r.beaten += n
			if err = r.judgeLost(ctx, t, chunk); err != nil {
				return err
			}
		}
		switch {
		case err == nil:
			*done = append(*done, chunk...)
			continue
		case mysql.Classify(err) == mysql.ClassDataset:
			number, _ := mysql.Errno(err)
			t.differs.Store(nil) // perhaps a column was dropped that is to be cleared: the next attempt looks at the table
			return &tables.DatasetError{
				Dataset: t.ds.Name, Errno: number,
				Problem: "the server refuses the statement on its table with " + mysql.ErrnoText(number),
				Fix:     "run freshet migrate datasets, or with --dry-run to see what differs",
			}
		case mysql.Classify(err) == mysql.ClassUnknown:
			err = r.doubt(ctx, t, into, chunk, err, done)
		case mysql.Classify(err) != mysql.ClassPoison:
			return mysql.Wrap("upsert into", t.name, err)
		case n == 1:
			err = r.refuse(ctx, t, chunk[0], err, done)
		default:
			// The failed statement undid itself only, so the transaction continues with its halves.
			r.m.stats.bisects.Add(1)
			if err = r.put(ctx, t, chunk[:n/2], done); err == nil {
				err = r.put(ctx, t, chunk[n/2:], done)
			}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// upsert reports whether a row was found to be as new as its change, or newer.
func (r *run) upsert(ctx context.Context, t *table, n int, args []any) (lost bool, err error) {
	r.m.stats.statements.Add(1)
	res, err := r.w.ExecSized(ctx, mysql.StatementID{Of: t, Rows: n, Kind: upserts}, t.upsertSQL, args...)
	if err != nil {
		return false, err
	}
	id, err := res.LastInsertId()
	return id == 1, err
}

// refuse makes a letter of a change that the table does not take, and applies the record's next older change instead: a
// bad event must not hide a good one.
func (r *run) refuse(ctx context.Context, t *table, c *Change, err error, done *[]*Change) error {
	number, _ := mysql.Errno(err)
	r.refused++
	r.letters = append(r.letters, refusedLetter(r.b.Source, t, c, number))
	r.m.log.WarnContext(ctx, "table refused a row", "component", "replica",
		"dataset", t.ds.Name, "source", r.b.Source, "offset", c.Offset, "errno", number)
	for c = c.Older; c != nil; c = c.Older {
		err := c.Check(make([]any, len(c.Dataset.Replica.Columns)))
		if err == nil {
			r.unknown += c.Unknown
			return r.put(ctx, t, []*Change{c}, done)
		}
		r.letters = append(r.letters, &letter{Letter: RefusedEvent(c.Dataset, c.Record, c.Index, c.Event, err), source: r.b.Source, t: t})
	}
	return nil
}

// String describes the batch without its content.
func (b *Batch) String() string {
	return fmt.Sprintf("batch of %s before %d: %d changes, %d letters", b.Source, b.Next, len(b.Changes), len(b.Letters))
}
