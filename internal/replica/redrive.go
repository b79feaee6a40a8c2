package replica

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
	"github.com/freshet/freshet/schemas/cdc"
)

// Outcome is what a redrive made of a letter.
type Outcome string

// The outcomes.
const (
	// OutcomeApplied: its event was applied (in a dry run: would be tried) under its stored version.
	OutcomeApplied Outcome = "applied"
	// OutcomeStale: its record is as new or newer; the letter is superseded.
	OutcomeStale Outcome = "stale"
	// OutcomeInvalid: the event is still no good; the letter stays open with the reason of now.
	OutcomeInvalid Outcome = "invalid"
	// OutcomeUnfit: the letter has no version, no bytes, or no declared dataset, and can never be redriven.
	OutcomeUnfit Outcome = "unfit"
	// OutcomeClosed: the letter was not open any more.
	OutcomeClosed Outcome = "closed"
)

// Redriven reports what became of one letter.
type Redriven struct {
	LetterID
	Dataset string
	Key     string
	Version int64
	Outcome Outcome
	// Reason, Errno and Detail say why an event is invalid or unfit; no values.
	Reason schemas.Reason
	Errno  uint16
	Detail string

	table  *table
	change *Change // nil: unfit or invalid
}

const (
	sqlLetterState = "SELECT state FROM freshet_dead_letter WHERE source = ? AND `off` = ? AND idx = ?"
	sqlRedriven    = "UPDATE freshet_dead_letter SET state = 'redriven', attempts = attempts + 1, updated_at = " + mysql.NowMillis +
		" WHERE source = ? AND `off` = ? AND idx = ? AND state = 'open'"
	sqlStillBad = "UPDATE freshet_dead_letter SET reason = ?, errno = ?, detail = ?, attempts = attempts + 1, updated_at = " + mysql.NowMillis +
		" WHERE source = ? AND `off` = ? AND idx = ? AND state = 'open'"
)

// errLetterMoved is returned when another process dealt with a letter during its redrive, which then begins again.
var errLetterMoved = errors.New("dead letter was dealt with meanwhile")

// Redrive applies the events of letters, each under the version that its letter keeps, by the statements and under the
// row locks of Apply, in one transaction. Nothing goes to the dataset's topic, and nothing is emitted here: the entries
// of the rows that changed are noted in the namespace's invalidation outbox in the same transaction, and returned so
// that the caller publishes and removes them (Outbox.Remove). The letters must have their content, and their datasets
// must be known by Prepare. Errors: a *DatasetError, else an infrastructure fault; then nothing was written.
func (m *DB) Redrive(ctx context.Context, namespace string, letters []StoredLetter) (done []Redriven, out []Outgoing, err error) {
	topics, err := m.topicsOf(ctx, letters)
	if err != nil {
		return nil, nil, err
	}
	err = m.redriving(ctx, "redrive dead letters", func(ctx context.Context, w *mysql.Conn) error {
		r := redrive{run: run{m: m, w: w, b: &Batch{}}, tasks: m.judge(letters, topics)}
		if err := r.do(ctx); err != nil || r.changed.Len() == 0 {
			done, out = r.tasks, nil
			return err
		}
		done = r.tasks
		out, err = addOutgoing(ctx, w, namespace, r.changed)
		return err
	})
	if err != nil {
		return nil, nil, err
	}
	return done, out, nil
}

// redriving is transact for letters, which others may deal with meanwhile. Each transaction ends within redriveLimit, which
// a rebuild relies on.
func (m *DB) redriving(ctx context.Context, what string, fn func(context.Context, *mysql.Conn) error) error {
	limited := func(ctx context.Context, w *mysql.Conn) error {
		ctx, cancel := context.WithTimeout(ctx, redriveLimit)
		defer cancel()
		return fn(ctx, w)
	}
	for {
		if err := m.pool.Transact(ctx, what, limited); !errors.Is(err, errLetterMoved) {
			return err
		}
	}
}

// Judge reports what Redrive would make of letters, and changes nothing. Whether a table takes a row only Redrive finds out.
func (m *DB) Judge(ctx context.Context, letters []StoredLetter) (done []Redriven, err error) {
	topics, err := m.topicsOf(ctx, letters)
	if err != nil {
		return nil, err
	}
	err = m.pool.Transact(ctx, "judge dead letters", func(ctx context.Context, w *mysql.Conn) error {
		r := redrive{run: run{m: m, w: w, b: &Batch{}}, tasks: m.judge(letters, topics), dry: true, seen: map[string]int64{}}
		done = r.tasks
		return r.do(ctx)
	})
	return done, err
}

