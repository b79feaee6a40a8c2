package backfill

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/internal/retry"
	"github.com/freshet/freshet/schemas"
)

// event is a row of the outbox.
type event struct {
	key     string
	op      schemas.Op
	data    []byte
	version int64 // 0: the outbox assigns it
}

const (
	sqlEnqueue = "INSERT INTO freshet_outbox (dataset, record_key, op, data, version) VALUES "
	// maxInsert bounds the text of one INSERT in bytes, well below the smallest usual max_allowed_packet.
	maxInsert = 2 << 20
	// A prepared statement takes at most 65,535 parameters.
	maxInsertRows = 2000
)

// patiently runs a transaction until it succeeds, ends with an error that a repetition cannot fix, or ctx ends: a
// database that fails over is waited for. Before the first success, errors of the account or the tables end the run.
func (l *Loader) patiently(ctx context.Context, what string, fn func(context.Context, *mysql.Conn) error) error {
	return l.again(ctx, what, func(ctx context.Context) error {
		return l.cfg.Source.Transact(ctx, what, fn) //nolint:wrapcheck // again states what was done
	})
}

// again repeats what a failover, a lock or a deadlock ended.
func (l *Loader) again(ctx context.Context, what string, fn func(context.Context) error) error {
	err := retry.Do(ctx, retry.Policy{Notify: func(err error, wait time.Duration) {
		l.log.WarnContext(ctx, "backfill tries again", "step", what, "wait_seconds", wait, "error", err)
	}}, func(ctx context.Context) error {
		err := fn(ctx)
		if err == nil {
			l.reached = true
			return nil
		}
		_, server := mysql.Errno(err)
		switch mysql.Classify(err) {
		case mysql.ClassConflict, mysql.ClassConnection:
			return err
		case mysql.ClassInfrastructure:
			if server && l.reached {
				return err
			}
		case mysql.ClassPoison, mysql.ClassDataset, mysql.ClassUnknown:
		}
		return retry.Permanent(err)
	})
	if err != nil {
		return fmt.Errorf("backfill %s: %w", l.cfg.Dataset.Name, err)
	}
	return nil
}

// chunk enqueues the next rows and moves the cursor in one transaction.
func (l *Loader) chunk(ctx context.Context) error {
	began := time.Now()
	var was, s state
	err := l.patiently(ctx, "enqueue rows", func(ctx context.Context, c *mysql.Conn) (err error) {
		began = time.Now()
		if was, err = l.current(ctx, c); err != nil || was.phase != phaseRows {
			s = was
			return err
		}
		if s, err = l.loadChunk(ctx, c, was); err != nil {
			return err
		}
		return l.saveState(ctx, c, s)
	})
	if err != nil {
		return err
	}
	n := s.loaded + s.invalid - was.loaded - was.invalid
	l.loaded += n
	l.pace.took(int(n), time.Since(began))
	l.note(s)
	return nil
}

// loadChunk locks and enqueues the rows behind the cursor of s and returns the state after them.
func (l *Loader) loadChunk(ctx context.Context, c *mysql.Conn, s state) (state, error) {
	after, err := readCursor(s.after)
	if err != nil {
		return s, err
	}
	text, args := l.source.chunkSQL(after)
	var events []event
	var last []any
	limit, seen := l.pace.rows, 0
	err = l.source.each(ctx, c, text, append(args, int64(limit)), func(raw []any) error {
		seen++
		key, err := l.source.keyValues(l.cfg.Dataset, raw)
		if err != nil {
			return fmt.Errorf("%w: table %s: %w; correct the dataset's key", ErrInvalidRow, l.source.label, err)
		}
		last = l.source.cursor(key)
		ev, err := l.source.event(l.cfg.Dataset, raw, key)
		if err == nil {
			events = append(events, ev)
			return nil
		}
		if !l.cfg.SkipInvalid {
			return fmt.Errorf("%w: table %s: %w; correct the row or the schema and run the command again, or pass --skip-invalid", ErrInvalidRow, l.source.label, err)
		}
		s.invalid++
		l.log.WarnContext(ctx, "row skipped: the schema refuses it", "error", err)
		return nil
	})
	if err != nil {
		return s, err
	}
	first, err := enqueue(ctx, c, l.cfg.Dataset.Name, events)
	if err != nil {
		return s, err
	}
	if err := l.checkVersions(ctx, events, first); err != nil {
		return s, err
	}
	s.loaded += int64(len(events))
	if seen < limit {
		s.phase, last = phaseDeletions, nil
		if l.cfg.Replica == nil || l.cfg.KeepMissing {
			s.phase = phaseDone
		}
	}
	s.after, err = writeCursor(last)
	return s, err
}

// checkVersions refuses rows whose events would lose against the replica. The rows are locked: what is published of them
// has a smaller id than first, so a version that is not smaller came from elsewhere.
func (l *Loader) checkVersions(ctx context.Context, events []event, first int64) error {
	if l.cfg.Replica == nil || len(events) == 0 || l.cfg.Dataset.Version.Kind != schemas.VersionEvent {
		return nil
	}
	keys := make([]string, len(events))
	for i, ev := range events {
		keys[i] = ev.key
	}
	versions, err := l.cfg.Replica.Versions(ctx, l.cfg.Dataset, keys)
	if err != nil {
		return fmt.Errorf("read versions of the replica: %w", err)
	}
	for _, key := range keys {
		if v := versions[key]; v >= first {
			return fmt.Errorf("%w: record %s has version %d there, and the outbox assigns %d; run freshet outbox advance --apply --above V with the table's greatest _version as V, then the backfill again",
				ErrVersions, key, v, first)
		}
	}
	return nil
}

// enqueue inserts events into the outbox by the statement that services use, and returns the id of the first one.
func enqueue(ctx context.Context, c *mysql.Conn, dataset string, events []event) (first int64, err error) {
	for len(events) > 0 {
		n, size := 0, 0
		for n < len(events) && n < maxInsertRows && (n == 0 || size+len(events[n].data) < maxInsert) {
			size += len(events[n].data)
			n++
		}
		args := make([]any, 0, 5*n)
		for _, ev := range events[:n] {
			var data, version any
			if ev.data != nil {
				data = string(ev.data)
			}
			if ev.version != 0 {
				version = ev.version
			}
			args = append(args, dataset, ev.key, ev.op.String(), data, version)
		}
		res, err := c.Plain().ExecContext(ctx, sqlEnqueue+"(?, ?, ?, ?, ?)"+strings.Repeat(", (?, ?, ?, ?, ?)", n-1), args...)
		if err != nil {
			return 0, err
		}
		id, err := res.LastInsertId()
		if err != nil {
			return 0, err
		}
		first = cmp.Or(first, id)
		events = events[n:]
	}
	return first, nil
}
