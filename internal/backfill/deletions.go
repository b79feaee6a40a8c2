package backfill

import (
	"context"
	"errors"
	"fmt"

	"github.com/freshet/freshet/internal/mysql"
	"github.com/freshet/freshet/schemas"
)

const (
	replicaPage = 500
	// maxDeletions bounds the gaps that one transaction locks.
	maxDeletions = 20
)

// deletions walks through the replica and enqueues the deletion of each record that the source does not have.
func (l *Loader) deletions(ctx context.Context) error {
	if l.cfg.Replica == nil || l.cfg.KeepMissing {
		return l.finish(ctx, nil)
	}
	after, err := l.deletionCursor(ctx)
	if err != nil {
		return err
	}
	for {
		if err := l.wait(ctx); err != nil {
			return err
		}
		rows, last, err := l.cfg.Replica.Page(ctx, l.cfg.Dataset, after, replicaPage)
		if err != nil {
			return fmt.Errorf("backfill %s: read replica: %w", l.cfg.Dataset.Name, err)
		}
		var keys []string
		for _, r := range rows {
			if !r.Deleted && r.Key != "" {
				keys = append(keys, r.Key)
			}
		}
		missing, err := l.missing(ctx, l.cfg.Source.DB(), keys, "")
		if err != nil {
			return fmt.Errorf("backfill %s: %w", l.cfg.Dataset.Name, err)
		}
		for len(missing) > 0 {
			n := min(len(missing), maxDeletions)
			if err := l.delete(ctx, missing[:n]); err != nil {
				return err
			}
			missing = missing[n:]
		}
		if last == nil {
			return l.finish(ctx, nil)
		}
		after = last
		if err := l.finish(ctx, after); err != nil {
			return err
		}
		l.report(false)
	}
}

// deletionCursor returns how far an earlier process came.
func (l *Loader) deletionCursor(ctx context.Context) (after []any, err error) {
	err = l.patiently(ctx, "read cursor", func(ctx context.Context, c *mysql.Conn) error {
		s, err := l.lockState(ctx, c)
		if err != nil {
			return err
		}
		after, err = readCursor(s.after)
		return err
	})
	return after, err
}

// finish moves the cursor of the replica; nil ends the run.
func (l *Loader) finish(ctx context.Context, after []any) error {
	return l.patiently(ctx, "move cursor", func(ctx context.Context, c *mysql.Conn) error {
		s, err := l.lockState(ctx, c)
		if err != nil {
			return err
		}
		if s.after, err = writeCursor(after); err != nil {
			return err
		}
		if after == nil {
			s.phase = phaseDone
		}
		l.note(s)
		return l.saveState(ctx, c, s)
	})
}

// missing returns those keys of which the source has no row. It compares the text of keys: a collation that ignores case
// would find the row of another record.
func (l *Loader) missing(ctx context.Context, q mysql.Querier, keys []string, lock string) ([]string, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	d := l.cfg.Dataset
	var args []any
	for _, k := range keys {
		values, err := d.ParseKey(k)
		if err != nil {
			return nil, err //nolint:wrapcheck // it states the key's problem
		}
		args = append(args, values...)
	}
	present := make(map[string]bool, len(keys))
	err := l.source.eachKey(ctx, q, l.source.keysSQL(len(keys))+lock, args, d, func(key string) { present[key] = true })
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, k := range keys {
		if !present[k] {
			missing = append(missing, k)
		}
	}
	return missing, nil
}

// delete enqueues deletions of records that are still missing when their places in the index are locked. The isolation
// level is what makes the server lock the gap of a row that is not there.
func (l *Loader) delete(ctx context.Context, keys []string) error {
	return l.patientlyRepeatable(ctx, "enqueue deletions", func(ctx context.Context, c *mysql.Conn) error {
		s, err := l.lockState(ctx, c)
		if err != nil {
			return err
		}
		var events []event
		for _, key := range keys { // one by one: the server may read a list by a scan, and lock what it reads
			gone, err := l.missing(ctx, c, []string{key}, " FOR UPDATE")
			if err != nil {
				return err
			}
			for _, k := range gone {
				events = append(events, event{key: k, op: schemas.Delete})
			}
		}
		if _, err := enqueue(ctx, c, l.cfg.Dataset.Name, events); err != nil {
			return err
		}
		s.deletion += int64(len(events))
		l.note(s)
		return l.saveState(ctx, c, s)
	})
}

// patientlyRepeatable is patiently at the isolation level that locks gaps.
func (l *Loader) patientlyRepeatable(ctx context.Context, what string, fn func(context.Context, *mysql.Conn) error) error {
	return l.again(ctx, what, func(ctx context.Context) error {
		return l.cfg.Source.Use(ctx, func(ctx context.Context, c *mysql.Conn) error { //nolint:wrapcheck // again states what was done
			if _, err := c.ExecOnce(ctx, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"); err != nil {
				return err
			}
			if err := c.Begin(ctx); err != nil {
				return err
			}
			err := fn(ctx, c)
			if err == nil {
				return c.Commit(ctx)
			}
			return errors.Join(err, c.Rollback(ctx))
		})
	})
}