// judge looks at the letters alone: whatever passes is set to OutcomeApplied, with its change.
func (m *DB) judge(letters []StoredLetter, topics map[string]Topic) []Redriven {
	tasks := make([]Redriven, len(letters))
	rd := letterReader{topics: topics}
	for i := range letters {
		l := &letters[i]
		t := &tasks[i]
		*t = Redriven{LetterID: l.ID(), Dataset: l.Dataset, Key: l.Key, Version: l.Version, table: m.tables.named(l.Dataset)}
		if l.State != StateOpen {
			t.Outcome = OutcomeClosed
			continue
		}
		t.judge(l, &rd)
	}
	return tasks
}

func (t *Redriven) judge(l *StoredLetter, rd *letterReader) {
	unfit := func(detail string) { t.Outcome, t.Reason, t.Detail = OutcomeUnfit, l.Reason, detail }
	switch {
	case t.table == nil:
		unfit("its dataset is not declared here")
		return
	case l.Version <= 0:
		unfit("it keeps no version")
		return
	case l.Record == nil || l.Record.Headers == nil && l.Record.Value == nil && l.Record.Key == nil:
		unfit("it keeps no bytes")
		return
	}
	c, err := rd.change(t.table.ds, l)
	if err != nil {
		t.Outcome, t.Reason, t.Detail = OutcomeInvalid, schemas.ReasonOf(err), Detail(err)
		return
	}
	t.Outcome, t.Key, t.change = OutcomeApplied, c.Event.Key, c
}

// Detail is what a letter says about err: field and problem, no values.
func Detail(err error) string {
	var fe *schemas.FieldError
	if errors.As(err, &fe) {
		return fe.Error()
	}
	return "the record cannot be read as an event"
}

// topicsOf returns, by dataset, what is remembered of the topics of letters that a capture tool wrote: over several
// partitions some of their records have no order, and a redrive must refuse them as the worker did.
func (m *DB) topicsOf(ctx context.Context, letters []StoredLetter) (map[string]Topic, error) {
	topics := map[string]Topic{}
	for i := range letters {
		t := m.tables.named(letters[i].Dataset)
		if t == nil || t.ds.Format == schemas.FormatCloudEvents {
			continue
		}
		if _, known := topics[t.ds.Name]; known {
			continue
		}
		topic, _, err := m.Topics.Get(ctx, t.ds.Topic)
		if err != nil {
			return nil, err
		}
		topics[t.ds.Name] = topic
	}
	return topics, nil
}

// letterReader reads letters' events once more. One record may have many, so the last one is remembered.
type letterReader struct {
	topics map[string]Topic // by dataset
	ds     *schemas.Dataset
	record *schemas.Record
	res    cdc.Result
	err    error
}

// change reads a letter's event. Its version is the stored one, whatever the record would give today.
func (d *letterReader) change(ds *schemas.Dataset, l *StoredLetter) (*Change, error) {
	if d.record != l.Record || d.ds != ds {
		d.ds, d.record = ds, l.Record
		topic := d.topics[ds.Name]
		d.res, d.err = cdc.New(cdc.Config{Dataset: ds, Epoch: topic.Epoch, Partitions: topic.Partitions}).Decode(*l.Record)
	}
	res := d.res
	if d.err != nil {
		return nil, &schemas.FieldError{Field: "record", Problem: "cannot be told by events", Reason: schemas.ReasonMalformed}
	}
	at := slices.IndexFunc(res.Rows, func(r cdc.Row) bool { return r.Index == l.Index })
	if at < 0 {
		return nil, &schemas.FieldError{Field: "record", Problem: "has fewer events than when the dead letter was written", Reason: schemas.ReasonMalformed}
	}
	ev := &res.Rows[at].Event
	if err := res.Rows[at].Err; err != nil {
		return nil, err
	}
	ev.Version = l.Version
	row, err := ds.Check(ev)
	if err != nil {
		return nil, err
	}
	return NewChange(ds, l.Record, l.Index, ev, row)
}

// redrive is one try at the transaction of some letters.
type redrive struct {
	run
	tasks []Redriven
	// changed are what the rows that changed made stale.
	changed schemas.Invalidation
	// dry looks and writes nothing. known holds the versions that earlier transactions would have written, seen those
	// that this one would write, by table and key.
	dry         bool
	known, seen map[string]int64
}

// do goes through the letters in the order of their tables and keys, like Apply, and of one record the newest first.
func (r *redrive) do(ctx context.Context) error {
	order := make([]*Redriven, 0, len(r.tasks))
	var changes []*Change
	for i := range r.tasks {
		order = append(order, &r.tasks[i])
		if c := r.tasks[i].change; c != nil {
			changes = append(changes, c)
		}
	}
	slices.SortStableFunc(order, func(a, b *Redriven) int {
		switch {
		case a.change == nil && b.change == nil:
			return 0
		case a.change == nil:
			return 1
		case b.change == nil:
			return -1
		case a.table != b.table:
			return cmp.Compare(a.table.name, b.table.name)
		}
		return cmp.Or(a.table.compareKeys(a.change, b.change), cmp.Compare(b.Version, a.Version))
	})
	r.parts = r.m.split(changes)
	if err := r.checkHashes(ctx); err != nil {
		return err
	}
	for _, t := range order {
		if err := r.one(ctx, t); err != nil {
			return err
		}
	}
	return nil
}

func (r *redrive) one(ctx context.Context, t *Redriven) error {
	if t.Outcome == OutcomeUnfit || t.Outcome == OutcomeClosed {
		return nil
	}
	id := []any{[]byte(t.Source), t.Offset, int64(t.Index)}
	var state string
	err := r.w.QueryRow(ctx, sqlLetterState, id, &state)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return mysql.Wrap("read state of dead letter", "", err)
	}
	if State(state) != StateOpen {
		t.Outcome = OutcomeClosed
		return nil
	}
	switch {
	case r.dry && t.change != nil:
		return r.foresee(ctx, t)
	case r.dry:
		return nil
	case t.change != nil:
		if err := r.apply(ctx, t); err != nil {
			return err
		}
	}
	return r.mark(ctx, t, id)
}

// foresee compares the letter's version with the one that the record would have by then.
func (r *redrive) foresee(ctx context.Context, t *Redriven) error {
	var version int64
	err := r.w.QueryRow(ctx, t.table.selectVersion, t.table.key(t.change), &version)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return mysql.Wrap("read version from", t.table.name, err)
	}
	record := t.table.name + "\x00" + t.Key
	if max(version, r.known[record], r.seen[record]) >= t.Version {
		t.Outcome = OutcomeStale
		return nil
	}
	r.seen[record] = t.Version
	return nil
}

// apply sends the letter's change under its row's lock.
func (r *redrive) apply(ctx context.Context, t *Redriven) error {
	old, err := r.lockOld(ctx, t.table, []*Change{t.change})
	if err != nil {
		return err
	}
	version, found, err := r.lockVersion(ctx, t)
	if err != nil {
		return err
	}
	if found && version >= t.Version {
		t.Outcome = OutcomeStale
		return nil
	}
	r.b.Source, r.letters, r.displaced = t.Source, nil, nil
	var took []*Change
	if err := r.send(ctx, t.table, []*Change{t.change}, &took); err != nil {
		return err
	}
	if len(took) == 0 {
		l := r.letters[0]
		t.Outcome, t.Reason, t.Errno, t.Detail = OutcomeInvalid, l.Reason, l.Errno, l.Detail
		return nil
	}
	if !found {
		// A row that is not there cannot be locked: another writer may have made it in between.
		if version, _, err = r.lockVersion(ctx, t); err != nil {
			return err
		}
		if version > t.Version {
			t.Outcome = OutcomeStale
			return nil
		}
	}
	r.displace(took, old, t.table)
	r.makeStale(t.change)
	return nil
}

// makeStale notes all names of a change that was applied, and those that it displaced.
func (r *redrive) makeStale(c *Change) {
	v := &r.changed
	if c.CacheKey != "" {
		v.Names = append(v.Names, c.CacheKey)
	}
	v.Names = append(v.Names, c.Names.Derived...)
	v.Tags = append(v.Tags, c.Names.Tags...)
	v.Foreign = append(v.Foreign, c.Names.Foreign...)
	for _, n := range r.displaced {
		switch n.Kind {
		case 'k':
			v.Names = append(v.Names, n.Name)
		case 't':
			v.Tags = append(v.Tags, n.Name)
		case 'f':
			v.Foreign = append(v.Foreign, n.Name)
		}
	}
}

func (r *redrive) lockVersion(ctx context.Context, t *Redriven) (version int64, found bool, err error) {
	err = r.w.QueryRow(ctx, t.table.selectVersion+" FOR UPDATE", t.table.key(t.change), &version)
	if errors.Is(err, sql.ErrNoRows) {
		return 0, false, nil
	}
	return version, err == nil, mysql.Wrap("lock row of", t.table.name, err)
}

func (r *redrive) mark(ctx context.Context, t *Redriven, id []any) error {
	text, args := sqlRedriven, id
	switch t.Outcome {
	case OutcomeStale:
		text = sqlMark
	case OutcomeInvalid:
		var errno any
		if t.Errno != 0 {
			errno = int64(t.Errno)
		}
		text, args = sqlStillBad, append([]any{[]byte(t.Reason), errno, []byte(mysql.Cut(t.Detail, maxDetailBytes))}, id...)
	case OutcomeApplied, OutcomeUnfit, OutcomeClosed, OutcomePublished:
	}
	n, err := r.w.Exec(ctx, text, args...)
	if err != nil {
		return mysql.Wrap("mark dead letter", "", err)
	}
	if n == 0 {
		return fmt.Errorf("mark dead letter: %w", errLetterMoved)
	}
	return nil
}
